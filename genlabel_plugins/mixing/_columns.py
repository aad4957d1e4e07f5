"""Columns of a table: numbers that are mixed, and categories of which one of two is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A table as numbers and codes, and the way back.

    Attributes:
        numbers: Columns of floating point and integer numbers, shape `(N, P)`, float64.
        integer: Which of these hold integers, shape `(P,)`.
        codes: Columns of categories, shape `(N, K)`.
        extend: The table with new rows at its end, in its own dtypes: from numbers `(M, P)` and, for each category,
            the row that it is taken from, `(M, K)`.
    """

    numbers: NDArray[np.float64]
    integer: NDArray[np.bool_]
    codes: NDArray[np.int64]
    extend: Callable[[NDArray[np.float64], NDArray[np.int64]], Any]

    @property
    def cardinality(self) -> list[int]:
        """Number of categories of each column of codes."""
        return [int(column.max()) + 1 for column in self.codes.T]


def read_columns(X: Any) -> Columns:
    """Read an array, or a frame of pandas, polars or another library that narwhals knows.

    In a frame, columns of booleans, texts and categories are categories. An array is of one kind.

    Raises:
        ValueError: On missing values, and on columns that are neither numbers nor categories, naming the column.
    """
    if hasattr(X, "columns"):
        dtypes = dict(zip(X.columns, X.dtypes, strict=True)) if hasattr(X, "dtypes") else {}
        dense = {name: dtype.subtype for name, dtype in dtypes.items() if hasattr(dtype, "fill_value")}
        if dense:  # pandas' sparse columns
            columns = _read_frame(X.astype(dense))
            return replace(columns, extend=lambda numbers, source: columns.extend(numbers, source).astype(X.dtypes))
        return _read_frame(X)
    table = np.asarray(X)
    table = table if table.dtype.kind == "b" else check_array(X, dtype="numeric")
    empty = np.empty((len(table), 0))
    if table.dtype.kind == "b":
        return Columns(
            numbers=empty,
            integer=np.empty(0, dtype=bool),
            codes=table.astype(np.int64),
            extend=lambda numbers, source: np.concatenate([table, np.take_along_axis(table, source, 0)]),
        )
    integer = np.full(table.shape[1], np.issubdtype(table.dtype, np.integer))
    return Columns(
        numbers=table.astype(np.float64),
        integer=integer,
        codes=empty.astype(np.int64),
        extend=lambda numbers, source: np.concatenate([table, numbers.astype(table.dtype)]),
    )


def _read_frame(X: Any) -> Columns:
    nw = _narwhals()
    frame = nw.from_native(X, eager_only=True)
    numeric, categorical = [], []
    for name in frame.columns:
        column = frame[name]
        if column.null_count() or (column.dtype.is_float() and column.is_nan().any()):
            raise ValueError(f"X must have no missing values, got some in column {name!r}: impute them first")
        if column.dtype.is_numeric() and not column.dtype.is_decimal():
            numeric.append(name)
        elif isinstance(column.dtype, nw.Boolean | nw.String | nw.Categorical | nw.Enum | nw.Object):
            categorical.append(name)
        else:
            raise ValueError(
                f"X must hold numbers, booleans, texts or categories, got {column.dtype} in column {name!r}"
            )
    numbers = [check_array(frame[name].to_numpy()[:, None], dtype=np.float64, input_name=name) for name in numeric]
    codes = [_codes(frame[name].to_list()) for name in categorical]
    integer = np.array([frame[name].dtype.is_integer() for name in numeric], dtype=bool)

    def extend(new_numbers: NDArray[np.float64], source: NDArray[np.int64]) -> Any:
        values = dict(zip(numeric, new_numbers.T, strict=True))
        rows = dict(zip(categorical, source.T, strict=True))
        new = [
            nw.new_series(name, values[name], frame[name].dtype, backend=frame.implementation)
            if name in values
            else nw.maybe_reset_index(frame[name][rows[name]])
            for name in frame.columns
        ]
        both = nw.concat([frame, nw.maybe_reset_index(new[0].to_frame().with_columns(*new[1:]))])
        return nw.to_native(nw.maybe_reset_index(both))

    return Columns(
        numbers=np.concatenate([np.empty((len(frame), 0)), *numbers], 1),
        integer=integer,
        codes=np.stack(codes, 1) if codes else np.empty((len(frame), 0), dtype=np.int64),
        extend=extend,
    )


def class_names(y: Any) -> NDArray[Any]:
    """Names of the classes, `(N,)`, or of one-hot rows, `(N, C)`, the columns."""
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        names: NDArray[Any] = column_or_1d(y)
        return names
    one_hot = np.asarray(y)
    if (one_hot.sum(1) != 1).any():
        raise ValueError("y must hold one class a row: multilabel and multioutput targets are not supported")
    columns: NDArray[np.int64] = one_hot.argmax(1)
    return columns


def take_labels(y: Any, rows: NDArray[np.int64]) -> Any:
    """Labels at rows, in the type and dtype of `y`: an array, a list, a series or a frame of pandas or polars."""
    if isinstance(y, list):
        return [y[row] for row in rows]
    if isinstance(y, np.ndarray) or not (hasattr(y, "dtype") or hasattr(y, "columns")):
        return np.asarray(y)[rows]
    nw = _narwhals()
    return nw.to_native(nw.maybe_reset_index(nw.from_native(y, allow_series=True, eager_only=True)[rows]))


def _codes(values: list[Any]) -> NDArray[np.int64]:
    place = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return np.array([place[value] for value in values])


def _narwhals() -> Any:
    try:
        import narwhals.stable.v2 as nw  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "narwhals":
            raise
        raise ModuleNotFoundError("frames and series need narwhals: pip install 'genlabel-plugins[frames]'") from error
    return nw
