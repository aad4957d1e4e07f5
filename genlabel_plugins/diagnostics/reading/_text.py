"""Reading text whose values stand between marks: CSV and its kin."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from genlabel_plugins.diagnostics.reading._child import ChildDied, in_child
from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading._orange import OrangeHeader, orange_header, typed
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, encoding_of, numbered
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

BLANKS = " "  # however many
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", BLANKS: "blanks"}
SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?\s*$', re.IGNORECASE)  # as Excel writes and reads it
NO_CLASS = ("", "?", "NaN", "nan", "-nan", "#N/A", "<NA>")  # other words of MISSING may name a class
MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>")
THOUSANDS = r"-?[1-9]\d{0,2},\d{3}$"
N_SEEN = 20  # lines by which a layout is judged
MOST_ABOVE, MOST_LETTERS = 1000, 1 << 22  # that are looked through for the first of them


class Layout(NamedTuple):
    """How the values lie in a text.

    Attributes:
        separator: Mark between values.
        header: Words that name the columns.
        width: Values in a line.
        n_above: Lines above the first row.
        comments: Lines below that, from zero, which are comments.
        orange: Kinds and roles of the columns, where the file has the header of Orange.
        row_names: Whether each row begins with its name, as R writes it, above which the header has no word.
        odd: The first line, from one, that is no row of as many values, and why.
    """

    separator: str
    header: list[str]
    width: int
    n_above: int
    comments: list[int]
    orange: OrangeHeader | None
    row_names: bool
    odd: str


def read_text(request: Request) -> FileTable:
    """A table whose first line names the columns, in UTF-8, else Latin-1.

    Raises:
        TableError: If the text is no such table.
    """
    with request.path.open("rb") as file:
        start = file.read(65_536)
    encoding = request.encoding or encoding_of(start)
    with _sentences(request.name):
        is_binary = "\0" in start.decode(encoding or "latin-1", "ignore")
    if is_binary:
        hint = f" in {encoding}" if encoding else ", unless in UTF-16 without a mark (--encoding utf-16-le)"
        raise TableError(
            f"{request.name} is not a text file{hint}, nor of any other kind that is read: save the table as CSV"
        )
    with _sentences(request.name):
        try:
            return _parse(request, encoding or "utf-8-sig")
        except UnicodeDecodeError as error:
            if encoding:
                raise TableError(
                    f"{request.name} is not written in {encoding}: byte {error.start} cannot be read, choose another "
                    "--encoding"
                ) from error
        table = _parse(request, "latin-1")
    note = "The file is not UTF-8 and was read as Latin-1: letters with accents in names may look wrong (--encoding)."
    return FileTable(table.frame, [*table.notes, note], "")


def looks_like_data(names: Sequence[str]) -> str:
    """What in a line of names looks like data, in words; empty where nothing does.

    Example:
        >>> looks_like_data(["5.1", "3.5", "Iris-setosa"]), looks_like_data(["0", "1", "kind"])
        ('holds numbers', '')
    """
    numbers = [name for name in names if _is_number(name)]
    counted = {str(place) for place in range(len(names) + 1)}  # names that number the columns
    if numbers and (len(numbers) == len(names) or not counted.issuperset(numbers)):
        return "holds numbers"
    repeated = [name for name in names if re.search(r" \(\d+\)$", name)]  # as repetitions are numbered
    return "says the same several times" if len(names) > 2 and 2 * len(repeated) >= len(names) else ""


def _parse(request: Request, encoding: str) -> FileTable:
    path, target = request.path, request.target
    # Ends of lines are made one first: over unusual ones the parser of pandas can go astray.
    with path.open("rt", encoding=encoding) as file:
        layout = _layout(file, request)
    names = [name.strip() or "unnamed" for name in layout.header]
    separator = layout.separator
    notes = []
    if separator != ",":
        notes.append(f"Columns are separated by {SEPARATORS.get(separator, repr(separator))}.")
    if layout.comments:
        notes.append(f"Comments passed over, lines that begin with #: {len(layout.comments):,}.")
    as_text = {i for i, name in enumerate(names) if name == target}  # "01" and "1" are two classes
    as_text.update(layout.orange.levels if layout.orange else [])
    if layout.row_names:
        names = ["names of rows", *names]
        as_text = {place + 1 for place in as_text}
    options: dict[str, Any] = {
        "sep": r"\s+" if separator == BLANKS else separator,
        "names": range(layout.width),  # which are distinct
        "header": None,
        "skiprows": [*range(layout.n_above), *layout.comments] if layout.comments else layout.n_above,
        "index_col": False,
        "keep_default_na": False,
        "na_values": {i: list(NO_CLASS if name == target else MISSING) for i, name in enumerate(names)},
        "dtype": dict.fromkeys(as_text, str),
        "skipinitialspace": True,
    }
    ways = [options] if separator == "," else [options, {**options, "decimal": ","}]
    with path.open("rt", encoding=encoding) as file:
        frame, *others = _frames(file, ways, layout, request.name)
    for commas in others:
        gained = set(_texts(frame)) - set(_texts(commas))
        if gained and not all(frame[name].dropna().str.match(THOUSANDS).all() for name in gained):
            frame = commas
            notes.append("Numbers are written with a decimal comma.")
    frame.columns = pandas().Index(names)
    if layout.row_names:
        frame = frame.iloc[:, 1:]
    if layout.orange:
        frame, said = typed(frame, layout.orange, target)
        notes += said
    is_plain = names == layout.header and separator == "," and encoding == "utf-8-sig" and request.header
    is_plain = is_plain and layout.n_above == 1 and not layout.comments
    return FileTable(frame, notes, f"pd.read_csv({request.name!r})" if is_plain else "")


def _layout(file: IO[str], request: Request) -> Layout:
    """Find out how the values lie, and whether they do so in all lines."""
    start, n_letters = [], 0
    for line in islice(file, MOST_ABOVE):
        start.append(line)
        n_letters += len(line)
        if n_letters > MOST_LETTERS and len(start) > N_SEEN:  # lines of wide tables are long
            break
    above = _next_line(start, 0)
    said = SEPARATOR_LINE.match(start[above]) if above < len(start) else None
    above += said is not None
    first = _next_line(start, above, comments=True)
    lines = [line for line in start[first:] if line.strip()][:N_SEEN]
    separator = said[1] if said else _separator(lines)
    file.seek(0)
    opening = list(islice(_records(islice(file, first, None), first, separator, strict=False), 3))
    if not opening:
        raise TableError(f"{request.name} holds no line of text")
    (place, header), rows = opening[0], [record for _, record in opening[1:]]
    n_above, orange, row_names = place + 1, None, False
    remarks = [line[1:] for line in start[above:first] if line.startswith("#")]
    if not request.header:
        header, n_above = numbered(len(header)), place
    elif remarks and _names(remark := _words(remarks[-1], separator), header):
        header, n_above = remark, place
    elif orange := orange_header([header, *rows]):
        n_above = opening[2][0] + 1
    else:
        row_names = separator in (BLANKS, "\t") and bool(rows) and {len(row) for row in rows} == {len(header) + 1}
    width = len(header) + row_names
    comments, odd = _judge(file, n_above, separator, width, has_comments=bool(remarks))
    return Layout(separator, header, width, n_above, comments, orange, row_names, odd)


def _judge(file: IO[str], n_above: int, separator: str, width: int, *, has_comments: bool) -> tuple[list[int], str]:
    """Lines that are comments, and what is wrong with the first that is no row of so many values.

    Raises:
        ValueError: If a line has more.
    """
    comments: list[int] = []
    short, long = "", 0
    number, n_rows, n_long = n_above, 0, 0
    try:
        for number, n_values, is_remark in _widths(file, n_above, separator):
            if n_values == width and not (has_comments and is_remark):
                n_rows += 1
            elif is_remark:
                comments.append(number)
            elif n_values > width:
                long, n_long = long or number + 1, n_long + 1
            else:
                short = short or f"line {number + 1} has {n_values} values and not {width}"
    except csv.Error as error:
        return comments, short or f"from line {number + 1} on quotes are amiss ({error})"
    if n_long:
        which = f"line {long}" if n_rows or short else "a line"
        raise ValueError(f"{which} has more values than the first line, which must name the columns")
    return comments, short


def _widths(file: IO[str], n_above: int, separator: str) -> Iterator[tuple[int, int, bool]]:
    """Of each record the number of lines above, how many values it has, and whether it begins as a comment does."""
    file.seek(0)
    lines = islice(file, n_above, None)
    for number, line in enumerate(lines, n_above):
        if '"' in line or separator == BLANKS:
            for place, record in _records(chain([line], lines), number, separator, strict=True):
                yield place, len(record), record[0].startswith("#")
        elif not line.isspace():  # marks are counted some ten times as fast as values are parsed
            yield number, line.count(separator) + 1, line.lstrip()[0] == "#"


def _records(lines: Iterator[str], n_above: int, separator: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, with the number of lines above each, as pandas counts those that it skips."""
    if separator == BLANKS:
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)
    for number, record in enumerate(reader, n_above):
        if len(record) > 1 or any(map(str.strip, record)):
            yield number, record


