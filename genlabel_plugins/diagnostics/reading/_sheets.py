"""Reading spreadsheets, those of Excel and of OpenDocument, by python-calamine."""

from __future__ import annotations

import datetime
import io
from typing import Any

from genlabel_plugins.diagnostics.reading._libraries import library
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, column_of, frame_of, numbered
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

Rows = list[list[Any]]
SHOWN = 10  # columns of a sheet, where the one asked for is in none


def read_spreadsheet(request: Request) -> FileTable:
    """The sheet that is named, else the only one that is not empty, else the first that has the target among its names.

    The first row with more than one value names the columns; what stands above it is a title.

    Raises:
        TableError: If there is no such sheet or the file cannot be read.
        ModuleNotFoundError: Without `genlabel-plugins[formats]`.
    """
    calamine = library("python_calamine", "spreadsheets")
    try:
        book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(request.path.read_bytes()))  # by content, not by name
        names = list(book.sheet_names)
        wanted = [_named(request, names)] if request.sheet is not None else names
        sheets = {name: _table_in(book.get_sheet_by_name(name).to_python()) for name in wanted}
    except calamine.PasswordError as error:
        raise TableError(f"{request.name} is protected by a password: save it without one") from error
    except calamine.CalamineError as error:
        raise TableError(f"{request.name} is not readable as a spreadsheet: {brief(error)}") from error
    filled = {name: rows for name, rows in sheets.items() if rows}
    if not filled:
        which = "" if request.sheet is None else f", sheet {next(iter(sheets))!r},"
        raise TableError(f"{request.name}{which} is empty")
    notes = []
    headers = {name: _words(rows[0]) if request.header else numbered(len(rows[0])) for name, rows in filled.items()}
    chosen = next((name for name, header in headers.items() if request.target in header), next(iter(filled)))
    if len(filled) > 1:
        if request.target is not None and request.target not in headers[chosen]:
            found = "; ".join(f"{name!r} has {_listed(header)}" for name, header in headers.items())
            raise TableError(f"no sheet of {request.name} has a column {request.target!r}: {found}")
        others = ", ".join(repr(name) for name in filled if name != chosen)
        notes.append(f"Read from sheet {chosen!r}, not from {others} (--sheet).")
    rows = filled[chosen]
    header = headers[chosen]
    rows = rows[1:] if request.header else rows
    columns = list(zip(*rows, strict=True)) or [() for _ in header]
    kept = [place for place, name in enumerate(header) if name or any(map(_is_filled, columns[place]))]
    return FileTable(
        frame_of(
            [header[place] or "unnamed" for place in kept],
            [_column(columns[place], is_target=header[place] == request.target) for place in kept],
        ),
        notes,
    )


def _named(request: Request, names: list[str]) -> str:
    """The sheet of this name, or at this place counted from one."""
    sheet = str(request.sheet)
    if sheet in names:
        return sheet
    if sheet.isdecimal() and 0 < int(sheet) <= len(names):
        return names[int(sheet) - 1]
    raise TableError(f"{request.name} has no sheet {sheet!r}: there are {', '.join(map(repr, names))}")


def _table_in(rows: Rows) -> Rows:
    """Rows from the one that names the columns on, without those that are empty."""
    rows = [row for row in rows if any(map(_is_filled, row))]
    widths = [sum(map(_is_filled, row)) for row in rows]
    start = next((place for place, width in enumerate(widths) if width > 1), 0)
    return rows[start:]


def _listed(header: list[str]) -> str:
    return ", ".join(map(repr, header[:SHOWN])) + ", ..." * (len(header) > SHOWN)


def _words(row: list[Any]) -> list[str]:
    return [str(_whole(value)).strip() for value in row]


def _column(values: tuple[Any, ...], *, is_target: bool) -> Any:
    """Cells as numbers or dates where all are, else as text beside numbers."""
    cells = [_whole(value) if _is_filled(value) else None for value in values]
    return column_of(cells, as_text=is_target and not any(isinstance(cell, datetime.datetime) for cell in cells))


def _whole(value: Any) -> Any:
    """A cell: a whole number is an integer, since spreadsheets know but floats, and a day is its first moment."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    is_day = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return datetime.datetime.combine(value, datetime.time()) if is_day else value


def _is_filled(value: Any) -> bool:
    return value is not None and value != ""
