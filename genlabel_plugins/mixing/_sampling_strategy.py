"""What imbalanced-learn means by a sampling strategy: how many rows each class is to get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Strategy = Literal["auto", "minority", "not minority", "not majority", "all"]


def rows_to_make(strategy: Any, names: NDArray[Any]) -> NDArray[np.int64]:
    """How many rows each class is to get, sorted by name, shape `(C,)`; see `GenerativeMixSampler`.

    Raises:
        ValueError: On a strategy that imbalanced-learn refuses as well, naming the value and the choices.

    Example:
        >>> rows_to_make({"b": 5}, np.array(["a", "a", "b"])).tolist()
        [0, 4]
    """
    classes, count = np.unique(names, return_counts=True)
    lacking = count.max() - count
    if callable(strategy):
        strategy = strategy(names)
    if isinstance(strategy, str) and strategy in get_args(Strategy):
        kept = np.ones(len(count), dtype=bool)
        if "minority" in strategy:
            kept = (np.arange(len(count)) == count.argmin()) != strategy.startswith("not")
        return np.where(kept, lacking, 0)
    if isinstance(strategy, Mapping):
        wanted = np.array([strategy.get(name, n) for name, n in zip(classes.tolist(), count, strict=True)])
        _check_known(strategy, classes)
        if (wanted < count).any():
            c = int((wanted < count).argmax())
            name = classes.tolist()[c]
            raise ValueError(
                f"sampling_strategy must ask for what there is or more: class {name!r} has {count[c]}, got {wanted[c]}"
            )
        return (wanted - count).astype(np.int64)
    if isinstance(strategy, Sequence | np.ndarray) and not isinstance(strategy, str):
        _check_known(strategy, classes)
        return np.where(np.isin(classes, list(strategy)), lacking, 0)
    if isinstance(strategy, int | float) and not isinstance(strategy, bool) and 0 < strategy <= 1 and len(count) == 2:
        n_rows = int(strategy * count.max())
        if n_rows < count.min():
            raise ValueError(
                f"sampling_strategy must be at least {count.min() / count.max():.3g}, the ratio of the two classes, "
                f"got {strategy}"
            )
        return np.where(np.arange(2) == count.argmin(), n_rows - count.min(), 0)
    raise ValueError(
        f"sampling_strategy must be one of {get_args(Strategy)}, class names, a mapping from class names to numbers of "
        f"rows, a callable, or for two classes a float up to 1, got {strategy!r}"
    )


def _check_known(names: Any, classes: NDArray[Any]) -> None:
    unknown = [name for name in names if name not in classes.tolist()]
    if unknown:
        raise ValueError(f"sampling_strategy must name classes of y, {classes.tolist()}, got {unknown}")
