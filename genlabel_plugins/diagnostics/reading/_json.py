"""Reading JSON, whole or line by line, in any of the shapes that pandas and others write."""

from __future__ import annotations

import json
from typing import Any

from genlabel_plugins.diagnostics.reading._request import FileTable, Request, column_of, decode, frame_of
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief


def read_json(request: Request) -> FileTable:
    """Rows as objects, one after the other or one a line, columns of values, or columns and rows apart.

    Raises:
        TableError: If the text is no JSON, or no table.
    """
    text = decode(request.path.read_bytes(), request.encoding, request.name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    number = 0
    try:
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            if len(lines) < 2:
                raise
            json.loads(lines[0][1])  # else it is one text, and damaged
            value = []
            for number, line in lines:  # noqa: B007
                value.append(json.loads(line))
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {number} " if number else ""
        raise TableError(f"{request.name} is not readable as JSON: {where}{brief(error)}") from error
    columns = _columns(value, request.target)
    if not columns:
        raise TableError(f"{request.name} is JSON, but no table: write one object a row, [{{...}}, {{...}}]")
    return FileTable(
        frame_of(
            list(columns),
            [column_of(column, as_text=name.strip() == request.target) for name, column in columns.items()],
        ),
        [],
    )


def _columns(value: Any, target: str | None) -> dict[str, list[Any]]:
    """Columns by name; none where there is no table."""
    if isinstance(value, dict) and isinstance(value.get("data"), list) and isinstance(value.get("columns"), list):
        value = [dict(zip(map(str, value["columns"]), row, strict=False)) for row in value["data"]]  # "split" of pandas
    if isinstance(value, dict):
        tables = [inner for inner in value.values() if _is_rows(inner)]
        if len(tables) == 1:  # among what is said about it
            value = tables[0]
    if _is_rows(value):
        names = dict.fromkeys(str(name) for row in value for name in row)
        return {name: [row.get(name) for row in value] for name in names}
    if not isinstance(value, dict) or not value:
        return {}
    inner = list(value.values())
    if all(isinstance(column, list) for column in inner) and len({len(column) for column in inner}) == 1:
        return {str(name): column for name, column in value.items()}
    if not all(isinstance(column, dict) for column in inner):
        return {}
    if target in value or not any(target in column for column in inner):
        rows = dict.fromkeys(row for column in inner for row in column)  # "columns" of pandas
        return {str(name): [column.get(row) for row in rows] for name, column in value.items()}
    return _columns(inner, target)  # "index" of pandas


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
