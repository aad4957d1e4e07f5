"""One diagnosis from the command line: what is checked before, shown meanwhile and printed after."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, default_int_handler, getsignal, signal
from typing import TYPE_CHECKING

from rich.console import Console

from genlabel_plugins.cli._progress import Watch
from genlabel_plugins.cli.main import INTERRUPTED, SENTENCE, end_at_once

if TYPE_CHECKING:
    from genlabel_plugins.diagnostics import Diagnosis

DONE, BAD_INPUT = 0, 2
LEAST = 3  # seconds: reading, a first look and the page take one or two on a core that is free


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options of `genlabel diagnose` say."""

    file: Path
    target: str
    out: Path | None
    as_json: bool
    backends: Sequence[str] | None
    groups: str | None
    time: str | None
    time_limit: float
    max_rows: int
    encoding: str | None
    sheet: str | None
    header: bool
    seed: int
    threads: int


def run(request: Request) -> int:
    """Diagnose, print, and give the exit code."""
    errors = Console(stderr=True)
    with Watch(errors) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report holds what backends warn of
        watch.say("starting")
        try:
            if 0 < request.time_limit < LEAST:
                raise ValueError(
                    f"--time-limit must be 0 or at least {LEAST} seconds, got {request.time_limit:g}: 0 leaves out all "
                    "that is optional"
                )
            diagnosis = _diagnose(request, watch)
        except (ValueError, ModuleNotFoundError, OSError) as error:  # OSError: the report cannot be written any more
            watch.stop()
            errors.print(f"genlabel: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            return BAD_INPUT
        except KeyboardInterrupt:
            watch.stop()
            errors.print(SENTENCE, end="", highlight=False, soft_wrap=True)
            return INTERRUPTED
    from genlabel_plugins.cli._screen import show_diagnosis  # noqa: PLC0415
    from genlabel_plugins.diagnostics import to_json  # noqa: PLC0415

    if request.as_json:
        print(to_json(diagnosis))
    else:
        show_diagnosis(Console(), diagnosis, request.out)
    if diagnosis.interrupted:
        errors.print("genlabel: interrupted; what was known by then is kept", highlight=False, soft_wrap=True)
        return INTERRUPTED
    return DONE


def _diagnose(request: Request, watch: Watch) -> Diagnosis:
    import torch  # noqa: PLC0415 - seconds, of which the bar is to tell

    from genlabel_plugins.diagnostics import Report, diagnose, load_table  # noqa: PLC0415

    torch.set_num_threads(request.threads)  # small products: threads wait for one another
    report = Report()
    if request.out is not None:
        _check_out(request.out, request.file)
        report.prepare()
    watch.say("reading the table")
    begin = time.perf_counter()
    with _interruptible():
        table = load_table(
            request.file,
            request.target,
            encoding=request.encoding,
            sheet=request.sheet,
            header=request.header,
            groups=request.groups,
            time=request.time,
            max_rows=request.max_rows,
            seed=request.seed,
        )

        def on_step(known: Diagnosis) -> None:
            watch.show(known)
            if request.out is not None:
                report.save(known, request.out)

        return diagnose(
            table,
            backends=request.backends,
            seed=request.seed,
            time_limit=request.time_limit,
            spent=time.perf_counter() - begin,
            on_step=on_step,
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt`, which a diagnosis knows how to end on; elsewhere it ends the process."""
    ends = getsignal(SIGINT) is end_at_once
    if ends:
        signal(SIGINT, default_int_handler)
    try:
        yield
    finally:
        if ends:
            signal(SIGINT, end_at_once)


def _check_out(out: Path, file: Path) -> None:
    """Refuse before the long work what could not be written after it."""
    from genlabel_plugins.diagnostics import TableError  # noqa: PLC0415

    if out.is_dir():
        raise TableError(f"--out {str(out)!r} is a folder: name a file in it")
    if not out.parent.is_dir():
        raise TableError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if out.exists() and file.exists() and out.samefile(file):
        raise TableError("--out is the table itself, which the report would overwrite")
    probe = out.parent / f".{out.name}.probe"
    try:
        probe.touch()
        probe.unlink()
        if out.exists():
            out.open("a").close()
    except OSError as error:
        raise TableError(f"--out {str(out)!r} cannot be written: {error.strerror or error}") from error
