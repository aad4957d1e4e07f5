"""Columns of a table as numbers: what becomes of text, dates, missing values and constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genlabel_plugins.diagnostics.reading._class_rows import count
from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading._text import MISSING

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]

MAX_LEVELS = 20
MAX_MISSING = 0.5
MIN_NUMERIC = 0.9  # of the values of a text column, from which on the others are missing numbers
MODERATE = 1e15
AT_ONCE = 100_000  # numbers that are copied
LISTED = 6

DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d)"
QUANTITY = r"[^\w\s]{0,2}\s?\d[\d.,' \u00a0\u202f]*\s?[^\d\s]{0,6}$"  # 12.5 kg, $5, 1,234

CONSTANT = "Left out because constant"
SPARSE = "Left out because more than half of the values are missing"
DATES = "Left out because of dates or times: make numbers of them that mean something"
QUANTITIES = "Left out because of numbers with units or with marks between their digits: write plain numbers"
MANY_LEVELS = f"Left out because of text with more than {MAX_LEVELS} different values"
INDICATORS = "Text turned into one column per value, 1 or 0"
INFINITE = "Infinite values count as missing"
EXTREME = "Divided by the largest value, since 32 bits cannot hold numbers so large or so small"


class Encoded(NamedTuple):
    """Numbers of a table.

    Attributes:
        x: Numeric columns, then a block of indicators for each text column, shape `(N, D)`.
        names: Name of each column of `x`.
        cardinality: Width of each block.
        notes: What was done, a sentence each.
    """

    x: Numbers
    names: list[str]
    cardinality: list[int]
    notes: list[str]


def row_counters(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Columns that merely count the rows, such as an index that was saved along: in sorted tables they tell classes.

    Example:
        >>> import pandas as pd
        >>> row_counters(pd.DataFrame({"unnamed": range(20), "x": [0.5, 1.5] * 10}), ["unnamed", "x"])
        ['unnamed']
    """
    if len(frame) < 10:
        return []
    whole = [name for name in names if pandas().api.types.is_integer_dtype(frame.dtypes[name])]
    return [
        name for name in whole if bool((np.diff(frame[name].to_numpy(dtype="float64", na_value=np.nan)) == 1).all())
    ]


