"""States of all ranks, gathered without pickle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

State = dict[str, Tensor]
MAX_DIMENSIONS = 3
DTYPES = (torch.float32, torch.float64, torch.int64)


def all_gather_states(state: State | None, names: Sequence[str]) -> list[State | None]:
    """State of each rank on every rank, of any shapes; without `torch.distributed` the own one alone.

    Numbers travel in float64, which holds float32 and counts as they are.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    device = _device(state)
    header = torch.tensor([_describe((state or {}).get(name)) for name in names], device=device)  # (names, 2 + 3)
    headers = [torch.empty_like(header) for _ in range(dist.get_world_size())]
    dist.all_gather(headers, header)
    numbers = torch.cat([torch.empty(0, device=device, dtype=torch.float64), *_flat(state, names, device)])
    described = [each.tolist() for each in headers]
    longest = max(sum(math.prod(row[2 : 2 + row[1]]) for row in rows if row[0] >= 0) for rows in described)
    sent = torch.nn.functional.pad(numbers, (0, longest - len(numbers)))
    received = [torch.empty_like(sent) for _ in headers]
    dist.all_gather(received, sent)
    return [_unpack(*pair, names) for pair in zip(described, received, strict=True)]


def _device(state: State | None) -> torch.device:
    if state:
        return next(iter(state.values())).device
    return torch.device("cuda", torch.cuda.current_device()) if "nccl" in dist.get_backend() else torch.device("cpu")


def _describe(tensor: Tensor | None) -> list[int]:
    """Dtype, number of dimensions and shape; a dtype of -1 says that there is none."""
    if tensor is None:
        return [-1, 0] + [0] * MAX_DIMENSIONS
    return [DTYPES.index(tensor.dtype), tensor.ndim, *tensor.shape] + [0] * (MAX_DIMENSIONS - tensor.ndim)


def _flat(state: State | None, names: Sequence[str], device: torch.device) -> list[Tensor]:
    return [state[name].flatten().to(device, torch.float64) for name in names if state and name in state]


def _unpack(rows: list[list[int]], numbers: Tensor, names: Sequence[str]) -> State | None:
    state: State = {}
    start = 0
    for name, (kind, n_dimensions, *sizes) in zip(names, rows, strict=True):
        if kind >= 0:
            shape = sizes[:n_dimensions]
            stop = start + math.prod(shape)
            state[name] = numbers[start:stop].view(shape).to(DTYPES[kind])
            start = stop
    return state or None
