"""Parsing text in a child process, where a parser that breaks down takes nothing else down with it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 120  # seconds, and one more for each million letters
CODE = """
import io, pickle, sys, warnings
sys.path[:], text, ways = pickle.load(sys.stdin.buffer)
import pandas
try:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        answer = [pandas.read_csv(io.StringIO(text), **options) for options in ways]
except Exception as error:
    answer = error
pickle.dump(answer, sys.stdout.buffer)
"""


class ChildDied(Exception):
    """The child process ended without an answer."""


def read_csv_in_child(text: str, ways: Sequence[dict[str, Any]]) -> list[pd.DataFrame]:
    """What `pandas.read_csv` makes of a text, with each of several sets of options.

    Raises:
        ChildDied: If the parser took the process down, or found no end.
        Exception: That which pandas raised.
    """
    said = pickle.dumps((sys.path, text, list(ways)))
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            input=said,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE + len(text) / 1e6,
            check=True,
        )
        answer = pickle.loads(done.stdout)
    except (subprocess.SubprocessError, EOFError, pickle.UnpicklingError) as error:
        raise ChildDied(str(error)) from error
    if isinstance(answer, Exception):
        raise answer
    frames: list[pd.DataFrame] = answer
    return frames
