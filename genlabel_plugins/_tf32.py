"""TF32, which keeps ten bits of a factor, is turned off while densities compute on CUDA.

A log-density is a difference of large sums: rows of 64 features lose .03 nats by TF32 near their class, and rows far
from all classes their label.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch

HAS_NEWER_NAME = hasattr(torch.backends.cuda.matmul, "fp32_precision")  # of `allow_tf32`, from torch 2.9 on


def is_allowed() -> bool:
    """Whether products of float32 on CUDA are rounded to TF32, or would be if nobody were inside `off`."""
    return _OFF.n_inside > 0 or _rounds_products()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch.compile compiles anew if it changes
def _rounds_products() -> bool:
    """Whether products of float32 on CUDA are rounded to TF32."""
    matmul = torch.backends.cuda.matmul
    return bool(matmul.fp32_precision == "tf32" if HAS_NEWER_NAME else matmul.allow_tf32)


# A compiled graph would drop the switch; where `fullgraph=True` asks for one, torch names this function instead.
@torch.compiler.disable  # type: ignore[untyped-decorator]
@contextmanager
def off() -> Iterator[None]:
    """Turn TF32 off, and autocast on CUDA, as long as any thread is inside."""
    with torch.autocast("cuda", enabled=False), _OFF:
        yield


class _Off(AbstractContextManager[None]):
    """The switch: off in the process while any thread is inside, and afterwards as it was."""

    def __init__(self) -> None:
        self.n_inside = 0
        self._lock = threading.Lock()
        self._restore: Callable[[], object]

    def __enter__(self) -> None:
        with self._lock:
            if not self.n_inside:
                self._restore = _turn_tf32_off()
            self.n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.n_inside -= 1
            if not self.n_inside:
                self._restore()


_OFF = _Off()


def _turn_tf32_off() -> Callable[[], object]:
    """Turn it off by the name by which it was turned on, since torch refuses to read one after the other was set."""
    matmul = torch.backends.cuda.matmul
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        matmul.fp32_precision = "ieee"
        return partial(setattr, matmul, "fp32_precision", "tf32")
    matmul.allow_tf32 = False
    if before == "medium":
        return partial(torch.set_float32_matmul_precision, before)
    return partial(setattr, matmul, "allow_tf32", before == "high")
