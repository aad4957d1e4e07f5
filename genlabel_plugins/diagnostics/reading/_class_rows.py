"""Rows and classes of a table: which column is the target, which rows count."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genlabel_plugins.diagnostics.reading._files import MISSING, pandas
from genlabel_plugins.diagnostics.reading.labeled_table import MIN_ROWS_PER_CLASS, TableError

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 100
MANY_NUMBERS = 20  # distinct numbers in a target from which on they look like measurements


def class_labels(frame: pd.DataFrame, target: str) -> tuple[pd.Series[str], list[str]]:
    """Class of each row as text, missing where there is none, and what was done.

    Raises:
        TableError: If there is no such column, or it holds measurements or names instead of classes.
    """
    pd = pandas()
    labels = _target_column(frame, target)
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype(object)  # a category without rows is no class
    known = labels.dropna()
    if pd.api.types.is_datetime64_any_dtype(known):
        raise TableError(f"the target column {target!r} holds dates: it must hold classes")
    if known.map(lambda value: isinstance(value, list | dict | set | np.ndarray)).any():
        raise TableError(f"the target column {target!r} holds lists: it must hold one class per row")
    numbers = pd.to_numeric(known[~known.astype(str).str.strip().isin(MISSING)], errors="coerce")
    is_flag = known.map(pd.api.types.is_bool).all()
    if not is_flag and len(numbers) and np.isfinite(numbers.to_numpy(dtype="float64", na_value=np.nan)).all():
        labels = pd.to_numeric(labels, errors="coerce")  # words for missing values among numbers
        _check_numbers(numbers, target)
        whole = bool((numbers == numbers.round()).all())
        names = labels.map(lambda value: None if pd.isna(value) else str(int(value)) if whole else str(value))
    else:
        names = labels.map(lambda value: None if pd.isna(value) else str(value).strip() or None)
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
    odd = sorted(set(names.dropna()) & set(MISSING))
    if odd:
        notes.append(f"Taken for a class of {target!r}, though it may stand for none: {', '.join(map(repr, odd))}.")
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
        hint = ""
        if all(_is_number(name) for name in columns):
            hint = "; the first line holds numbers where names of columns belong"
        raise TableError(f"there is no column {target!r}: {kind} {listed}{hint}")
    if f"{target} (2)" in columns:
        raise TableError(f"the name of the target column {target!r} stands above more than one column")
    return frame[target]


def _check_numbers(numbers: pd.Series[Any], target: str) -> None:
    distinct = numbers.nunique()
    few_rows_each = len(numbers) < 10 * distinct
    if distinct > MANY_NUMBERS and (few_rows_each or bool((numbers != numbers.round()).any())):
        raise TableError(
            f"the target column {target!r} holds {distinct:,} different numbers: it looks like a measurement, and "
            "GenLabel is for classes"
        )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
