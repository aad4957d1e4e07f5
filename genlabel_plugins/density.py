"""Density: what every backend is, a module that learns log p_c(x) for all classes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from genlabel_plugins.generative_model import GenerativeModel


class LearntState(nn.Module):
    """A module whose buffers take their shape from data: None until learnt, loadable before."""

    def _declare(self, *names: str) -> None:
        """Register buffers that are yet to be learnt; until then they are absent from the state dict."""
        for name in names:
            self.register_buffer(name, None)

    def _build(self) -> None:
        """Create submodules, if any, that the buffers, just loaded, call for and a state dict is about to fill."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
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


class Density(GenerativeModel, LearntState):
    r"""Class-conditional log-densities :math:`\log p_c(x)`.

    A subclass names its learnt buffers with `_declare`, fills them in `_fit` and reads them in `_log_prob`.
    What all backends share lives here: rows are checked and flattened, centred on the mean of the training
    rows (products of raw values far from zero lose hundreds of times the precision), classes without a row
    are set aside, and no autocast or autograd reaches a log-density.

    Three class attributes are claims, to which `genlabel_plugins.testing` holds a backend; one that cannot keep
    a claim sets it to False.

    Attributes:
        normalized: Each density integrates to one.
        exact: `fit` has one answer, whatever the order of rows and classes; False where training draws batches.
        compilable: `log_prob` is one graph for `torch.compile(fullgraph=True)`.
        offset_: Mean of the training rows, shape `(D,)`; its dtype is the dtype of all log-densities.
        class_count_: Training rows per class, shape `(C,)`.
        present_: Indices of the classes that have rows, shape `(K,)`; the others have density zero.
    """

    normalized: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    compilable: ClassVar[bool] = True

    offset_: Tensor
    class_count_: Tensor
    present_: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._declare("offset_", "class_count_", "present_")

    def fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn the densities; fitting twice equals fitting once.

        Args:
            x: Inputs, shape `(N, *)`; learnt state is float64 for float64 inputs, else float32.
            target: Class indices, shape `(N,)`.
            n_classes: Number of classes C; by default the largest index plus one.
            generator: Source of randomness on the CPU; by default a fresh one, seeded with 0.

        Raises:
            ValueError: On shapes, dtypes or values that no density can be fitted to.
        """
        x, target, n_classes = check_fit_inputs(x, target, n_classes)
        count = torch.bincount(target, minlength=n_classes)
        self.offset_ = self._origin(x)
        self.class_count_ = count
        self.present_ = count.nonzero().squeeze(1)
        compact = ((count > 0).cumsum(0) - 1)[target]  # 0..K-1, every class with rows
        try:
            with torch.no_grad(), full_precision(x):
                self._fit(x - self.offset_, compact, generator or torch.Generator().manual_seed(0))
        except BaseException:
            self.offset_ = None  # type: ignore[assignment]  # half a fit is no fit
            raise
        return self.to(device=x.device, dtype=x.dtype).requires_grad_(False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, shape `(B, *) -> (B, C)`; minus infinity for a class without rows.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If the rows have another number of features than the training rows.
        """
        self.check_fitted()
        offset, present = self.offset_, self.present_  # a buffer costs a microsecond each time it is looked up
        x = as_rows(x)
        if x.shape[1] != len(offset):
            raise ValueError(f"x must have the {len(offset)} features seen in fit, got {x.shape[1]}")
        if not len(x):
            return offset.new_empty(0, self.n_classes)
        with torch.no_grad(), full_precision(x):
            log_prob = self._log_prob((x - offset).to(offset.dtype))  # (B, K)
            if present.shape == self.class_count_.shape:
                return log_prob
            absent = log_prob.new_full((len(x), self.n_classes), -torch.inf)
            return absent.index_copy(1, present, log_prob)

    def _origin(self, x: Tensor) -> Tensor:
        """Point on which rows are centred, `(N, D) -> (D,)`."""
        return x.mean(0, dtype=accumulator(x)).to(x.dtype)

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        """Learn from centred rows `(N, D)` and compact targets `(N,)`, where every class has a row."""
        raise NotImplementedError(f"{type(self).__name__} must define _fit")

    def _log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of the classes with rows at centred rows, `(B, D) -> (B, K)`."""
        raise NotImplementedError(f"{type(self).__name__} must define _log_prob")

    @property
    def n_classes(self) -> int:
        """Number of classes C, with or without rows."""
        self.check_fitted()
        return len(self.class_count_)

    def check_fitted(self) -> None:
        """Raise `NotFittedError` before `fit`."""
        if self.offset_ is None:
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit(x, target) first")


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off on the device of `x`, where it is on: entering it costs as much as a small product."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def as_rows(x: Tensor) -> Tensor:
    """Flatten all but the first dimension, `(B, *) -> (B, D)`.

    Raises:
        ValueError: If `x` has fewer than two dimensions.
    """
    if x.ndim < 2:
        raise ValueError(f"x must have shape (B, *) with at least one feature dimension, got {tuple(x.shape)}")
    return x.flatten(1)


def check_fit_inputs(x: Tensor, target: Tensor, n_classes: int | None) -> tuple[Tensor, Tensor, int]:
    """Return rows `(N, D)` in float32 or better, targets `(N,)` and the number of classes.

    Raises:
        ValueError: On what no density can be fitted to, naming the value.
    """
    x = as_rows(x)
    if x.is_complex():
        raise ValueError(f"x must be real, got {x.dtype}")
    if target.ndim != 1 or len(target) != len(x):
        raise ValueError(f"target must have shape ({len(x)},) to go with x, got {tuple(target.shape)}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target must hold integer class indices, got {target.dtype}")
    if not len(x):
        raise ValueError("x must have at least one row, got none")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    bad_rows = (~torch.isfinite(x)).any(1).nonzero().squeeze(1)
    if len(bad_rows):
        raise ValueError(f"x must be finite, got NaN or infinity in {len(bad_rows)} rows, first in row {bad_rows[0]}")
    lowest, highest = int(target.min()), int(target.max())
    n_classes = highest + 1 if n_classes is None else n_classes
    if lowest < 0 or highest >= n_classes:
        raise ValueError(f"target must lie in 0..{n_classes - 1}, got values from {lowest} to {highest}")
    return x, target.long(), n_classes


def accumulator(x: Tensor) -> torch.dtype:
    """Float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
