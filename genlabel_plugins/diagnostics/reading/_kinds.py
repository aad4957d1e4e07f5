"""Which kind of file begins so, and who reads it or what becomes of it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from genlabel_plugins.diagnostics.reading import _unpacking
from genlabel_plugins.diagnostics.reading._arff import read_arff
from genlabel_plugins.diagnostics.reading._arrays import SVMLIGHT, read_matlab, read_numpy, read_svmlight
from genlabel_plugins.diagnostics.reading._arrow import read_arrow
from genlabel_plugins.diagnostics.reading._json import read_json
from genlabel_plugins.diagnostics.reading._r import read_r
from genlabel_plugins.diagnostics.reading._request import FileTable, Request
from genlabel_plugins.diagnostics.reading._sheets import read_spreadsheet
from genlabel_plugins.diagnostics.reading._statistics import read_statistics
from genlabel_plugins.diagnostics.reading._text import read_text
from genlabel_plugins.diagnostics.reading.labeled_table import TableError

Reader = Callable[[Request], FileTable]


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: As errors call it.
        start: What its first bytes match.
        suffixes: Of its names, where the bytes do not tell.
        read: What reads it.
        has_sheets: Whether one of several sheets is read.
        may_lack_header: Whether its first line need not name the columns.
    """

    name: str
    start: str
    suffixes: tuple[str, ...]
    read: Reader
    has_sheets: bool = False
    may_lack_header: bool = False


def _arrow(name: str, start: str, *suffixes: str) -> Kind:
    return Kind(name, start, suffixes, partial(read_arrow, kind=name))


def _statistics(name: str, start: str, *suffixes: str) -> Kind:
    return Kind(name, start, suffixes, partial(read_statistics, kind=name))


NEVER = r"(?!)"
KINDS = (
    _arrow("Parquet", "PAR1"),
    _arrow("Feather", "ARROW1|FEA1"),
    _arrow("Arrow stream", r"\xff\xff\xff\xff..\0\0"),
    _arrow("ORC", "ORC"),
    Kind("a spreadsheet", r"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|PK\x03\x04", (), read_spreadsheet, True, True),
    _statistics("SPSS", r"\$FL[23]"),
    _statistics("SPSS portable", NEVER, ".por"),
    _statistics("Stata", r"<stata_dta>", ".dta"),
    _statistics("SAS", r"\0{12}\xc2\xea\x81\x60"),
    _statistics("SAS transport", r"HEADER RECORD\*{7}LIB(RARY|V8)"),
    Kind("R", r"X\n\0\0\0[\x02\x03]|A\n[23]\n|RD[AX][23]", (), read_r),
    Kind("NumPy", r"\x93NUMPY", (), read_numpy),
    Kind("MATLAB", "MATLAB 5", (), read_matlab),
    Kind("ARFF or KEEL", r"\s*(%[^\n]*\n\s*)*(?i:@relation|@attribute)\b", (".arff",), read_arff),
    Kind("JSON", r'(\xef\xbb\xbf)?\s*(\{\s*"|\[\s*[\[{])', (".json", ".jsonl", ".ndjson"), read_json),
    Kind("svmlight", SVMLIGHT.pattern.decode(), (".svm", ".svmlight", ".libsvm"), read_svmlight),
)
TEXT = Kind("CSV", "", (), read_text, may_lack_header=True)

CSV_BY = "pd.{}(...).to_csv('table.csv', index=False)"
ELSEWHERE = {  # what it begins with: what it is, and how to make a table of it
    r"%PDF": ("a PDF document", "export the table as CSV where it comes from"),
    r"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|II\*\0|MM\0\*": ("a picture", "genlabel diagnose is for tables"),
    r"\x89HDF\r\n\x1a\n": (
        "an HDF5 file, as h5py, pandas and MATLAB's -v7.3 write it",
        f"{CSV_BY.format('read_hdf')}, or in MATLAB save with -v7",
    ),
    r"SQLite format 3\0": ("an SQLite data base", CSV_BY.format("read_sql")),
    r"\s*(?i:<!doctype html|<html|<table|<head|<body)": (
        "a web page",
        f"download the table itself, or {CSV_BY.format('read_html')}",
    ),
    r"(\xef\xbb\xbf)?\s*<\?xml": ("XML", CSV_BY.format("read_xml")),
    r"\x80[\x02-\x05](\x95|[}\]c])": (
        "a pickle, which can run code when read",
        f"if you trust it, {CSV_BY.format('read_pickle')}",
    ),
    r"Obj\x01": ("an Avro file", "convert it to Parquet"),
    r"7z\xbc\xaf\x27\x1c|Rar!": ("an archive of 7-Zip or RAR", "unpack it and name a file in it"),
    r".{257}ustar": ("a tar archive", "unpack it and name a file in it"),
    r"CDF[\x01\x02]": ("a netCDF file", "xarray.open_dataset(...).to_dataframe().to_csv('table.csv')"),
    r"SIMPLE  =": ("a FITS file", "astropy.table.Table.read(...).write('table.csv')"),
    r"version https://git-lfs": ("a pointer of Git LFS, not the file", "git lfs pull"),
    r"\{\\rtf": ("a document in RTF", "save the table as CSV"),
}


def kind_of(request: Request) -> Kind:
    """The kind of a file by its first bytes, else by its name, else text.

    Raises:
        TableError: If it is of a kind that is not read.
    """
    start = _unpacking.first_bytes(request.path, request.name)
    for pattern, (what, way) in ELSEWHERE.items():
        if _begins(pattern, start):
            raise TableError(f"{request.name} is {what}, which is not read: {way}")
    found = next((kind for kind in KINDS if _begins(kind.start, start)), None)
    if found is not None and start.startswith(_unpacking.ZIP):
        return _zipped(found, request)
    suffix = request.path.suffix.lower()
    if found is None and suffix in (".parquet", ".pq"):
        raise TableError(f"{request.name} is not a Parquet file: it does not begin with PAR1")
    return found or next((kind for kind in KINDS if suffix in kind.suffixes), TEXT)


def _zipped(spreadsheet: Kind, request: Request) -> Kind:
    inside = _unpacking.members(request.path, request.name)
    if inside and all(name.endswith(".npy") for name in inside):
        return Kind("NumPy", "", (), read_numpy)
    if any(name.startswith(("word/", "ppt/")) for name in inside):
        raise TableError(f"{request.name} is a document of Word or PowerPoint: save the table as CSV")
    return spreadsheet


def _begins(pattern: str, start: bytes) -> bool:
    return re.match(pattern.encode("latin-1"), start, re.DOTALL) is not None
