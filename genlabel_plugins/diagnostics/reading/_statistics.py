"""Reading the files of Stata, SPSS and SAS by pyreadstat."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from genlabel_plugins.diagnostics.reading._libraries import library, pandas
from genlabel_plugins.diagnostics.reading._request import FileTable, Request
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

READERS = {
    "Stata": "read_dta",
    "SPSS": "read_sav",
    "SPSS portable": "read_por",
    "SAS": "read_sas7bdat",
    "SAS transport": "read_xport",
}
RECORD = 80  # bytes, in which SAS transport files are counted


def read_statistics(request: Request, kind: str) -> FileTable:
    """Columns whose values have labels are levels of these names.

    Args:
        request: A file that begins as its kind does.
        kind: A key of `READERS`.

    Raises:
        TableError: If the file cannot be read, or pyreadstat reads another number of rows than the file records.
        ModuleNotFoundError: Without `genlabel-plugins[formats]`.
    """
    pyreadstat = library("pyreadstat", f"files of {kind}")
    try:
        options = {"encoding": request.encoding} if request.encoding and kind != "SPSS portable" else {}
        frame, meta = getattr(pyreadstat, READERS[kind])(str(request.path), **options)
    except Exception as error:  # pyreadstat has its own kinds
        raise TableError(f"{request.name} is not readable as a file of {kind}: {brief(error)}") from error
    recorded = _transported_rows(request) if kind == "SAS transport" else meta.number_rows
    if recorded is not None and recorded != len(frame):
        raise TableError(
            f"{request.name} records {recorded} rows, of which pyreadstat reads {len(frame)}: save the table as CSV"
        )
    notes, partly = [], []
    for name, labels in meta.variable_value_labels.items():
        if not labels or name not in frame:
            continue
        if set(frame[name].dropna().unique()) <= labels.keys():
            frame[name] = _levels(frame[name], labels)
        else:
            partly.append(name)
    if partly:
        notes.append(f"Labels are not used where not every value has one: {', '.join(map(repr, partly))}.")
    return FileTable(frame, notes)


def _levels(column: pd.Series[Any], labels: dict[Any, str]) -> pd.Series[Any]:
    """Labels in place of values, which they keep beside them where two have the same."""
    occurs = Counter(labels.values())
    names = {value: label if occurs[label] == 1 else f"{label} ({value:g})" for value, label in labels.items()}
    categories = pandas().Categorical(column.map(names).astype(object), categories=list(names.values()))
    named: pd.Series[Any] = pandas().Series(categories, index=column.index)
    return named


def _transported_rows(request: Request) -> int | None:
    """Rows of a SAS transport file by its own records, an independent count; None where they cannot be counted.

    Version 8 writes the number down. Version 5 does not: what follows its last header is cut into rows, of which those
    of blanks at the end are none, since blanks fill the last record up.
    """
    raw = request.path.read_bytes()
    if len(re.findall(rb"HEADER RECORD\*{7}MEMB(?:ER |V8)", raw)) != 1:
        raise TableError(f"{request.name} holds several tables: save one of them")
    written = re.search(rb"HEADER RECORD\*{7}OBSV8   HEADER RECORD!{7}\s*(\d+)", raw)
    if written:
        return int(written[1])
    columns = re.search(rb"HEADER RECORD\*{7}NAMESTR HEADER RECORD!{7}\d{6}(\d{4})", raw)
    start = raw.find(b"HEADER RECORD*******OBS ")
    size = re.search(rb"HEADER RECORD\*{7}MEMBER  HEADER RECORD!{7}\d{26}(\d{4})", raw)
    if columns is None or size is None or start < 0:
        return None
    first, step = columns.start() + RECORD, int(size[1])  # of the descriptions of columns
    width = sum(
        int.from_bytes(raw[first + place * step + 4 : first + place * step + 6], "big")
        for place in range(int(columns[1]))
    )
    body = raw[start + RECORD :]
    n_rows = len(body) // width if width else 0
    return -(-len(body[: n_rows * width].rstrip(b" ")) // width) if width else 0
