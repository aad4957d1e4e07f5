"""TF32, which keeps ten bits of a factor, is turned off while densities compute on CUDA.

A log-density is a difference of large sums: rows of 64 features lose .03 nats by TF32 near their class, and the more
the farther from it they lie.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch.backends import cuda

_cpu: Any = torch.backends.mkldnn
HAS_NEWER_NAME = hasattr(cuda.matmul, "fp32_precision")  # of `allow_tf32`, from torch 2.9 on


def is_allowed() -> bool:
    """Whether products of float32 on CUDA are rounded to TF32, or would be if nobody were inside `off`."""
    return _OFF.n_inside > 0 or _would_round()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch.compile compiles anew if it changes
def _would_round() -> bool:
    with _OFF.lock:  # between the two questions another thread may turn it off
        return _OFF.n_inside > 0 or _rounds_products()


def _rounds_products() -> bool:
    """Whether products of float32 on CUDA are rounded to TF32."""
    return bool(cuda.matmul.fp32_precision == "tf32" if HAS_NEWER_NAME else cuda.matmul.allow_tf32)


# A compiled graph would drop the switch; where `fullgraph=True` asks for one, torch names this function instead. What
# is called on entering and leaving is called by the compiled function itself, and must be kept out of its graphs too.
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
        self.lock = threading.Lock()
        self._restore: Callable[[], None]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __enter__(self) -> None:
        with self.lock:
            if not self.n_inside:
                self._restore = _turn_off()
            self.n_inside += 1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.n_inside -= 1
            if not self.n_inside:
                self._restore()


_OFF = _Off()


def _turn_off() -> Callable[[], None]:
    """Turn it off by the name by which it was turned on, since torch refuses to read one after the other was set."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        cuda.matmul.fp32_precision = "ieee"
        return _allow_by_newer_name
    on_cpu = _cpu.matmul.fp32_precision if HAS_NEWER_NAME else None
    torch.set_float32_matmul_precision("highest")  # of the CPU as well: what compiles asks for all devices together
    return partial(_allow, before, on_cpu)


def _allow(before: str, on_cpu: str | None) -> None:
    torch.set_float32_matmul_precision(before)
    if on_cpu is not None:
        _cpu.matmul.fp32_precision = on_cpu


def _allow_by_newer_name() -> None:
    cuda.matmul.fp32_precision = "none"  # it follows its parent
    if cuda.matmul.fp32_precision != "tf32":
        cuda.matmul.fp32_precision = "tf32"
