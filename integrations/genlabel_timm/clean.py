"""Clean rows for class statistics where a collate mixes in the loader's workers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from timm.data.loader import fast_collate
from timm.data.mixup import FastCollateMixup
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset


def clean_batches(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Unmixed batches `(B, *), (B,)` without end, from the data set and the transforms of timm's training loader.

    They come from a loader of their own with one worker, or none if the training loader has none, and its order from a
    generator of its own. Nothing is loaded before the first batch is asked for.

    Raises:
        ValueError: If the training loader has no fixed batch size.
    """
    prefetching = not isinstance(loader, DataLoader)
    mixing: DataLoader[Any] = loader.loader if prefetching else loader
    if mixing.batch_size is None:
        raise ValueError("loader has no batch size of its own: pass clean rows to update(input, target) instead")
    n_workers = min(1, mixing.num_workers)
    clean: Any = DataLoader(
        mixing.dataset,
        batch_size=mixing.batch_size,
        shuffle=not isinstance(mixing.dataset, IterableDataset),
        drop_last=mixing.drop_last,
        collate_fn=fast_collate if isinstance(mixing.collate_fn, FastCollateMixup) else mixing.collate_fn,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        multiprocessing_context=mixing.multiprocessing_context if n_workers else None,
        worker_init_fn=mixing.worker_init_fn,
        pin_memory=mixing.pin_memory,
        generator=torch.Generator().manual_seed(torch.initial_seed()),
    )
    if prefetching:  # the same normalisation and random erasing, on the device
        prefetcher = copy.copy(loader)
        prefetcher.loader, clean = clean, prefetcher
    while True:
        yield from clean