def _next_line(lines: Sequence[str], place: int, *, comments: bool = False) -> int:
    """Place of the next line that is not blank, nor a comment if these are passed over."""
    while place < len(lines) and (not lines[place].strip() or (comments and lines[place].startswith("#"))):
        place += 1
    return place


def _separator(lines: Sequence[str]) -> str:
    """The mark that parts the first line into the most values, else blanks, if they part all lines alike."""
    if not lines:
        return ","
    marks = [mark for mark in SEPARATORS if mark != BLANKS]
    best = max(marks, key=lambda mark: (len(_words(lines[0], mark)), mark != ","))
    if len(_words(lines[0], best)) > 1:
        return best
    n_words, *others = (len(_words(line, BLANKS)) for line in lines)
    return BLANKS if n_words > 1 and others and {*others} in ({n_words}, {n_words + 1}) else ","


def _words(line: str, separator: str) -> list[str]:
    line = line.replace("\t", " ").strip() if separator == BLANKS else line
    return [word.strip() for word in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]


def _names(remark: Sequence[str], row: Sequence[str]) -> bool:
    """Whether a comment names the columns of which a row with numbers holds the values."""
    return len(remark) == len(row) and not any(map(_is_number, remark)) and any(map(_is_number, row))


def _frames(file: IO[str], ways: Sequence[dict[str, Any]], layout: Layout, name: str) -> list[pd.DataFrame]:
    """What pandas makes of a text; one that is out of order is judged where its parser can take nothing down."""
    if layout.odd:
        try:
            text = file.read()
            answer: list[pd.DataFrame] = in_child("read_csv", text, list(ways), size=len(text))
            return answer
        except ChildDied as error:
            raise TableError(f"{name} is damaged: the parser of pandas breaks down on it, and {layout.odd}") from error
    frames = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas().errors.ParserWarning)  # columns that would be cut off
        warnings.simplefilter("error", pandas().errors.DtypeWarning)
        for options in ways:
            file.seek(0)
            try:  # part by part takes half the memory, and by parts a column may be of several types
                frames.append(pandas().read_csv(file, **options))
            except pandas().errors.DtypeWarning:
                file.seek(0)
                frames.append(pandas().read_csv(file, **options, low_memory=False))
    return frames


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turn what goes wrong in reading text into one sentence."""
    try:
        yield
    except (TableError, UnicodeDecodeError):
        raise
    except LookupError as error:
        raise TableError(f"there is no encoding of that name: {brief(error)}") from error
    except OSError as error:
        raise TableError(f"{name} cannot be read: {brief(error)}") from error
    except (ValueError, csv.Error, Warning) as error:  # parser errors of pandas are ValueErrors
        if isinstance(error, Warning) or "Expected" in str(error):
            where = re.search(r"in line (\d+)", str(error))
            which = f"line {where[1]}" if where else "a line"
            raise TableError(
                f"{name} is not readable as CSV: {which} has more values than the first line, which must name the "
                "columns"
            ) from error
        raise TableError(f"{name} is not readable as CSV: {brief(error)}") from error


def _texts(frame: pd.DataFrame) -> list[int]:
    """Columns read as text, whatever this version of pandas makes of it."""
    return list(frame.select_dtypes(exclude=["number", "bool"]).columns)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
