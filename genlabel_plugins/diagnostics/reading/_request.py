"""What a reader is asked and what it answers; every format has a reader of these types."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading.labeled_table import TableError

if TYPE_CHECKING:
    import pandas as pd


class Request(NamedTuple):
    """A file, and how to read it.

    Attributes:
        path: Of the plain file, unpacked where it was packed.
        name: What errors call the file.
        target: Column whose values are names, so that no digit of them is lost and a word such as "None" is one.
        encoding: Of a text file.
        sheet: Of a spreadsheet.
        header: Whether the first line names the columns.
    """

    path: Path
    name: str
    target: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    header: bool = True


class FileTable(NamedTuple):
    """A table as a file holds it.

    Attributes:
        frame: The table.
        notes: What was done to read it, a sentence each.
        code: How a script reads it by pandas alone; empty where that gives another table.
    """

    frame: pd.DataFrame
    notes: list[str]
    code: str = ""


def frame_of(names: Sequence[str], columns: Sequence[Any]) -> pd.DataFrame:
    """A frame of columns whose names may repeat."""
    frame: pd.DataFrame = pandas().DataFrame(dict(enumerate(columns)))
    frame.columns = pandas().Index([str(name) for name in names], dtype=object)
    return frame


def column_of(values: Sequence[Any], *, as_text: bool = False) -> Any:
    """Values of Python as numbers, dates, truth values or text, whichever all of them are; a target as it stands."""
    column = pandas().Series(list(values), dtype=object)
    return column if as_text else column.infer_objects()


def numbered(n_columns: int) -> list[str]:
    """Names of columns that have none, as R and OpenML call them.

    Example:
        >>> numbered(3)
        ['V1', 'V2', 'V3']
    """
    return [f"V{place + 1}" for place in range(n_columns)]


def decode(raw: bytes, encoding: str | None, name: str) -> str:
    """Bytes of a file as text: UTF-8, with a byte-order mark UTF-16 or UTF-32, and Latin-1 where neither fits."""
    marked = encoding_of(raw)
    for guess in [encoding] if encoding else [marked] if marked else ["utf-8-sig", "latin-1"]:
        try:
            return raw.decode(guess)
        except UnicodeDecodeError:
            continue
    raise TableError(f"{name} is not written in {encoding or marked}: choose another --encoding")


def encoding_of(start: bytes) -> str | None:
    """What a byte-order mark says."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # begins as UTF-16 does
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return None
