"""A tap for the features of a network in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class FeatureTap:
    """Forward pre-hook that keeps the input of a module: the features a training step computes anyway.

    The features are detached. A deep copy of a hooked model, such as a moving average of its weights, shares
    the tap, and the tap is silent outside training mode: the copy neither doubles it nor overwrites it. It
    pickles with the model, without features, so that `torch.save(model)` works, and captures inside `torch.compile`.
    `torch.jit.script` is refused in one sentence; `torch.jit.trace` and `torch.export` work.

    Args:
        training_only: Capture only while the hooked module is in training mode.

    Attributes:
        features: Input of the last forward since `take`, shape `(B, D)`, or None.
        overwritten: Whether another forward since `take` came before it, whose input is lost.
        joining: Whether the last forward was one of DistributedDataParallel within its `join()`.

    Example:
        >>> import torch
        >>> head, tap = nn.Linear(2, 3), FeatureTap()
        >>> handle = head.register_forward_pre_hook(tap)
        >>> _ = head(torch.ones(1, 2))
        >>> tap.take(), tap.take()
        (tensor([[1., 1.]]), None)
    """

    def __init__(self, *, training_only: bool = True) -> None:
        self.training_only = training_only
        self.features: Tensor | None = None
        self.overwritten = False
        self.joining = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Capture, as torch calls it before each forward of `module`."""
        if module.training or not self.training_only:
            if not args:
                raise ValueError(f"{type(module).__name__} must get its input in first place, not by name")
            self.overwritten = self.features is not None
            self.features = args[0].detach().flatten(1)
            self.joining = _joining()

    @property
    def __name__(self) -> str:
        """None: the first thing that `torch.jit.script` asks a hook for, before it fails on what it cannot compile."""
        raise AttributeError(
            "a model whose features are tapped cannot be scripted: take the hooks off first, by detach() of the mixer "
            "or remove() of HeadFeatures"
        )

    def take(self) -> Tensor | None:
        """The captured features, given out once: those of an earlier step never label a later one."""
        features, self.features, self.overwritten = self.features, None, False
        return features

    @contextmanager
    def in_any_mode(self) -> Iterator[None]:
        """Capture inside this context whatever mode the hooked module is in; what was captured before comes back."""
        before = self.training_only, self.features, self.overwritten
        self.training_only, self.features, self.overwritten = False, None, False
        try:
            yield
        finally:
            self.training_only, self.features, self.overwritten = before

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "features": None, "overwritten": False, "joining": False}


def _joining() -> bool:
    active = getattr(DistributedDataParallel, "_active_ddp_module", None)  # torch says it to no one else
    return active is not None and bool(active._join_config.enable)
