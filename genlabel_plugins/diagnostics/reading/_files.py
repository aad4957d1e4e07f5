"""Reading a table from a file: CSV, also compressed, Parquet and ARFF."""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from genlabel_plugins.diagnostics.reading._arff import read_arff
from genlabel_plugins.diagnostics.reading._pandas import pandas
from genlabel_plugins.diagnostics.reading._parquet import read_parquet
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst", ".tar")  # names from which pandas infers a compression
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
NO_CLASS = ("", "?", "NaN", "nan", "-nan", "#N/A", "<NA>")  # other words of MISSING may name a class
MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>")
THOUSANDS = r"-?[1-9]\d{0,2},\d{3}$"


class FileTable(NamedTuple):
    """A table as a file holds it.

    Attributes:
        frame: The table.
        notes: What was done to read it, a sentence each.
        code: How a script reads it by pandas alone; empty where that gives another table.
    """

    frame: pd.DataFrame
    notes: list[str]
    code: str


def read_table(path: str | Path, *, target: str | None = None, encoding: str | None = None) -> FileTable:
    """Read a file whose first line names the columns.

    Args:
        path: File; its first bytes tell gzip and Parquet, its name ARFF, and anything else is text.
        target: Column in which words such as "None" are names of classes, not missing values.
        encoding: Of a text file; by default UTF-8, and Latin-1 where that fails.

    Raises:
        TableError: If the file cannot be read, saying why in one sentence.
        ModuleNotFoundError: Without `genlabel-plugins[cli]`.
    """
    path = Path(path)
    start = _first_bytes(path)
    if start.startswith(PARQUET):
        table = FileTable(*read_parquet(path, target), f"pd.read_parquet({path.name!r})")
    elif start.startswith(ZIP):
        raise TableError(f"{path.name} is a ZIP archive or a spreadsheet: save the table as CSV first")
    elif ".arff" in (suffix.lower() for suffix in path.suffixes[-2:]):
        with _sentences(path), _open(path, "rb") as file:
            text = _decode(file.read(), encoding)
        table = FileTable(*read_arff(text, path.name, target), "")
    elif path.suffix.lower() in (".parquet", ".pq"):
        raise TableError(f"{path.name} is not a Parquet file: it does not begin with PAR1")
    else:
        table = _read_csv(path, target, encoding)
    frame, notes = table.frame, list(table.notes)
    if frame.empty:
        raise TableError(
            f"{path.name} has {len(frame)} rows and {frame.shape[1]} columns: there is nothing to diagnose"
        )
    given = [str(name).strip() for name in frame.columns]
    if target is not None and given.count(target) > 1:
        raise TableError(f"the name of the target column {target!r} stands above more than one column")
    names, renamed = distinct_names(given)
    code = table.code if names == list(frame.columns) else ""
    frame.columns = pandas().Index(names)
    return FileTable(frame, notes + renamed, code)


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


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise TableError(f"there is no file {str(path)!r}")
    if path.is_dir():
        raise TableError(f"{str(path)!r} is a folder: name a file in it")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise TableError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if not start:
        raise TableError(f"{path.name} is empty")
    return start


def _read_csv(path: Path, target: str | None, encoding: str | None) -> FileTable:
    with _open(path, "rb") as file, _sentences(path):
        start = file.read(65_536)
    if not start:
        raise TableError(f"{path.name} is empty")
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # begins as UTF-16 does
        encoding = encoding or "utf-32"
    elif start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = encoding or "utf-16"
    with _sentences(path):
        is_binary = "\0" in start.decode(encoding or "latin-1", "ignore")
    if is_binary:
        hint = f" in {encoding}" if encoding else ", unless in UTF-16 without a mark (--encoding utf-16-le)"
        raise TableError(f"{path.name} is not a text file{hint}: it must be CSV, Parquet or ARFF")
    with _sentences(path):
        try:
            return _parse(path, target, encoding or "utf-8-sig")
        except UnicodeDecodeError as error:
            if encoding:
                raise TableError(
                    f"{path.name} is not written in {encoding}: byte {error.start} cannot be read, choose another "
                    "--encoding"
                ) from error
        table = _parse(path, target, "latin-1")
    note = "The file is not UTF-8 and was read as Latin-1: letters with accents in names may look wrong (--encoding)."
    return FileTable(table.frame, [*table.notes, note], "")


