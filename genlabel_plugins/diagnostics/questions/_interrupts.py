"""Work that ends when its time is up."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = 0.5  # seconds of a core that is free: the least comparison, the pictures, the page


class TimeLimit:
    """Seconds that a diagnosis may take, of which the end keeps what it needs on a machine as busy as it was so far.

    Args:
        seconds: All of it.
        spent: Of these, what has passed already.

    Example:
        >>> limit = TimeLimit(60.0, spent=10.0)
        >>> limit.left(is_extra=False) < 50, TimeLimit(0.0).left(is_extra=False), TimeLimit(0.0).left(is_extra=True) < 0
        (True, inf, True)
    """

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self.seconds = seconds
        self._begin = time.perf_counter() - spent
        self._observed, self._worked = time.perf_counter(), time.process_time()

    def passed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._begin

    def left(self, *, is_extra: bool) -> float:
        """Seconds until the end has to begin; what is no extra has no bound where the limit is 0."""
        if self.seconds == 0 and not is_extra:
            return math.inf
        worked = time.process_time() - self._worked
        observed = time.perf_counter() - self._observed
        busy = observed / worked if observed > worked > 0 else 1.0
        return self.seconds - self.passed() - min(ENDING * busy, self.seconds / 2)


class OutOfTimeError(BaseException):
    """Work did not end in time; no library catches it as an error of its own."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End the block when its time is up, where the system has alarms and this is the main thread; else let it be.

    Raises:
        OutOfTimeError: Within the block, between two steps of the interpreter.

    Example:
        >>> import time
        >>> with deadline(0.01):
        ...     time.sleep(5)
        Traceback (most recent call last):
        genlabel_plugins.diagnostics.questions._interrupts.OutOfTimeError
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
