"""Densities compute in float32 or better, whatever autocast and TF32 make of products elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

NOTHING: AbstractContextManager[Any] = nullcontext()
HAS_NEWER_NAME = hasattr(torch.backends.cuda.matmul, "fp32_precision")  # of `allow_tf32`, from torch 2.9 on


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast and TF32 off on the device of `x`, where they are on: entering costs as much as a small product.

    TF32 keeps ten bits of a factor. A log-density is a difference of large sums: rows of 64 features lose .03 nats by
    it near their class, and rows far from all classes their label.
    """
    device = x.device.type
    if device == "cuda" and (_TF32_OFF.n_inside or _rounds_products()):
        switch: AbstractContextManager[Any] = _float32_products()
        return switch
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else NOTHING


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch.compile compiles anew if it changes
def _rounds_products() -> bool:
    """Whether products of float32 on CUDA are rounded to TF32."""
    matmul = torch.backends.cuda.matmul
    return bool(matmul.fp32_precision == "tf32" if HAS_NEWER_NAME else matmul.allow_tf32)


# A compiled graph would drop the switch; where `fullgraph=True` asks for one, torch names this function instead.
@torch.compiler.disable  # type: ignore[untyped-decorator]
@contextmanager
def _float32_products() -> Iterator[None]:
    with torch.autocast("cuda", enabled=False), _TF32_OFF:
        yield


class _TF32Off(AbstractContextManager[None]):
    """TF32 is off in the process while any thread is inside, and afterwards as it was."""

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


_TF32_OFF = _TF32Off()


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
