"""Ctrl-C that is not lost, even where a training swallows it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C arrived."""

    arrived = False


@contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Note whether Ctrl-C arrives within the block; Python's own handling goes on as before.

    Training loops of this library end on Ctrl-C and keep what they have; whoever runs them as one step of many asks
    here whether to go on. Outside the main thread nothing is noted.

    Example:
        >>> earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        >>> with noted_interrupts() as interrupts:
        ...     try:
        ...         signal.raise_signal(signal.SIGINT)
        ...     except KeyboardInterrupt:
        ...         pass
        >>> interrupts.arrived
        True
        >>> _ = signal.signal(signal.SIGINT, earlier)
    """
    interrupts = Interrupts()
    earlier = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or isinstance(earlier, int) or earlier is None:
        yield interrupts
        return

    def note(signum: int, frame: FrameType | None) -> None:
        interrupts.arrived = True
        earlier(signum, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, earlier)
