"""Columns that give the class away, so that nothing else is being learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_ROWS = 20  # below, a column parts the classes by chance now and then
FEW_CHANGES = 0.2  # of the changes of class along a column that chance would give
LISTED = 6


def find_giveaways(
    x: NDArray[np.float64], target: NDArray[np.int64], names: Sequence[str], cardinality: Sequence[int]
) -> list[str]:
    """Sentences on columns that equal the classes, on numbers of rows that rise with them, on others that part them.

    Args:
        x: Rows, shape `(N, D)`; of each text column a block of indicators, the blocks last.
        target: Class indices, shape `(N,)`.
        names: Of the columns, D.
        cardinality: Width of each block.

    Example:
        >>> x, target = np.arange(40.0)[:, None] ** [1, 2] * [7, 0.1], np.arange(40) // 20
        >>> find_giveaways(x, target, ["id", "size"], [])[0]
        "Rises with the class, as a number given row by row does: 'id'. It tells how the table was sorted."
    """
    if len(x) < MIN_ROWS:
        return []
    same, rising, parting = [], [], []
    n_classes = len(np.unique(target))
    chance = len(x) - (np.bincount(target) ** 2).sum() / len(x)
    n_numeric = x.shape[1] - sum(cardinality)
    for name, column in zip(names, x.T[:n_numeric], strict=False):
        values, place = np.unique(column, return_inverse=True)
        classes = _class_of_each(place.ravel(), target, len(values))
        if classes is None:
            continue
        n_changes = int((np.diff(classes) != 0).sum())
        if len(values) == n_classes:
            same.append(name)
        elif len(values) == len(x) and (column == column.round()).all() and n_changes <= FEW_CHANGES * chance:
            rising.append(name)
        elif n_changes == n_classes - 1:
            parting.append(name)
    start = n_numeric
    for width in cardinality:
        classes = _class_of_each(x[:, start : start + width].argmax(1), target, width)
        if classes is not None:
            name = names[start].rpartition("=")[0]
            (same if width == n_classes else parting).append(name)
        start += width
    said = {
        "Equals the class under other names": (same, "Leave it out, unless it is known before the class is."),
        "Rises with the class, as a number given row by row does": (rising, "It tells how the table was sorted."),
        "Tells all classes apart alone": (parting, "Make sure that it is known before the class is."),
    }
    return [
        f"{what}: {', '.join(map(repr, which[:LISTED]))}"
        f"{f' and {len(which) - LISTED:,} more' if len(which) > LISTED else ''}. {advice}"
        for what, (which, advice) in said.items()
        if which
    ]


def _class_of_each(place: NDArray[np.intp], target: NDArray[np.int64], n_values: int) -> NDArray[np.int64] | None:
    """The class that all rows of each value have; None if some value has two."""
    classes = np.zeros(n_values, dtype=np.int64)
    classes[place] = target
    return classes if (classes[place] == target).all() else None
