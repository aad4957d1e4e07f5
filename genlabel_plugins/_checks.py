"""Checks of options, targets and labels: one sentence that names the value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


class FewRowsWarning(UserWarning):
    """Classes have too few rows for what a density learns of them; it says what it does instead."""


_IS_SAID_LATER = ContextVar("a fit to all rows is to follow", default=False)


def warn_of_few_rows(message: str, stacklevel: int) -> None:
    """Issue a `FewRowsWarning`, unless `said_later` is entered."""
    if not _IS_SAID_LATER.get():
        warnings.warn(message, FewRowsWarning, stacklevel=stacklevel + 1)


@contextmanager
def said_later() -> Iterator[None]:
    """Leave what is to be said of few rows to a later fit to all of them, of which a search's folds are parts."""
    token = _IS_SAID_LATER.set(True)
    try:
        yield
    finally:
        _IS_SAID_LATER.reset(token)


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, none: bool = False, whole: bool = False
) -> None:
    """Check an option that is a number in [low, high], whole or None if that is asked for or allowed.

    With `low` minus infinity any number will do, NaN too.

    Raises:
        ValueError: If it is not, naming the option, the value and the range.

    Example:
        >>> check_number("max_epochs", "200", 0, whole=True)
        Traceback (most recent call last):
        ValueError: max_epochs must be a whole number, got the str '200'
    """
    if none and value is None:
        return
    choices = "be None or " if none else ""
    if not isinstance(value, Integral if whole else Real):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must {choices or 'be '}{kind}, got the {type(value).__name__} {value!r}")
    if low > -math.inf and not low <= float(value) <= high:
        least = "not be negative" if low == 0 and not none else f"{choices or 'be '}at least {low}"
        wanted = least if high == math.inf else f"{choices}lie in [{low}, {high}]"
        raise ValueError(f"{name} must {wanted}, got {value}")


def check_positive(name: str, value: Any, *, other: str = "") -> None:
    """Check an option that is a number above zero; `other` names what else it may be.

    Raises:
        ValueError: If it is not, naming the option and the value.
    """
    if not other:
        check_number(name, value, -math.inf)
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        wanted = f"a positive number or {other}" if other else "positive"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Check an option that is on or off: the text "false" would be on.

    Raises:
        ValueError: If it is not, naming the option and the value.
    """
    if value not in (True, False):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_relabels(relabeler: Any) -> None:
    """Check that an object can relabel.

    Raises:
        TypeError: If it cannot, naming its type.
    """
    if not callable(getattr(relabeler, "relabel", None)):
        raise TypeError(f"relabeler must have a method relabel(x, y_mix), got {type(relabeler).__name__}")


def check_sizes(name: str, values: Any) -> None:
    """Check an option that is a sequence of whole numbers from 1.

    Raises:
        ValueError: If it is not, naming the option and the value.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a sequence of whole numbers, got {values!r}")
    for value in values:
        check_number(name, value, 1, whole=True)


