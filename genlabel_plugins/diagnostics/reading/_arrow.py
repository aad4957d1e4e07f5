"""Reading Parquet, Feather, Arrow and ORC column by column: one that pandas cannot hold costs itself, not the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genlabel_plugins.diagnostics.reading._libraries import library, pandas
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, frame_of
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

WRITERS_TYPES = b"ARROW:schema"  # key of the types that the writer had, beside those of Parquet
PANDAS_READS = {"Parquet": "read_parquet", "Feather": "read_feather", "ORC": "read_orc"}


def read_arrow(request: Request, kind: str) -> FileTable:
    """Columns in the order of the file, under its names; integers of the target keep their last digit.

    Args:
        request: A file that begins as its kind does.
        kind: "Parquet", "Feather", which Arrow's files are too, "Arrow stream" or "ORC".

    Raises:
        TableError: If pyarrow cannot read the file.
        ModuleNotFoundError: Without `genlabel-plugins[cli]`.
    """
    try:
        table, unknown_types = _arrow_table(request, kind)
        index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    except ModuleNotFoundError:
        raise
    except Exception as error:  # pyarrow has its own kinds
        raise TableError(f"{request.name} is not readable as {kind}: {brief(error)}") from error
    columns: list[pd.Series[Any]] = []
    names: list[str] = []
    notes = []
    for field, values in zip(table.schema, table.columns, strict=True):
        if field.name in index and field.name.startswith("__index_level_"):  # the index had no name
            continue
        is_target = field.name.strip() == request.target
        try:
            if unknown_types and str(field.type).startswith("fixed_size_binary"):
                raise TypeError(f"{8 * field.type.byte_width} bits each")
            column = values.to_pandas(integer_object_nulls=is_target)
        except Exception as error:  # pyarrow has its own kinds
            why = f"pandas cannot hold its values ({brief(error)})"
            if is_target:
                raise TableError(f"the target column {request.target!r} cannot be read: {why}") from error
            notes.append(f"Left out because {why}: {field.name!r}.")
            continue
        if isinstance(column.dtype, pandas().CategoricalDtype):
            column = column.cat.rename_categories(_as_text)
        elif "binary" in str(field.type):
            column = column.map(_as_text)
        columns.append(column)
        names.append(field.name)
    of_index = [name for name in names if name in index]
    if of_index:
        notes.append(f"Taken from the index: {', '.join(map(repr, of_index))}.")
    reader = PANDAS_READS.get(kind)
    return FileTable(frame_of(names, columns), notes, f"pd.{reader}({request.name!r})" if reader else "")


def _arrow_table(request: Request, kind: str) -> tuple[Any, bool]:
    """A table, and whether it holds types that Arrow lacks."""
    pyarrow = library("pyarrow", kind, "cli")
    if kind == "ORC":
        return library("pyarrow.orc", kind, "cli").read_table(request.path), False
    if kind == "Feather":
        return library("pyarrow.feather", kind, "cli").read_table(request.path), False
    if kind == "Arrow stream":
        with pyarrow.OSFile(str(request.path)) as file:
            return pyarrow.ipc.open_stream(file).read_all(), False
    parquet = library("pyarrow.parquet", kind, "cli")
    try:
        return parquet.ParquetFile(request.path).read(), False
    except NotImplementedError:  # a type that Arrow lacks: with the key out of sight, Parquet's own types are read
        raw = request.path.read_bytes().replace(WRITERS_TYPES, WRITERS_TYPES.lower())
        return parquet.ParquetFile(pyarrow.BufferReader(raw)).read(), True


def _as_text(value: Any) -> Any:
    """Bytes as text, and anything else as it is."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
