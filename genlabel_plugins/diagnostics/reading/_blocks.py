"""The columns that say which rows belong together, or which comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genlabel_plugins.diagnostics.reading._class_rows import count
from genlabel_plugins.diagnostics.reading.labeled_table import TableError

if TYPE_CHECKING:
    import pandas as pd

MIN_GROUPS = 5  # one for each fold


def take_blocks(
    frame: pd.DataFrame, target: str, groups: str | None, time: str | None
) -> tuple[list[str], pd.Series[Any] | None, list[str]]:
    """Part the column of groups or times from the others: names of these, its values, what was done.

    Raises:
        TableError: If there is no such column, or both are named.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"size": [1.0, 2.0], "when": ["2024-05-01", "2023-05-01"], "kind": ["a", "b"]})
        >>> names, place, _ = take_blocks(frame, "kind", None, "when")
        >>> names, place.tolist()
        (['size'], [1, 0])
    """
    if groups and time:
        raise TableError("--groups and --time exclude one another: rows are held out by one of them")
    name = groups or time
    features = [column for column in frame.columns if column not in (target, name)]
    if not name:
        return features, None, []
    option = "--groups" if groups else "--time"
    if name == target or name not in frame.columns:
        raise TableError(f"{option}: there is no column {name!r}")
    import pandas as pd  # noqa: PLC0415 - where there is a frame, it is installed

    column = frame[name]
    if groups:
        codes = pd.factorize(column, use_na_sentinel=True)[0]
        n_missing = int((codes < 0).sum())
        said = f"Rows of the same {name!r} are held out together; the column is used for nothing else."
    else:
        codes, n_missing = _places_in_time(column, name)
        said = (
            f"Rows are predicted from those before them in the order of {name!r}; the column is used for nothing else."
        )
    values = pd.Series(codes, index=frame.index)
    notes = [said]
    if n_missing:
        notes.append(f"{count(n_missing, 'row')} without a value of {name!r} left out.")
    return features, values.mask(values < 0), notes


def as_blocks(values: pd.Series[Any], groups: str | None, time: str | None) -> dict[str, Any]:
    """Arguments of `LabeledTable`: places from zero on.

    Raises:
        TableError: If there are too few groups to hold some out.
    """
    places = torch.from_numpy(values.to_numpy("int64", na_value=-1))
    _, codes = places.unique(return_inverse=True)
    n_groups = int(codes.max()) + 1
    if n_groups < MIN_GROUPS:
        what = "groups" if groups else "times"
        raise TableError(f"{groups or time!r} tells {n_groups} {what} apart: five folds need {MIN_GROUPS} at least")
    named: dict[str, Tensor] = {"groups" if groups else "time": codes}
    return {**named, "blocks_name": str(groups or time)}


def _places_in_time(column: pd.Series[Any], name: str) -> tuple[Any, int]:
    """Rank of each time, missing ones -1: numbers by size, all else by date."""
    import pandas as pd  # noqa: PLC0415

    numbers = pd.to_numeric(column, errors="coerce") if column.dtype.kind not in "mM" else None
    if numbers is None or numbers.notna().sum() < column.notna().sum():
        if column.dtype.kind not in "mM":
            numbers = pd.to_datetime(column, errors="coerce", format="mixed", utc=True)
        else:
            numbers = column
    n_missing = int(numbers.isna().sum())
    if n_missing > len(column) / 2:
        raise TableError(f"--time: {name!r} holds neither numbers nor dates")
    return (numbers.rank(method="dense") - 1).fillna(-1).astype("int64").to_numpy(), n_missing
