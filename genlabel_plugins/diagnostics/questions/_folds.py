"""Which rows are held out together."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold, TimeSeriesSplit
from torch import Tensor

from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.selection.search import Split, stratified_splits

N_FOLDS = 5
MIN_PER_CLASS = 2  # rows of each class that the earliest part in time must hold
NEAR, FEW = 2, 20  # rows before and after; rows below which nothing is noticed
SEVERAL_TIMES, MANY = 5, 0.1  # as often as by chance, and of all rows


def make_splits(table: LabeledTable, rows: Tensor, seed: int) -> tuple[list[Split], str]:
    """Training and held-out places among some rows of a table, and how they were made.

    Raises:
        ValueError: If there is no time from which on all classes can be learnt.
    """
    x, target = table.x[rows], table.target[rows]
    if table.time is not None:
        splits = time_splits(table.time[rows], target)
        return splits, (
            f"Rows are predicted from those before them in the order of {table.blocks_name!r}, in {len(splits)} blocks"
        )
    if table.groups is not None:
        folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        splits = list(folds.split(x, target, table.groups[rows]))
        if any(not _is_learnable(target[train], target) for train, _ in splits):
            raise ValueError(f"a class occurs in too few groups of {table.blocks_name!r} to hold some of them out")
        return splits, f"Cross-validation in {N_FOLDS} folds of whole groups of {table.blocks_name!r}"
    splits = twin_splits(x, target, seed) or stratified_splits(target.numpy(force=True), N_FOLDS, seed=seed)
    return splits, f"Cross-validation in {N_FOLDS} folds"


def twin_splits(x: Tensor, target: Tensor, seed: int) -> list[Split] | None:
    """Folds that hold out rows together which are the same; None, which is folds of rows, where all rows differ.

    Example:
        >>> x = torch.arange(20.0)[:, None] // 2
        >>> splits = twin_splits(x, torch.arange(20) // 10, seed=0)
        >>> [len(held_out) for _, held_out in splits], set(x[splits[0][0]].flatten()) & set(x[splits[0][1]].flatten())
        ([4, 4, 4, 4, 4], set())
    """
    _, first, twins = np.unique(x.numpy(force=True), axis=0, return_index=True, return_inverse=True)
    if len(first) == len(x):
        return None
    splits = stratified_splits(target.numpy(force=True)[first], N_FOLDS, seed=seed)
    held_out = [np.isin(twins.ravel(), test) for _, test in splits]
    return [(np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)) for is_held_out in held_out]


def time_splits(time: Tensor, target: Tensor) -> list[Split]:
    """Up to five later blocks, each beside all rows before it; blocks before which a class is unknown are left out.

    Example:
        >>> [(len(train), len(test)) for train, test in time_splits(torch.arange(60), torch.arange(60) % 2)]
        [(10, 10), (20, 10), (30, 10), (40, 10), (50, 10)]
    """
    order = torch.argsort(time, stable=True)
    splits = []
    for _, later in TimeSeriesSplit(N_FOLDS).split(order):
        start = time[order[later[0]]]  # rows of one time are not parted
        train, test = order[: int((time < start).sum())], order[later]
        if _is_learnable(target[train], target):
            splits.append((train.numpy(), test.numpy()))
    if len(splits) < 2:
        raise ValueError("in this order of time, some class is unknown until most rows are past")
    return splits


def block_splits(target: Tensor) -> list[Split]:
    """Five blocks of consecutive rows, of each class a fifth.

    Example:
        >>> [held_out.tolist() for _, held_out in block_splits(torch.arange(10) % 2)][:2]
        [[0, 1], [2, 3]]
    """
    place = torch.empty_like(target)
    for c in target.unique():
        rows = (target == c).nonzero()[:, 0]
        place[rows] = torch.arange(len(rows)) * N_FOLDS // len(rows)
    return [((place != k).nonzero()[:, 0].numpy(), (place == k).nonzero()[:, 0].numpy()) for k in range(N_FOLDS)]


def is_ordered(x: Tensor, target: Tensor) -> bool:
    """Whether rows resemble their neighbors in the table, as those of a series do; twins are one row.

    The nearest other row must stand at most two rows away in a tenth of all cases, and five times as often as in a
    table in which the rows of each class have changed places: one that is sorted by class is no series.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise, target = torch.randn(200, 3, generator=generator), torch.arange(200) % 2
        >>> is_ordered(noise, target), is_ordered(noise.cumsum(0), target)
        (False, True)
    """
    _, first = np.unique(x.numpy(force=True), axis=0, return_index=True)
    rows = np.sort(first)
    x, target = x[rows], target[rows]
    if len(x) < FEW:
        return False
    place = torch.arange(len(x))
    nearest = torch.cat([_nearest(x, some) for some in place.split(500)])
    moved = place.clone()
    generator = torch.Generator().manual_seed(0)
    for c in target.unique():
        own = (target == c).nonzero()[:, 0]
        moved[own] = own[torch.randperm(len(own), generator=generator)]
    share, chance = ((where[nearest] - where).abs().le(NEAR).double().mean() for where in (place, moved))
    return bool(share >= max(MANY, SEVERAL_TIMES * float(chance)))


def _nearest(x: Tensor, rows: Tensor) -> Tensor:
    distance = torch.cdist(x[rows], x)
    distance[torch.arange(len(rows)), rows] = torch.inf
    return distance.argmin(1)


def _is_learnable(known: Tensor, target: Tensor) -> bool:
    counts = torch.bincount(known, minlength=int(target.max()) + 1)
    return bool((counts >= MIN_PER_CLASS).all())
