r"""Reading dense ARFF as Weka's manual describes it, and KEEL's .dat, which is much the same.

The readers at hand do not read what Weka writes. scipy 1.17.1 refuses `{ a , b }`, counts a quoted `'?'` as missing and
drops surplus values in silence. liac-arff 2.5.0 knows no dates, no repeated names, no tab after `@attribute` and no
weights of rows, rounds integers, and takes time exponential in the number of levels where a comment follows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, decode, frame_of
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

if TYPE_CHECKING:
    import pandas as pd

IN_QUOTES = r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\""""
ATTRIBUTE = re.compile(rf"@attribute\s+(?:{IN_QUOTES}|([^\s{{]+))\s*(.*)", re.IGNORECASE)
QUOTED = re.compile(rf"\s*(?:{IN_QUOTES})\s*")
TO_COMMA = re.compile(r"(?:[^,{}\s]|\s(?!%))*\s*")  # a comment begins at a per cent sign after a blank
TO_BLANK = re.compile(r"\s*[^\s{}]*\s*")
NOT_PLAIN = re.compile(r"""['"{}%]""")
WEIGHT = re.compile(r"\{\s*[-+.\deE]+\s*\}\s*(%.*)?$")
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
NONE = ("", "?", "<null>")  # the last in KEEL
CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}

Words = list[str | None]


class Attribute(NamedTuple):
    """A column: its name, its kind, and the levels of a nominal one."""

    name: str
    kind: str
    levels: Sequence[str] = ()


def read_arff(request: Request) -> FileTable:
    """Columns in the order of the file, under its names; the target is text, if not nominal, so that no digit is lost.

    Raises:
        TableError: If the text is no dense ARFF of numeric, nominal, string and date attributes.
    """
    text = decode(request.path.read_bytes(), request.encoding, request.name)
    return FileTable(*parse_arff(text, request.name, request.target))


def parse_arff(text: str, file_name: str, target: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    r"""What `read_arff` makes of a text.

    Example:
        >>> head = "@relation r\n@attribute a real\n@attribute k { NA , 'it\\'s' }\n@data\n"
        >>> frame, notes = parse_arff(head + "1.5, NA\n?, 'it\\'s', {5}\n", "t.arff")
        >>> list(frame["k"]), notes
        (['NA', "it's"], ['Weights of rows are not used: 1 in braces.'])
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    attributes: list[Attribute] = []
    rows: list[Words] = []
    n_weights = 0
    in_data = False
    for number, line in enumerate(map(str.strip, lines), 1):
        where = f"{file_name} is not readable as ARFF: line {number}"
        if not line or line.startswith("%"):
            continue
        if not in_data:
            in_data = line.lower().startswith("@data")
            if line.lower().startswith("@attribute"):
                attributes.append(_attribute(line, where))
            continue
        if line.startswith("{"):
            raise TableError(f"{file_name} is a sparse ARFF file, which is not supported: save the table as CSV")
        values, rest = _values(line)
        if WEIGHT.match(rest):
            n_weights += 1
            if len(values) > len(attributes) and values[-1] is None:  # the comma before the brace
                values.pop()
        elif rest and not rest.startswith("%"):
            raise TableError(f"{where} cannot be read from {rest[:40]!r} on")
        if len(values) != len(attributes):
            raise TableError(f"{where} has {len(values)} values for {len(attributes)} attributes")
        rows.append(values)
    if not in_data:
        raise TableError(f"{file_name} is not readable as ARFF: it has no @data")
    columns = list(zip(*rows, strict=True)) or [() for _ in attributes]
    frame = frame_of(
        [attribute.name for attribute in attributes],
        [
            _column(attribute, words, file_name, as_text=attribute.name.strip() == target)
            for attribute, words in zip(attributes, columns, strict=True)
        ],
    )
    return frame, [f"Weights of rows are not used: {n_weights:,} in braces."] if n_weights else []


def _attribute(line: str, where: str) -> Attribute:
    found = ATTRIBUTE.match(line)
    if found is None:
        raise TableError(f"{where} names no attribute")
    name = found[3] or _unescaped(found[1] or found[2] or "")
    if found[4].startswith("{"):
        levels, rest = _values(found[4][1:])
        if not rest.startswith("}"):
            raise TableError(f"{where} does not close the brace of {name!r}")
        return Attribute(name, "nominal", [level for level in dict.fromkeys(levels) if level is not None])
    kind = (re.split(r"[\s\[]", found[4].strip()) or [""])[0].lower()  # KEEL writes the range behind it
    if kind in ("numeric", "real", "integer"):
        return Attribute(name, "numeric")
    if kind in ("string", "date"):
        return Attribute(name, kind)
    raise TableError(
        f"{where} has an attribute of a kind that is not supported, {kind!r}: only numeric, nominal, string and "
        "date ones are; save the table as CSV"
    )


def _column(attribute: Attribute, words: Sequence[str | None], file_name: str, *, as_text: bool) -> pd.Series[Any]:
    """Words as what the attribute says they are."""
    pd = pandas()
    where = f"{file_name} is not readable as ARFF: {attribute.name!r}"
    if attribute.kind == "nominal":
        strange = sorted({word for word in words if word is not None}.difference(attribute.levels))
        if strange:
            raise TableError(f"{where} holds {strange[0]!r}, which is not among its declared values")
        return pd.Series(pd.Categorical(words, categories=attribute.levels))
    column = pd.Series(words, dtype=object)
    if attribute.kind == "date":
        return pd.to_datetime(column, errors="coerce", format="mixed", utc=True)
    if attribute.kind == "numeric" and not as_text:
        try:
            return pd.to_numeric(column)
        except ValueError as error:
            raise TableError(f"{where} is numeric, but not all of its values: {brief(error)}") from error
    return column


def _values(line: str) -> tuple[Words, str]:
    """Values between commas, or between blanks where there is no comma, and what stands after them."""
    with_commas = "," in line
    if with_commas and not NOT_PLAIN.search(line):
        return [_unquoted(word) for word in line.split(",")], ""
    to_mark = TO_COMMA if with_commas else TO_BLANK
    values: Words = []
    place = 0
    while True:
        quoted = QUOTED.match(line, place)
        found = quoted or to_mark.match(line, place)
        assert found is not None  # the pattern matches nothing, too
        values.append(_unescaped(found[1] or found[2] or "") if quoted else _unquoted(found[0]))
        place = found.end()
        following = line[place : place + 1]
        if with_commas and following == ",":
            place += 1
        elif with_commas or following in ("", "{", "}", "%"):
            return values, line[place:]


def _unquoted(word: str) -> str | None:
    word = word.strip()
    return None if word in NONE else word


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else CONTROLS.get(found[2], found[2]), text)
