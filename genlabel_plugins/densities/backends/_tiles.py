"""Tiles: the rows of each class cut and padded to one width, so that a matrix product scores many classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._state import rank_in_class

CHUNK_ELEMENTS = 2**18  # scores held at a time: 1 MB in float32 stays in cache, however many the rows
CHUNK_ELEMENTS_ON_CUDA = 2**24  # 64 MB: there each of the calls that a chunk takes costs as much as a million scores
MAX_WIDTH = 2048
PIECE = 16
MAX_BATCH = 1024
TILE_COST = 32  # a tile costs about as much as this many rows on top of its own


class Tiles(NamedTuple):
    """Which row goes where.

    Attributes:
        row: Training row in each place, shape `(n_tiles, width)`; -1 pads.
        target: Class of each tile, shape `(n_tiles,)`, ascending.
    """

    row: Tensor
    target: Tensor

    @property
    def place(self) -> Tensor:
        """Place of each training row in the flattened tiles, shape `(N,)`."""
        taken = (self.row.flatten() >= 0).nonzero().squeeze(1)
        return torch.empty_like(taken).scatter_(0, self.row.flatten()[taken], taken)

    def of_class(self, n_classes: int) -> Tensor:
        """Tiles of each class, shape `(K, T)`; -1 pads."""
        count = self.target.bincount(minlength=n_classes)
        rank = torch.arange(int(count.max()), device=count.device)
        first = count.cumsum(0) - count
        return torch.where(rank < count[:, None], first[:, None] + rank, -1)


def tile(target: Tensor) -> Tiles:
    """Cut classes into tiles of the width that wastes least on padding, `(N,)` compact targets.

    Widths beyond one piece are whole pieces.

    Example:
        >>> tile(torch.tensor([0, 1, 0, 0, 1]))
        Tiles(row=tensor([[ 0,  2,  3],
                [ 1,  4, -1]]), target=tensor([0, 1]))
    """
    count = target.bincount()
    widths = torch.tensor([*range(1, PIECE), *range(PIECE, MAX_WIDTH + 1, PIECE)], device=target.device)
    size, n_classes = count.unique(return_counts=True)  # few, even of many classes
    n_tiles = (ceil_div(size, widths[:, None]) * n_classes).sum(1)
    width = int(widths[(n_tiles * (widths + TILE_COST)).argmin()])
    tiles_per_class = ceil_div(count, width)
    order = target.argsort(stable=True)
    sorted_target = target[order]
    first_tile = tiles_per_class.cumsum(0) - tiles_per_class
    row = target.new_full((int(tiles_per_class.sum()) * width,), -1)
    row[first_tile[sorted_target] * width + rank_in_class(sorted_target)] = order
    classes = torch.arange(len(count), device=target.device)
    return Tiles(row.view(-1, width), classes.repeat_interleave(tiles_per_class))


def chunk_elements(x: Tensor) -> int:
    """How many scores of rows are held at a time, on their device."""
    return CHUNK_ELEMENTS_ON_CUDA if x.is_cuda else CHUNK_ELEMENTS


def tiles_per_chunk(x: Tensor, width: int) -> int:
    """How many tiles of scores against the rows of `x` are held at a time."""
    return max(1, chunk_elements(x) // (len(x) * width))


def ceil_div(count: Tensor, width: Tensor | int) -> Tensor:
    """Quotient rounded up."""
    return (count + width - 1) // width