def encode_columns(frame: pd.DataFrame, rows: NDArray[np.intp], columns: Sequence[str]) -> Encoded:
    """Turn the columns into numbers and say how.

    Numeric columns keep their numbers, with the median in place of what is missing; text columns become one indicator
    per level; constants, dates and texts of many levels are left out.

    Args:
        frame: A table, of which no copy is made.
        rows: Places of the rows that are used.
        columns: Names of the columns that are looked at, without the target.

    Returns:
        The numbers; no column at all may be left.
    """
    said: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, Numbers] = {}
    levels: dict[str, pd.Series[Any]] = {}
    kinds = frame.dtypes
    numeric = [name for name in columns if pandas().api.types.is_numeric_dtype(kinds[name]) and kinds[name].kind != "c"]
    is_numeric = set(numeric)
    for name in columns:
        if name not in is_numeric:
            _encode_text(name, frame[name].iloc[rows], numbers, levels, said)
    at_once = max(1, AT_ONCE // len(frame))
    parts = [numeric[start : start + at_once] for start in range(0, len(numeric), at_once)]
    # Column by column: pandas copies all of a frame, to store its columns together, before it picks several.
    blocks = (
        (part, np.stack([frame[name].to_numpy(dtype="float64", na_value=np.nan)[rows] for name in part], 1))
        for part in parts
    )
    parsed = [(list(numbers), np.stack(list(numbers.values()), 1))] if numbers else []
    names, x = _complete(chain(blocks, parsed), np.empty((len(rows), len(numeric) + len(numbers))), said)
    indicators, cardinality = [], []
    for name, words in levels.items():
        codes, values = pandas().factorize(words, sort=True)
        indicators.append(np.eye(len(values))[codes])
        names += [f"{name}={value}" for value in values]
        cardinality.append(len(values))
    notes = [_note(what, which) for what, which in said.items() if which]
    return Encoded(np.hstack([x, *indicators]) if indicators else x, names, cardinality, notes)


def _encode_text(
    name: str,
    column: pd.Series[Any],
    numbers: dict[str, Numbers],
    levels: dict[str, pd.Series[Any]],
    said: dict[str, list[str]],
) -> None:
    """Put one column that is not numeric where it belongs."""
    if _holds_time(column):
        said[DATES].append(name)
        return
    words = column.dropna().astype(str).astype(object)  # strings of pyarrow know no lookahead
    is_declared = isinstance(column.dtype, pandas().CategoricalDtype)
    if not is_declared:  # of levels that the file declares, none is a number or stands for a missing value
        words = words.str.strip()
        words = words[~words.isin(MISSING)]
    if words.nunique() <= 1 and len(words) >= (1 - MAX_MISSING) * len(column):
        if words.nunique() == 1 and len(words) < len(column):  # a level and its absence
            said[INDICATORS].append(name)
            levels[name] = words.reindex(column.index, fill_value="(missing)")
        else:
            said[CONSTANT].append(name)
        return
    if len(words) < (1 - MAX_MISSING) * len(column):
        said[SPARSE].append(name)
        return
    if not is_declared and words.str.match(DATE).all():
        said[DATES].append(name)
        return
    parsed = pandas().to_numeric(words, errors="coerce")
    n_parsed = 0 if is_declared else int(parsed.notna().sum())
    if n_parsed >= MIN_NUMERIC * len(words) and (n_parsed < len(words) or words.nunique() > 2):
        if n_parsed < len(words):
            odd = words[parsed.isna()].iloc[0]
            said[f"Words among numbers, such as {odd!r}, count as missing"].append(name)
        numbers[name] = parsed.reindex(column.index).to_numpy(dtype="float64")
    elif words.nunique() > MAX_LEVELS and not is_declared and words.str.match(QUANTITY).mean() >= MIN_NUMERIC:
        said[QUANTITIES].append(name)
    elif words.nunique() > MAX_LEVELS:
        said[MANY_LEVELS].append(name)
    else:
        said[INDICATORS].append(name)
        levels[name] = words.reindex(column.index, fill_value="(missing)")


def _complete(
    parts: Iterable[tuple[list[str], Numbers]], x: Numbers, said: dict[str, list[str]]
) -> tuple[list[str], Numbers]:
    """Numeric columns that vary, with the median where a number is missing, written into `x` part by part."""
    kept: list[str] = []
    filled: list[str] = []
    n_filled = 0
    for names, part in parts:
        varying, missing = _varying(np.array(names, dtype=object), part, said)
        x[:, len(kept) : len(kept) + len(varying)] = part[:, varying]
        kept += [names[place] for place in varying]
        filled += [names[place] for place in varying if missing[place]]
        n_filled += int(missing[varying].sum())
    if n_filled:
        what = f"{count(n_filled, 'missing value')} replaced by the median of the column"
        said[f"{what} (over all rows, those held out included)"] += filled
    return kept, x[:, : len(kept)]


def _varying(names: NDArray[np.object_], x: Numbers, said: dict[str, list[str]]) -> tuple[list[int], NDArray[np.intp]]:
    """Places of the columns to keep, completed in place, and of all columns how many numbers were missing."""
    infinite = np.isinf(x)
    said[INFINITE] += list(names[infinite.any(0)])
    x[infinite] = np.nan
    missing = np.isnan(x)
    sparse = missing.mean(0) > MAX_MISSING
    said[SPARSE] += list(names[sparse])
    largest = np.nanmax(np.abs(x), 0, initial=0)
    extreme = ((largest > MODERATE) | ((largest < 1 / MODERATE) & (largest > 0))) & ~sparse
    said[EXTREME] += list(names[extreme])
    x /= np.where(extreme, largest, 1)
    x[:, ~sparse] = np.where(missing[:, ~sparse], np.nanmedian(x[:, ~sparse], 0), x[:, ~sparse])
    constant = (np.ptp(x, 0) == 0) & ~sparse
    said[CONSTANT] += list(names[constant])
    return list(np.flatnonzero(~sparse & ~constant)), missing.sum(0)


def _holds_time(column: pd.Series[Any]) -> bool:
    return column.dtype.kind in "mM" or "datetime" in str(column.dtype) or str(column.dtype).startswith("period")


def _note(what: str, which: Sequence[str]) -> str:
    """One sentence on the columns of one treatment."""
    more = f" and {len(which) - LISTED:,} more" if len(which) > LISTED else ""
    return f"{what}: {', '.join(map(repr, which[:LISTED]))}{more}."
