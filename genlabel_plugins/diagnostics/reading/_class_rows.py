"""Rows and classes of a table: which column is the target, which rows count."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading._text import MISSING, looks_like_data
from genlabel_plugins.diagnostics.reading.labeled_table import MIN_ROWS_PER_CLASS, TableError

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 100
MANY_NUMBERS = 20  # distinct numbers in a target from which on they look like measurements


def class_labels(frame: pd.DataFrame, target: str) -> tuple[pd.Series[str], list[str]]:
    """Class of each row as the text that the file holds, missing where there is none, and what was done.

    Raises:
        TableError: If there is no such column, or it holds measurements or names instead of classes.

    Example:
        >>> import pandas as pd
        >>> names, notes = class_labels(pd.DataFrame({"kind": ["1", "1.0", "2"]}), "kind")
        >>> list(names), notes
        (['1', '1.0', '2'], ["Classes of 'kind' that are the same number and are kept apart: '1' and '1.0'."])
    """
    pd = pandas()
    column = _target_column(frame, target)
    if pd.api.types.is_datetime64_any_dtype(column.dropna()):
        raise TableError(f"the target column {target!r} holds dates: it must hold classes")
    values = column.astype(object)  # a category without rows is no class
    if values.dropna().map(lambda value: isinstance(value, list | dict | set | np.ndarray)).any():
        raise TableError(f"the target column {target!r} holds lists: it must hold one class per row")
    written = values.map(_word, na_action="ignore").astype(object)
    names = written.str.strip()
    names = names.mask(names == "")
    is_declared = isinstance(column.dtype, pd.CategoricalDtype)
    if not is_declared:
        names = _without_gaps(names, target)
    n_classes = names.nunique()
    if n_classes > MAX_CLASSES:
        raise TableError(
            f"the target column {target!r} has {n_classes:,} different values, more than {MAX_CLASSES}: it looks like "
            "names or numbers of rows, not classes"
        )
    n_missing = int(names.isna().sum())
    if n_missing == len(names):
        raise TableError(f"the target column {target!r} is empty")
    notes = [f"{count(n_missing, 'row')} without a value of {target!r} left out."] if n_missing else []
    odd = [] if is_declared else sorted(set(names.dropna()) & set(MISSING))
    if odd:
        notes.append(f"Taken for a class of {target!r}, though it may stand for none: {', '.join(map(repr, odd))}.")
    alike = _alike(names.dropna().unique(), _exact_number)
    if alike:
        notes.append(f"Classes of {target!r} that are the same number and are kept apart: {alike}.")
    blank = _alike(written[names.notna()].unique(), str.strip)
    if blank:
        notes.append(f"Classes of {target!r} that differ in blanks around them alone and are one: {blank}.")
    return names, notes


def large_enough(names: pd.Series[str], target: str) -> tuple[pd.Series[Any], list[str]]:
    """Mask of rows whose class has rows enough for the folds, and what was done.

    Raises:
        TableError: If fewer than two classes are left.
    """
    counts = names.value_counts()
    if len(counts) < 2:
        raise TableError(f"the target column {target!r} holds one class only, {counts.index[0]!r}: there must be two")
    small = counts[counts < MIN_ROWS_PER_CLASS]
    if len(counts) - len(small) < 2:
        listed = ", ".join(f"{name!r}: {rows}" for name, rows in list(counts.items())[:6])
        raise TableError(
            f"fewer than two classes of {target!r} have the {MIN_ROWS_PER_CLASS} rows that five folds need ({listed}"
            f"{', ...' if len(counts) > 6 else ''})"
        )
    notes = [
        f"Class {name!r} left out with its {count(rows, 'row')}: five folds need {MIN_ROWS_PER_CLASS} rows of a class."
        for name, rows in list(small.items())[:10]
    ]
    if len(small) > 10:
        notes.append(f"Likewise {len(small) - 10} more classes with {count(int(small[10:].sum()), 'row')} in all.")
    return names.isin(counts.index[counts >= MIN_ROWS_PER_CLASS]), notes


def count(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "row"), count(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _target_column(frame: pd.DataFrame, target: str) -> pd.Series[Any]:
    columns: Sequence[str] = list(frame.columns)
    if target not in columns:
        folded = {name.casefold(): name for name in columns}
        close = difflib.get_close_matches(target.casefold(), folded, n=3, cutoff=0.5)
        listed = ", ".join(repr(folded[name]) for name in close) or ", ".join(map(repr, columns[:8]))
        kind = "the closest are" if close else "there are" if len(columns) <= 8 else "the first are"
        data = looks_like_data(columns)
        hint = f"; the first line {data} where names of columns belong (--no-header calls them V1, V2, ...)" * bool(
            data
        )
        raise TableError(f"there is no column {target!r}: {kind} {listed}{hint}")
    if columns.count(target) > 1:
        raise TableError(f"the name of the target column {target!r} stands above more than one column")
    return frame[target]


def _word(value: object) -> str:
    """A value as the file writes it; a whole float is written as an integer, which it stands for in binary files."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def _without_gaps(names: pd.Series[Any], target: str) -> pd.Series[Any]:
    """Classes, of which words for missing values are none where all others are numbers."""
    words = names.dropna()
    is_gap = words.isin(MISSING)
    numbers = pandas().to_numeric(words[~is_gap].str.replace(",", "."), errors="coerce").astype("float64")
    if not len(numbers) or not np.isfinite(numbers).all():
        return names
    _check_numbers(numbers, target)
    return names.mask(names.isin(MISSING))


def _alike(words: Iterable[str], same_as: Callable[[str], object]) -> str:
    """Words that some function cannot tell apart, listed."""
    groups: dict[object, list[str]] = {}
    for word in sorted(words):
        groups.setdefault(same_as(word), []).append(word)
    return "; ".join(" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1)


def _exact_number(word: str) -> Decimal | str:
    try:
        number = Decimal(word)
    except InvalidOperation:
        return word
    return word if number.is_nan() else number


def _check_numbers(numbers: pd.Series[Any], target: str) -> None:
    distinct = numbers.nunique()
    few_rows_each = len(numbers) < 10 * distinct
    if distinct > MANY_NUMBERS and (few_rows_each or bool((numbers != numbers.round()).any())):
        raise TableError(
            f"the target column {target!r} holds {distinct:,} different numbers: it looks like a measurement, and "
            "GenLabel is for classes"
        )
