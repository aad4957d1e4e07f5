"""Reading what R saves, by rdata."""

from __future__ import annotations

from genlabel_plugins.diagnostics.reading._libraries import library, pandas
from genlabel_plugins.diagnostics.reading._request import FileTable, Request, frame_of
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

IMAGE = (b"RDX", b"RDA")  # begin a file of named objects; one object alone begins with its format


def read_r(request: Request) -> FileTable:
    """The data frame in an .rds file, or the only one in an .rda file; factors are levels.

    Raises:
        TableError: If there is no such frame or the file cannot be read.
        ModuleNotFoundError: Without `genlabel-plugins[formats]`.
    """
    rdata = library("rdata", "files of R")
    try:
        is_image = request.path.read_bytes()[:3] in IMAGE
        read = rdata.read_rda if is_image else rdata.read_rds
        loaded = read(request.path, default_encoding=request.encoding or "utf-8")
    except Exception as error:  # whatever a damaged file brings about
        raise TableError(f"{request.name} is not readable as a file of R: {brief(error)}") from error
    frames = [value for value in (loaded.values() if is_image else [loaded]) if isinstance(value, pandas().DataFrame)]
    if len(frames) != 1:
        raise TableError(f"{request.name} holds {len(frames)} data frames of R, not one: saveRDS(frame, 'table.rds')")
    return FileTable(frame_of(list(frames[0].columns), [frames[0][name] for name in frames[0].columns]), [])
