"""Densities compute in float32 or better, whatever autocast and TF32 make of products elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

NOTHING: AbstractContextManager[Any] = nullcontext()


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast and TF32 off on the device of `x`, where they are on: entering costs as much as a small product."""
    device = x.device.type
    if device == "cuda":
        from genlabel_plugins import _tf32  # noqa: PLC0415 - it imports torch.compile, which takes as long as torch

        if _tf32.is_allowed():
            switch: AbstractContextManager[Any] = _tf32.off()
            return switch
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else NOTHING
