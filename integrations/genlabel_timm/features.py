"""Features of a timm model: what its classifier sees, from the training forward or from a pass of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins.loops import FeatureTap

try:
    from timm.utils.model import unwrap_model
except ModuleNotFoundError as error:
    if error.name != "timm":
        raise
    raise ModuleNotFoundError("genlabel_timm needs timm: pip install 'genlabel-plugins[timm]'") from error


class ModelFeatures:
    """The input of a model's classifier, `(B, D)`.

    Hooks sit on the model itself, below any wrapper of `torch.compile` or DistributedDataParallel: attach before
    the first compiled step. A model with two heads (distilled DeiT and PiT, LeViT, EfficientFormer, SwiftFormer)
    gives the mean of their inputs, one with a head per branch (CrossViT) their concatenation.

    Args:
        model: A timm model, or any module with `get_classifier`.

    Raises:
        ValueError: If the model has no classifier to tap.

    Example:
        >>> import timm
        >>> features = ModelFeatures(timm.create_model("test_resnet", num_classes=10))
        >>> features(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 96])
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = unwrap_model(model)
        heads, self.concatenated = classifier_inputs(self.model)
        self.taps = [FeatureTap() for _ in heads]
        self.handles = [head.register_forward_pre_hook(tap) for head, tap in zip(heads, self.taps, strict=True)]

    @property
    def overwritten(self) -> bool:
        """Whether `take` would give the features of the last of several forwards."""
        return any(tap.overwritten for tap in self.taps)

    def take(self) -> Tensor | None:
        """Features of the training forward that just ran, given out once; None if there was none."""
        features = [tap.take() for tap in self.taps]
        captured = [part for part in features if part is not None]
        if len(captured) < len(features):
            return None
        if len(captured) == 1:
            return captured[0]
        return torch.cat(captured, 1) if self.concatenated else torch.stack(captured).mean(0)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features of `x` by a pass of its own in the model's present mode, without a trace in the model."""
        with untracked_statistics(self.model):
            return self.forward(x)[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output and features of `x` by an ordinary forward of the unwrapped model."""
        for tap in self.taps:
            tap.training_only = False
        try:
            output = self.model(x)
        finally:
            for tap in self.taps:
                tap.training_only = True
        features = self.take()
        if features is None:
            raise ValueError(f"{type(self.model).__name__} ran without calling its classifier")
        return output, features

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self.handles:
            handle.remove()


def classifier_inputs(model: Any) -> tuple[list[nn.Module], bool]:
    """Modules whose inputs are the features, and whether these are to be concatenated."""
    if not hasattr(model, "get_classifier"):
        raise ValueError(f"model must have get_classifier, as timm's models do, got {type(model).__name__}")
    head = model.get_classifier()
    if isinstance(head, (tuple, nn.ModuleList)):
        heads, concatenated = list(head), isinstance(head, nn.ModuleList)
    else:
        heads, concatenated = [getattr(head, "fc", head)], False  # Sequencer2D's classifier pools before its fc
    if any(isinstance(module, nn.Identity) for module in heads):
        raise ValueError(f"{type(model).__name__} has no classifier to tap: create it with num_classes > 0")
    return heads, concatenated


@contextmanager
def untracked_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise as in training and leave its running statistics and counters alone."""
    tracking = [
        module for module in model.modules() if module.training and getattr(module, "track_running_stats", False)
    ]
    for module in tracking:
        module.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]
