"""Unpacking: a packed file is read as the plain one in it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from genlabel_plugins.diagnostics.reading._libraries import library
from genlabel_plugins.diagnostics.reading._request import Request
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

ZIP = b"PK\x03\x04"
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", ZIP: "ZIP"}
SUFFIX = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "zstd": ".zst", "ZIP": ".zip"}
BESIDE = re.compile(r"(__MACOSX/|.*/$|.*(^|/)\.)")  # what archives hold beside files


def first_bytes(path: Path, name: str, size: int = 512) -> bytes:
    """How a file begins.

    Raises:
        TableError: If there is nothing to read.
    """
    if not path.exists():
        raise TableError(f"there is no file {str(path)!r}")
    if path.is_dir():
        raise TableError(f"{str(path)!r} is a folder: name a file in it")
    try:
        with path.open("rb") as file:
            start = file.read(size)
    except OSError as error:
        raise TableError(f"{name} cannot be read: {error.strerror or error}") from error
    if not start:
        raise TableError(f"{name} is empty")
    return start


def packing(start: bytes) -> str | None:
    """How a file that begins so is packed, if it is.

    Example:
        >>> packing(b"BZh91AY"), packing(b"a,b")
        ('bzip2', None)
    """
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)


def members(path: Path, name: str) -> list[str]:
    """Files in a ZIP archive.

    Raises:
        TableError: If it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [member for member in archive.namelist() if not BESIDE.match(member)]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise TableError(
            f"{name} is a damaged ZIP archive or spreadsheet ({brief(error)}): save the table as CSV"
        ) from error


@contextmanager
def unpacked(request: Request) -> Iterator[Request]:
    """The request for the plain file, which is a temporary one where it was packed.

    Raises:
        TableError: If it cannot be unpacked.
    """
    kind = packing(first_bytes(request.path, request.name))
    inside = members(request.path, request.name) if kind == "ZIP" else []
    if kind is None or (kind == "ZIP" and is_format(inside)):
        yield request
        return
    if kind == "ZIP" and len(inside) != 1:
        listed = ", ".join(map(repr, inside[:6])) + ", ..." * (len(inside) > 6)
        raise TableError(f"{request.name} is a ZIP archive of {len(inside)} files ({listed}): unpack it and name one")
    with tempfile.TemporaryDirectory() as folder:
        suffix = SUFFIX[kind]
        plain_name = Path(inside[0]).name if inside else re.sub(rf"{re.escape(suffix)}$", "", request.path.name.lower())
        path = Path(folder) / plain_name
        try:
            with _open(request.path, kind, inside) as packed, path.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except (EOFError, OSError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError) as error:
            raise TableError(f"{request.name} is a damaged {kind} file: {brief(error)}") from error
        yield request._replace(path=path)


def is_format(inside: list[str]) -> bool:
    """Whether a ZIP archive of these files is the way in which some other format is stored.

    Example:
        >>> is_format(["X.npy", "y.npy"]), is_format(["xl/workbook.xml"]), is_format(["iris.csv"])
        (True, True, False)
    """
    names = {"mimetype", "[Content_Types].xml", "content.xml"}
    is_numpy = bool(inside) and all(name.endswith(".npy") for name in inside)
    return is_numpy or any(name in names or name.startswith(("xl/", "word/", "ppt/")) for name in inside)


def _open(path: Path, kind: str, inside: list[str]) -> Any:
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    if kind == "ZIP":
        return zipfile.ZipFile(path).open(inside[0])
    if kind == "zstd":
        return library("pyarrow", "files packed by zstd", "cli").input_stream(str(path), compression="zstd")
    opened: IO[bytes] = openers[kind](path)
    return opened
