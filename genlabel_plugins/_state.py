"""State learnt from data, and the checks of rows: what densities and all that uses them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_tensor
from genlabel_plugins._precision import NOTHING

EXACT_INTEGERS = 2**24  # the largest up to which float32 holds every integer


class LearntState(nn.Module):
    """A module whose buffers take their shape from data: None until learnt, loadable before.

    Attributes:
        may_lack: What its buffers are, if states saved by earlier builds lack them; they are None then.
    """

    may_lack: ClassVar[str | None] = None

    def _declare(self, *names: str) -> None:
        """Register buffers that are yet to be learnt; until then they are absent from the state dict."""
        for name in names:
            self.register_buffer(name, None)

    def _build(self) -> None:
        """Create submodules, if any, that the buffers, just loaded, call for and a state dict is about to fill."""

    def check_kept(self) -> None:
        """Raise `ValueError` if a state was loaded that lacks these buffers."""
        if any(buffer is None for buffer in self._buffers.values()):
            raise ValueError(
                f"a density from a state of an earlier build has not kept {self.may_lack}, by which parents are left "
                "out: fit it anew"
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        if self.may_lack is not None and not any(prefix + name in state_dict for name in self._buffers):
            self._buffers.update(dict.fromkeys(self._buffers))
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if saved is None:
                continue
            if buffer is None:
                self._buffers[name] = saved.clone()
            elif buffer.shape != saved.shape or buffer.dtype != saved.dtype:
                self._buffers[name] = saved.to(buffer.device, copy=True)
            else:
                buffer.copy_(saved)  # now, since `_build` may read more of a buffer than its shape
        self._build()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # model.half() and model.bfloat16() move a density along with its model but leave its precision alone.
        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.is_floating_point() and moved.itemsize < 4 else moved

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]
        return self


def not_fitted(message: str) -> Exception:
    """scikit-learn's `NotFittedError`, whose import takes longer than torch's."""
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415

    error: Exception = NotFittedError(message)
    return error


def no_gradient() -> AbstractContextManager[Any]:
    """Turn autograd off, where it is on: most calls come from within another that has done so."""
    return torch.no_grad() if torch.is_grad_enabled() else NOTHING


def as_rows(x: Tensor) -> Tensor:
    """Flatten all but the first dimension, `(B, *) -> (B, D)`; truth values become the numbers 0 and 1.

    Raises:
        ValueError: If `x` is no tensor to compute with, or has fewer than two dimensions or no feature.
    """
    check_tensor("x", x)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (B, *) with at least one feature dimension, got {tuple(x.shape)}")
    if 0 in x.shape[1:]:
        raise ValueError(f"x must have at least one feature, got shape {tuple(x.shape)}")
    x = x.byte() if x.dtype == torch.bool else x
    return x if x.ndim == 2 else x.flatten(1)  # rows already: each call costs microseconds


def check_fit_inputs(x: Tensor, target: Tensor, n_classes: int | None) -> tuple[Tensor, Tensor, int]:
    """Return rows `(N, D)` in float32 or better, as `floating` makes them, targets `(N,)` and the number of classes.

    Raises:
        ValueError: On what no density can be fitted to, naming the value.
    """
    x = as_rows(x)
    check_tensor("target", target)
    if target.ndim != 1 or len(target) != len(x):
        raise ValueError(f"target must have shape ({len(x)},) to go with x, got {tuple(target.shape)}")
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(f"target must hold integer class indices, got {target.dtype}")
    if not len(x):
        raise ValueError("x must have at least one row, got none")
    x = floating(x.detach())
    if not bool(torch.isfinite(x.sum())) and len(bad_rows := (~torch.isfinite(x)).any(1).nonzero().squeeze(1)):
        raise ValueError(f"x must be finite, got NaN or infinity in {len(bad_rows)} rows, first in row {bad_rows[0]}")
    lowest, highest = int(target.min()), int(target.max())
    n_classes = highest + 1 if n_classes is None else n_classes
    if lowest < 0 or highest >= n_classes:
        raise ValueError(f"target must lie in 0..{n_classes - 1}, got values from {lowest} to {highest}")
    return x, target.long(), n_classes


def floating(x: Tensor) -> Tensor:
    """Numbers in float32 or better; integers that float32 would round, such as times in seconds, in float64.

    Example:
        >>> floating(torch.tensor([3])).dtype, floating(torch.tensor([2**24 + 1])).dtype
        (torch.float32, torch.float64)
    """
    if x.itemsize >= 4 and not x.is_floating_point():
        wide = x.to(accumulator(x))
        return wide if bool((wide.abs() > EXACT_INTEGERS).any()) else wide.float()
    return x.to(torch.promote_types(x.dtype, torch.float32))


def accumulator(x: Tensor) -> torch.dtype:
    """Float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def mean_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, shape `(D,)` each, of numbers of any size."""
    # The squares of huge or tiny numbers leave the range of float64; a unit that is a power of two rounds nothing.
    exponent = torch.frexp(x.abs().amax(0)).exponent.clamp(-1000, 1000)
    unit = torch.ldexp(torch.ones_like(x[0]), exponent)
    return (x / unit).mean(0) * unit, (x / unit).std(0, correction=0) * unit


def rank_in_class(target: Tensor) -> Tensor:
    """Places of rows among those of their class, where rows come class by class, `(N,) -> (N,)`.

    Example:
        >>> rank_in_class(torch.tensor([0, 0, 2, 2, 2]))
        tensor([0, 1, 0, 1, 2])
    """
    count = torch.bincount(target)
    first = count.cumsum(0) - count
    return torch.arange(len(target), device=target.device) - first[target]
