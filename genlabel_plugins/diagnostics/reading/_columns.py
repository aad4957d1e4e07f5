"""Columns of a table as numbers: what becomes of text, dates, missing values and constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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


def row_counters(frame: pd.DataFrame) -> list[str]:
    """Columns that merely count the rows, such as an index that was saved along: in sorted tables they tell classes.

    Example:
        >>> import pandas as pd
        >>> row_counters(pd.DataFrame({"unnamed": range(20), "x": [0.5, 1.5] * 10}))
        ['unnamed']
    """
    if len(frame) < 10:
        return []
    whole = frame.select_dtypes("integer")
    return [
        name for name in whole if bool((np.diff(whole[name].to_numpy(dtype="float64", na_value=np.nan)) == 1).all())
    ]


def encode_columns(frame: pd.DataFrame) -> Encoded:
    """Turn the columns into numbers and say how.

    Numeric columns keep their numbers, with the median in place of what is missing; text columns become one indicator
    per level; constants, dates and texts of many levels are left out.

    Args:
        frame: Columns without the target.

    Returns:
        The numbers; no column at all may be left.
    """
    said: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, Numbers] = {}
    levels: dict[str, pd.Series[Any]] = {}
    numeric = frame.select_dtypes(["number", "bool", "boolean"])
    numeric = numeric[[name for name in numeric if not _holds_time(numeric[name]) and numeric[name].dtype.kind != "c"]]
    block = numeric.to_numpy(dtype="float64", na_value=np.nan)
    numbers.update(zip(numeric.columns, block.T, strict=True))
    for name in frame.columns.difference(numeric.columns, sort=False):
        _encode_text(name, frame[name], numbers, levels, said)
    names, x = _complete(numbers, len(frame), said)
    indicators, cardinality = [], []
    for name, words in levels.items():
        codes, values = pandas().factorize(words, sort=True)
        indicators.append(np.eye(len(values))[codes])
        names += [f"{name}={value}" for value in values]
        cardinality.append(len(values))
    notes = [_note(what, which) for what, which in said.items() if which]
    return Encoded(np.hstack([x, *indicators]), names, cardinality, notes)


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


def _complete(numbers: dict[str, Numbers], n_rows: int, said: dict[str, list[str]]) -> tuple[list[str], Numbers]:
    """Numeric columns that vary, with the median where a number is missing."""
    names = np.array(list(numbers), dtype=object)
    if not len(names):
        return [], np.empty((n_rows, 0))
    x = np.stack(list(numbers.values()), 1)
    infinite = np.isinf(x)
    said[INFINITE] += list(names[infinite.any(0)])
    x = np.where(infinite, np.nan, x)
    missing = np.isnan(x)
    sparse = missing.mean(0) > MAX_MISSING
    said[SPARSE] += list(names[sparse])
    names, x, missing = names[~sparse], x[:, ~sparse], missing[:, ~sparse]
    largest = np.nanmax(np.abs(x), 0, initial=0)
    extreme = (largest > MODERATE) | ((largest < 1 / MODERATE) & (largest > 0))
    said[EXTREME] += list(names[extreme])
    x = x / np.where(extreme, largest, 1)
    x = np.where(missing, np.nanmedian(x, 0), x)
    constant = np.ptp(x, 0) == 0
    said[CONSTANT] += list(names[constant])
    names, x, missing = names[~constant], x[:, ~constant], missing[:, ~constant]
    filled = missing.any(0)
    if filled.any():
        what = f"{count(int(missing.sum()), 'missing value')} replaced by the median of the column"
        said[f"{what} (over all rows, those held out included)"] += list(names[filled])
    return list(names), x


def _holds_time(column: pd.Series[Any]) -> bool:
    return column.dtype.kind in "mM" or "datetime" in str(column.dtype) or str(column.dtype).startswith("period")


def _note(what: str, which: Sequence[str]) -> str:
    """One sentence on the columns of one treatment."""
    more = f" and {len(which) - LISTED:,} more" if len(which) > LISTED else ""
    return f"{what}: {', '.join(map(repr, which[:LISTED]))}{more}."