def _parse(path: Path, target: str | None, encoding: str) -> FileTable:
    with _open(path, "rt", encoding=encoding, newline="") as file:
        line = next((line for line in file if line.strip()), "")
        separator = max(SEPARATORS, key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))
        file.seek(0)
        records = csv.reader(file, delimiter=separator)
        header: list[str] = next((record for record in records if any(map(str.strip, record))), [])
        if not header:
            raise TableError(f"{path.name} holds no line of text")
    names = [name.strip() or "unnamed" for name in header]
    notes = []
    if separator != ",":
        notes.append(f"Columns are separated by {SEPARATORS[separator]}.")
    options: dict[str, Any] = {
        "sep": separator,
        "names": range(len(header)),  # which are distinct
        "header": 0,
        "index_col": False,
        "keep_default_na": False,
        "na_values": {i: list(NO_CLASS if name == target else MISSING) for i, name in enumerate(names)},
        "dtype": {i: str for i, name in enumerate(names) if name == target},  # "01" and "1" are two classes
        "skipinitialspace": True,
        "low_memory": False,
    }
    pandas_ = pandas()
    # Ends of lines are made one first: over unusual ones the parser of pandas can go astray.
    with _open(path, "rt", encoding=encoding) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pandas_.errors.ParserWarning)  # columns that would be cut off
        frame: pd.DataFrame = pandas_.read_csv(file, **options)
        if separator != ",":
            file.seek(0)
            commas = pandas_.read_csv(file, decimal=",", **options)
            gained = set(_texts(frame)) - set(_texts(commas))
            if not all(frame[name].dropna().str.match(THOUSANDS).all() for name in gained):
                frame = commas
                notes.append("Numbers are written with a decimal comma.")
    frame.columns = pandas_.Index(names)
    is_plain = names == header and separator == "," and encoding == "utf-8-sig" and _is_named_as_packed(path)
    return FileTable(frame, notes, f"pd.read_csv({path.name!r})" if is_plain else "")


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading text into one sentence."""
    try:
        yield
    except (TableError, UnicodeDecodeError):
        raise
    except LookupError as error:
        raise TableError(f"there is no encoding of that name: {brief(error)}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{path.name} is a damaged gzip file: {brief(error)}") from error
    except OSError as error:
        raise TableError(f"{path.name} cannot be read: {brief(error)}") from error
    except (ValueError, csv.Error, Warning) as error:  # parser errors of pandas are ValueErrors
        if isinstance(error, Warning) or "Expected" in str(error):
            where = re.search(r"in line (\d+)", str(error))
            which = f"line {where[1]}" if where else "a line"
            raise TableError(
                f"{path.name} is not readable as CSV: {which} has more values than the first line, which must name the "
                "columns"
            ) from error
        raise TableError(f"{path.name} is not readable as CSV: {brief(error)}") from error


def _texts(frame: pd.DataFrame) -> list[int]:
    """Columns read as text, whatever this version of pandas makes of it."""
    return list(frame.select_dtypes(exclude=["number", "bool"]).columns)


def _decode(raw: bytes, encoding: str | None) -> str:
    for name in [encoding] if encoding else ["utf-8-sig", "latin-1"]:
        try:
            return raw.decode(name)
        except UnicodeDecodeError:
            continue
    raise TableError(f"the file is not written in {encoding}: choose another --encoding")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


def _is_named_as_packed(path: Path) -> bool:
    """Whether pandas, which goes by the name, unpacks the file as its content asks."""
    name = path.name.lower()
    return name.endswith(".gz") and not name.endswith(".tar.gz") if _is_gzip(path) else not name.endswith(PACKED)


def _open(path: Path, mode: Any, **options: Any) -> IO[Any]:
    opener: Any = gzip.open if _is_gzip(path) else open
    opened: IO[Any] = opener(path, mode, **options)
    return opened
