"""Reading Parquet column by column: one that pandas cannot hold costs that column and not the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genlabel_plugins.diagnostics.reading._pandas import pandas
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

WRITERS_TYPES = b"ARROW:schema"  # key of the types that the writer had, beside those of Parquet


def read_parquet(path: Path, target: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Columns in the order of the file, under its names, and what was done.

    Args:
        path: A file that begins as Parquet does.
        target: Column whose integers keep their last digit where one is missing, which makes floats of the others.

    Raises:
        TableError: If pyarrow is not there or cannot read the file.
    """
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise TableError("reading Parquet needs pyarrow: pip install 'genlabel-plugins[cli]'") from error
    unknown_types = False
    try:
        try:
            table = pyarrow.parquet.ParquetFile(path).read()
        except NotImplementedError:  # a type that Arrow lacks: with the key out of sight, Parquet's own types are read
            raw = path.read_bytes().replace(WRITERS_TYPES, WRITERS_TYPES.lower())
            table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw)).read()
            unknown_types = True
        index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    except Exception as error:  # pyarrow has its own kinds
        raise TableError(f"{path.name} is not readable as Parquet: {brief(error)}") from error
    columns: dict[int, pd.Series[Any]] = {}
    names: list[str] = []
    notes = []
    for field, values in zip(table.schema, table.columns, strict=True):
        if field.name in index and field.name.startswith("__index_level_"):  # the index had no name
            continue
        try:
            if unknown_types and pyarrow.types.is_fixed_size_binary(field.type):
                raise TypeError(f"{8 * field.type.byte_width} bits each")
            column = values.to_pandas(integer_object_nulls=field.name.strip() == target)
        except Exception as error:  # pyarrow has its own kinds
            why = f"pandas cannot hold its values ({brief(error)})"
            if field.name.strip() == target:
                raise TableError(f"the target column {target!r} cannot be read: {why}") from error
            notes.append(f"Left out because {why}: {field.name!r}.")
            continue
        if isinstance(column.dtype, pandas().CategoricalDtype):
            column = column.cat.rename_categories(_as_text)
        elif "binary" in str(field.type):
            column = column.map(_as_text)
        columns[len(names)] = column
        names.append(field.name)
    frame: pd.DataFrame = pandas().DataFrame(columns)
    frame.columns = pandas().Index(names)
    of_index = [name for name in names if name in index]
    if of_index:
        notes.append(f"Taken from the index: {', '.join(map(repr, of_index))}.")
    return frame, notes


def _as_text(value: Any) -> Any:
    """Bytes as text, and anything else as it is."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
