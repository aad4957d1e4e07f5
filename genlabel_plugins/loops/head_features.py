"""Features of a network: what its head sees, from the training forward or from a pass of their own."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_switch
from genlabel_plugins.loops.feature_tap import FeatureTap


class HeadFeatures:
    """The input of a model's head, `(B, D)`.

    Hooks sit on the model itself, below a wrapper of `torch.compile` or DistributedDataParallel: make this object
    before the first compiled step. They go when it is dropped. Call it to fit a relabeler on features (Algorithm 2).

    Args:
        model: Network.
        head: Name of the module whose input are the features, as in `model.named_modules()`, or modules of the model.
        concatenated: Whether several heads give the concatenation of their inputs, in place of their mean.

    Raises:
        ValueError: If the model has no module of that name.

    Example:
        >>> features = HeadFeatures(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), "2")
        >>> features(torch.zeros(4, 3)).shape
        torch.Size([4, 8])
    """

    def __init__(self, model: nn.Module, head: str | Sequence[nn.Module], *, concatenated: bool = False) -> None:
        check_switch("concatenated", concatenated)
        self.model: Any = _unwrapped(model)
        if isinstance(head, str):
            known = dict(self.model.named_modules())
            if head not in known:
                raise ValueError(f"head must name a module of the model, got {head!r} beside {list(known)}")
            head = [known[head]]
        self.concatenated = concatenated
        self.taps = [FeatureTap() for _ in head]
        self.handles = [module.register_forward_pre_hook(tap) for module, tap in zip(head, self.taps, strict=True)]
        weakref.finalize(self, _remove, self.handles).atexit = False

    @property
    def overwritten(self) -> bool:
        """Whether `take` would give the features of the last of several forwards."""
        return any(tap.overwritten for tap in self.taps)

    def refuse_join(self) -> None:
        """Refuse `ddp.join()`, for statistics of all ranks.

        Raises:
            ValueError: If the last forward ran within it: torch would end the process when one rank has no batch left.
        """
        if any(tap.joining for tap in self.taps):
            raise ValueError(
                "ddp.join() cannot go with class statistics, which sum over all ranks in each step: give all ranks the "
                "same number of batches, as DistributedSampler does, or leave Algorithm 3 for a fitted relabeler"
            )

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
    def __call__(self, x: Any) -> Tensor:
        """Features of `x` by a pass of its own in the model's present mode, without a trace in the model."""
        with untracked_statistics(self.model):
            return self.forward(x)[1]

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        """Output and features of `x` by an ordinary forward of the unwrapped model."""
        with ExitStack() as stack:
            for tap in self.taps:
                stack.enter_context(tap.in_any_mode())
            output = self.run(x)
            features = self.take()
        if features is None:
            raise ValueError(f"{type(self.model).__name__} ran without calling its head")
        return output, features

    def run(self, x: Any) -> Any:
        """Output of the model for a batch; a host whose models are called otherwise says how."""
        return self.model(x)

    def remove(self) -> None:
        """Take the hooks off the model."""
        _remove(self.handles)


@contextmanager
def untracked_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalize as in training and leave its running statistics and counters alone."""
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


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()


def _unwrapped(model: Any) -> Any:
    """The model below `torch.compile`, DistributedDataParallel and DataParallel."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model
