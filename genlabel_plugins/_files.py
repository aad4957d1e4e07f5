"""Files that are whole whenever somebody reads them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place and move it there: a reader, a full disk or a kill leaves the old one or the new.

    A link is followed, an earlier file keeps its mode, and a new one gets that of the umask. What is no file, such as a
    pipe, is written to as it is.

    Raises:
        OSError: If the folder does not exist or cannot be written to, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r} to write {target.name!r} to")
    draft = target.parent / f".{secrets.token_hex(8)}.part"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a rename that outlives a crash must not outlive its content
        if target.exists():
            draft.chmod(target.stat().st_mode & 0o7777)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
