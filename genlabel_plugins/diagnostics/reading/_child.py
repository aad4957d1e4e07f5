"""Reading in a child process, where what breaks down, finds no end or asks for all memory harms nothing else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

PATIENCE = 120  # seconds, and one more for each million bytes
ROOM = 2**32  # bytes of memory, and a hundred more for each byte
CODE = """
import io, pickle, sys, warnings
sys.path[:], task, room, arguments = pickle.load(sys.stdin.buffer)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
except (ImportError, ValueError, OSError):  # not every system has limits
    pass

def read_csv(text, ways):
    import pandas
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # columns that would be cut off
        return [pandas.read_csv(io.StringIO(text), **options, low_memory=False) for options in ways]

def load_mat(path):
    import scipy.io
    return scipy.io.loadmat(path, simplify_cells=True)

try:
    answer = {"read_csv": read_csv, "load_mat": load_mat}[task](*arguments)
except Exception as error:
    answer = error
pickle.dump(answer, sys.stdout.buffer)
"""


class ChildDied(Exception):
    """The child process ended without an answer."""


def in_child(task: str, *arguments: Any, size: int) -> Any:
    """What a task of `CODE` makes of its arguments.

    Args:
        task: "read_csv" of a text with each of several sets of options, or "load_mat" of a path.
        arguments: Of the task.
        size: Of what is read, in bytes.

    Raises:
        ChildDied: If the reader took the process down, or found no end.
        Exception: That which the reader raised.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            input=pickle.dumps((sys.path, task, ROOM + 100 * size, arguments)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE + size / 1e6,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread asks for memory
            check=True,
        )
        answer = pickle.loads(done.stdout)
    except (subprocess.SubprocessError, EOFError, pickle.UnpicklingError) as error:
        raise ChildDied(str(error)) from error
    if isinstance(answer, Exception):
        raise answer
    return answer
