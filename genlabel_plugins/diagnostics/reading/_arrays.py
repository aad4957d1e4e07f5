"""Reading arrays: NumPy's .npz and .npy, MATLAB's .mat, and svmlight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_svmlight_file

from genlabel_plugins.diagnostics.reading._child import ChildDied, in_child
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, column_of, frame_of, numbered
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

SVMLIGHT = re.compile(
    rb"(\s*#[^\n]*\n)*[-+]?[\d.eE+-]+([ \t]+qid:\d+)?([ \t]+\d+:[-+.\deEnaif]+)+[ \t]*([ \t]\d*:?$|#|[\r\n]|$)"
)
MAX_DENSE = 2**28  # numbers, 2 GiB


def read_numpy(request: Request) -> FileTable:
    """Arrays whose first dimension is that of the target, each a column or several.

    Raises:
        TableError: If there is no target among the arrays or they cannot be read.
    """
    try:
        loaded = np.load(request.path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = (
                {"V": loaded} if loaded.dtype.names is None else {name: loaded[name] for name in loaded.dtype.names}
            )
        else:
            arrays = {name: loaded[name] for name in loaded.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise TableError(
                f"{request.name} holds Python objects, which could run code when read: save numbers and text alone"
            ) from error
        raise TableError(f"{request.name} is not readable as a file of NumPy: {brief(error)}") from error
    except Exception as error:  # whatever a damaged file brings about
        raise TableError(f"{request.name} is not readable as a file of NumPy: {brief(error)}") from error
    return _beside_target(arrays, request)


def read_matlab(request: Request) -> FileTable:
    """Variables whose first dimension is that of the target; fields of a structure are called `structure.field`.

    Raises:
        TableError: If there is no target among the variables or they cannot be read.
    """
    try:
        # Damaged sizes make the reader ask for more memory than there is.
        loaded = in_child("load_mat", str(request.path), size=request.path.stat().st_size)
    except ChildDied as error:
        raise TableError(f"{request.name} is damaged: the reader of MATLAB's files breaks down on it") from error
    except Exception as error:  # whatever a damaged file brings about
        raise TableError(f"{request.name} is not readable as a file of MATLAB: {brief(error)}") from error
    arrays: dict[str, Any] = {}
    for name, value in loaded.items():
        if isinstance(value, dict):
            arrays.update({f"{name}.{field}": inner for field, inner in value.items()})
        elif not name.startswith("__"):
            arrays[name] = value
    return _beside_target({name: np.asarray(value) for name, value in arrays.items()}, request)


def read_svmlight(request: Request) -> FileTable:
    """Columns V1, V2, ... and the `target`, which stands first in each line.

    Raises:
        TableError: If the file cannot be read, or memory would not hold it as a table.
    """
    try:
        x, target = load_svmlight_file(str(request.path))
    except Exception as error:  # whatever a damaged file brings about
        raise TableError(f"{request.name} is not readable as svmlight: {brief(error)}") from error
    if x.shape[0] * x.shape[1] > MAX_DENSE:
        raise TableError(
            f"{request.name} has {x.shape[0]:,} rows and {x.shape[1]:,} columns, mostly zeros: choose fewer columns"
        )
    return FileTable(frame_of([*numbered(x.shape[1]), "target"], [*x.toarray().T, target]), [])


def _beside_target(arrays: Mapping[str, np.ndarray], request: Request) -> FileTable:
    """One column for each array of one dimension, several for one of more; arrays of other lengths are left out."""
    sizes = {name: len(array) for name, array in arrays.items() if array.ndim}
    if not sizes:
        raise TableError(f"{request.name} holds no arrays")
    n_rows = sizes.get(request.target or "", max(sizes.values()))
    names: list[str] = []
    columns: list[Any] = []
    for name, array in arrays.items():
        if sizes.get(name) != n_rows:
            continue
        flat = array.reshape(n_rows, -1).T
        names += [name] if len(flat) == 1 and name != "V" else [f"{name}{place + 1}" for place in range(len(flat))]
        columns += [column_of(column.tolist()) if column.dtype.kind in "OSU" else column for column in flat]
    others = [name for name in arrays if sizes.get(name) != n_rows]
    notes = [f"Left out because they have other than {n_rows} rows: {', '.join(map(repr, others))}."] if others else []
    return FileTable(frame_of(names, [_decoded(column) for column in columns]), notes)


def _decoded(column: Any) -> Any:
    """Text in place of bytes."""
    if column.dtype.kind != "O":
        return column
    return column.map(lambda value: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value)
