"""Reading a table from a file of any kind, or from where scikit-learn fetches it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from genlabel_plugins.diagnostics.reading._fetched import OPENML, SKLEARN, read_fetched
from genlabel_plugins.diagnostics.reading._kinds import kind_of
from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading._request import FileTable, Request
from genlabel_plugins.diagnostics.reading._unpacking import SUFFIX, first_bytes, packing, unpacked
from genlabel_plugins.diagnostics.reading.labeled_table import TableError


def read_table(
    path: str | Path,
    *,
    target: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    header: bool = True,
) -> FileTable:
    """Read a file, also one that is packed.

    Args:
        path: File, whose first bytes tell its kind, and its name where they do not; or `sklearn:wine`, `openml:61`.
        target: Column in which words such as "None" are names of classes, not missing values.
        encoding: Of a text file; by default UTF-8, and Latin-1 where that fails.
        sheet: Of a spreadsheet, by name or by place counted from 1; by default the one that holds the target.
        header: Whether the first line of text or of a sheet names the columns; else they are called V1, V2, ...

    Raises:
        TableError: If the file cannot be read, saying why in one sentence.
        ModuleNotFoundError: If a library is missing, naming the extra that brings it.
    """
    pandas()  # whose absence is said before that of others
    if str(path).startswith((OPENML, SKLEARN)):
        table = read_fetched(str(path))
    else:
        table = _read_file(Request(Path(path), Path(path).name, target, encoding, sheet, header))
    name, frame, notes = Path(path).name, table.frame, list(table.notes)
    if frame.empty:
        raise TableError(f"{name} has {len(frame)} rows and {frame.shape[1]} columns: there is nothing to diagnose")
    given = [str(column).strip() for column in frame.columns]
    if target is not None and given.count(target) > 1:
        raise TableError(f"the name of the target column {target!r} stands above more than one column")
    names, renamed = distinct_names(given)
    code = table.code if names == list(frame.columns) else ""
    frame.columns = pandas().Index(names)
    return FileTable(frame, notes + renamed, code)


def _read_file(request: Request) -> FileTable:
    start = first_bytes(request.path, request.name)
    with unpacked(request) as plain:
        kind = kind_of(plain)
        if request.sheet is not None and not kind.has_sheets:
            raise TableError(f"{request.name} is not a spreadsheet but {kind.name}: leave --sheet out")
        if not request.header and not kind.may_lack_header:
            raise TableError(f"{request.name} is {kind.name}, which names its columns: leave --no-header out")
        table = kind.read(plain)
        is_packed = plain.path != request.path
    named = next((how for how, suffix in SUFFIX.items() if request.path.suffix.lower() == suffix), None)
    # pandas goes by the name, knows tar beside, and of what is packed reads CSV alone; zstd needs one more library.
    is_alike = (
        named == (packing(start) if is_packed else None) and named != "zstd" and ".tar" not in request.name.lower()
    )
    readable = is_alike and (not is_packed or table.code.startswith("pd.read_csv"))
    return table if readable else table._replace(code="")


def distinct_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Number the repetitions of a name, and say so.

    Example:
        >>> distinct_names(["a", "b", "a"])
        (['a', 'b', 'a (2)'], ["The name 'a' stands above 2 columns: the later ones are called 'a (2)'."])
    """
    taken, distinct = set(names), []
    later: dict[str, list[str]] = {}  # what the repetitions of each name are called
    for name in names:
        if name not in later:
            later[name] = []
            distinct.append(name)
            continue
        numbered = (f"{name} ({number})" for number in itertools.count(len(later[name]) + 2))
        distinct.append(next(other for other in numbered if other not in taken))
        later[name].append(distinct[-1])
        taken.add(distinct[-1])
    notes = [
        f"The name {name!r} stands above {len(others) + 1} columns: the later ones are called {others[0]!r}"
        f"{' and so on' if len(others) > 1 else ''}."
        for name, others in later.items()
        if others
    ]
    return distinct, notes
