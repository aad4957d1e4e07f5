"""Entry point of the command line; works, with one sentence, also where its extra is not installed."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

EXTRA = dict.fromkeys(("typer", "rich", "pandas", "matplotlib", "jinja2", "click"), "cli")
EXTRA |= dict.fromkeys(("foolbox", "pyautoattack", "bencheval", "joblib", "torchvision"), "paper")
INTERRUPTED = 130
SENTENCE = "genlabel: interrupted\n"
CLEAR = "\r\x1b[K\x1b[?25h"  # the line of the progress bar, and the cursor again


def main() -> None:
    """Run `genlabel`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background is deaf
        signal.signal(signal.SIGINT, end_at_once)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of letters that the terminal has no code for
    try:
        from genlabel_plugins.cli._app import app  # noqa: PLC0415

        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(f"genlabel needs {package}: pip install 'genlabel-plugins[{EXTRA[package]}]'")
    except OSError as error:  # what is printed has no place to go, such as a full disk
        sys.exit(f"genlabel: {error}")


def end_at_once(signum: int, frame: FrameType | None) -> None:
    """End the process with one sentence; an exception amid an import may be swallowed, or end in others."""
    sentence = CLEAR + SENTENCE if os.isatty(2) else SENTENCE
    os.write(2, sentence.encode())
    os._exit(INTERRUPTED)
