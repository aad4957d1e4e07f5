"""`genlabel paper`: the paper's tables and figures, on the screen and on a page."""

from __future__ import annotations

import signal
import sys
from typing import Any

from rich.console import Console

from genlabel_plugins.cli.main import INTERRUPTED, end_at_once
from genlabel_plugins.paper import ORDER, DataError, Options, reproduce
from genlabel_plugins.paper.commands import COMMANDS

BAD_INPUT = 2


def run(name: str, only: str | None, **options: Any) -> int:
    """Run a command and print its Markdown; the exit code."""
    if name == "list":
        for each in ORDER:
            print(f"{each:13} {COMMANDS[each].title}")
        return 0
    errors = Console(stderr=True)
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of joblib end with the one that began them
    try:
        lines = reproduce(name, Options(**options, sets=_ids(only)), errors)
    except (DataError, OSError) as error:
        errors.print(f"genlabel: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("genlabel: interrupted; what is done is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    print("\n".join(lines))
    return 0


def _ids(only: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in only.split(",")] if only else []
    for part in parts:
        if not part.isdigit():
            raise DataError(f"--sets must be OpenML ids such as 187,1413, got {part!r}")
    return tuple(map(int, parts))