def check_tensor(name: str, value: Any) -> None:
    """Check that a value is a tensor to compute with, without a device sync.

    Raises:
        ValueError: If it is no tensor, or sparse, without data, complex or of eight-bit floats, naming which.

    Example:
        >>> check_tensor("x", [1.0, 2.0])
        Traceback (most recent call last):
        ValueError: x must be a tensor, got a list: torch.as_tensor makes one
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got a {type(value).__name__}: torch.as_tensor makes one")
    if value.layout != torch.strided:
        raise ValueError(f"{name} must be dense, got {value.layout}: call to_dense() first")
    if value.device.type == "meta":
        raise ValueError(f"{name} must hold numbers, got a meta tensor of shape {tuple(value.shape)}")
    if value.is_complex():
        raise ValueError(f"{name} must be real, got {value.dtype}")
    if value.is_floating_point() and value.itemsize < 2:
        raise ValueError(f"{name} must have 16 bits or more for a floating-point number, got {value.dtype}")


def check_target(target: Tensor, n_classes: int | None, n_rows: int | None = None) -> None:
    """Check class indices `(B,)`; whether they lie in range is asked of the device, which is waited for.

    Args:
        target: Class indices, shape `(B,)`.
        n_classes: Number of classes C; None to leave the range alone.
        n_rows: Number of rows B, if known.

    Raises:
        ValueError: If they are no class indices, not as many as rows, or out of range.
    """
    check_tensor("target", target)
    if target.ndim != 1 or target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(
            f"target must hold class indices of shape (B,), got {target.dtype} of shape {tuple(target.shape)}"
        )
    if n_rows not in (None, len(target)):
        raise ValueError(f"target must have shape ({n_rows},) to go with x, got {tuple(target.shape)}")
    if n_classes is None:
        return
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < n_classes:
        lowest, highest = int(target.min()), int(target.max())
        raise ValueError(f"target must lie in 0..{n_classes - 1}, got values from {lowest} to {highest}")


def check_stop_mixing(stop_mixing: int | float | None) -> None:
    """Check that mixing stops nowhere (None), at a whole epoch from 1 on, or at a share of all epochs in (0, 1).

    Example:
        >>> check_stop_mixing(1.5)
        Traceback (most recent call last):
        ValueError: stop_mixing must be None, a whole epoch from 1 on or a share of all epochs in (0, 1), got 1.5
    """
    if stop_mixing is None:
        return
    number = float(stop_mixing) if isinstance(stop_mixing, Real) and not isinstance(stop_mixing, bool) else 0.0
    if not (0 < number < 1 or (number >= 1 and number.is_integer())):
        raise ValueError(
            f"stop_mixing must be None, a whole epoch from 1 on or a share of all epochs in (0, 1), got {stop_mixing!r}"
        )


def first_clean_epoch(stop_mixing: int | float | None, n_epochs: int | None) -> float:
    """The epoch, counted from 0, from which on rows stay as they are; infinity for never.

    Raises:
        ValueError: On a share of a number of epochs that is not known.

    Example:
        >>> first_clean_epoch(0.75, 10), first_clean_epoch(3, None), first_clean_epoch(None, None)
        (8, 3, inf)
    """
    if stop_mixing is None:
        return math.inf
    if stop_mixing >= 1:
        return int(stop_mixing)
    if n_epochs is None:
        raise ValueError(f"stop_mixing={stop_mixing} is a share of all epochs, whose number must be set")
    return math.ceil(stop_mixing * n_epochs)


def check_labels(y: Tensor, n_classes: int | None = None) -> None:
    """Check that labels are probabilities, smoothed or not; this waits for the device.

    Args:
        y: Labels, shape `(B, C)`.
        n_classes: Number of classes C, if known.

    Raises:
        ValueError: If they are not, in one sentence that names the format they look like.
    """
    check_tensor("labels", y)
    wanted = f"labels must be probabilities of shape (B, {n_classes or 'C'}) whose rows sum to one"
    if y.ndim == 1:
        raise ValueError(f"{wanted}, got shape {tuple(y.shape)}: class indices are not mixed labels")
    rows = y.detach().flatten(0, -2).double()
    off = ~((rows.sum(1) - 1).abs() < 1e-2) | (rows < 0).any(1)  # also NaN; half precision sums to 1 within 0.4 %
    if bool(off.any()):
        row = [round(value, 4) for value in rows[off.nonzero()[0, 0]].tolist()[:6]]
        raise ValueError(f"{wanted}, got a row {row}; they look like {_format_of(rows)}")
    if y.ndim != 2 or n_classes not in (None, y.shape[1]):
        raise ValueError(f"{wanted}, got shape {tuple(y.shape)}")


def _format_of(rows: Tensor) -> str:
    """What labels `(B, C)` look like that are no probabilities."""
    if bool((rows < 0).any()):
        return "logits or log-probabilities: take their softmax first"
    whole = rows % 1 == 0
    if rows.shape[1] == 3 and bool(whole[:, :2].all() and (rows[:, 2] <= 1).all()):
        return "kornia's columns (class, class, share): turn them into a share for each class first"
    if bool((whole & (rows <= 1)).all()):
        return "several classes at once for each row, which have no class posterior"
    return "weights that are yet to be divided by their sum"
