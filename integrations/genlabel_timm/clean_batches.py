"""Clean rows for class statistics where a collate mixes in the loader's workers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, Self

import torch
from timm.data.loader import fast_collate
from timm.data.mixup import FastCollateMixup
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler


class CleanBatches:
    """Unmixed batches `(B, *), (B,)` without end, from the data set and the transforms of timm's training loader.

    They come from a loader of their own with one worker, or none if the training loader has none. Their order follows
    from torch's initial seed and from `n_given`: it goes on where a resumed run left it. Nothing is loaded before the
    first batch is asked for.

    Args:
        loader: timm's training loader.

    Attributes:
        n_given: Batches given out so far. That of an `IterableDataset`, whose order is its own, says nothing.

    Raises:
        ValueError: At the first batch, if the training loader has no fixed batch size.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.n_given = 0
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """The next clean batch."""
        if self._batches is None:
            self._batches = itertools.chain.from_iterable(itertools.repeat(self._clean_loader()))
        batch = next(self._batches)
        self.n_given += 1
        return batch

    def resume(self, n_given: int) -> None:
        """Go on after so many batches."""
        self.n_given, self._batches = n_given, None

    def _clean_loader(self) -> Any:
        prefetching = not isinstance(self.loader, DataLoader)
        mixing: DataLoader[Any] = self.loader.loader if prefetching else self.loader
        if mixing.batch_size is None:
            raise ValueError("loader has no batch size of its own: pass clean rows to observe(input, target) instead")
        options: dict[str, Any] = {"batch_size": mixing.batch_size, "drop_last": mixing.drop_last}
        seed = torch.initial_seed()
        if not isinstance(mixing.dataset, IterableDataset):
            n_rows: int = len(mixing.dataset)  # type: ignore[arg-type]
            options = {"batch_sampler": _Order(n_rows, **options, seed=seed, start=self.n_given)}
        n_workers = min(1, mixing.num_workers)
        clean: Any = DataLoader(
            mixing.dataset,
            collate_fn=fast_collate if isinstance(mixing.collate_fn, FastCollateMixup) else mixing.collate_fn,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
            multiprocessing_context=mixing.multiprocessing_context if n_workers else None,
            worker_init_fn=mixing.worker_init_fn,
            pin_memory=mixing.pin_memory,
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
        if prefetching:  # the same normalization and random erasing, on the device
            prefetcher = copy.copy(self.loader)
            prefetcher.loader, clean = clean, prefetcher
        return clean


class _Order(Sampler[list[int]]):
    """Rows of batches without end, shuffled anew for each epoch by a seed of its own, from batch `start` on."""

    def __init__(self, n_rows: int, batch_size: int, *, drop_last: bool, seed: int, start: int) -> None:
        n_kept = n_rows - n_rows % batch_size if drop_last and n_rows >= batch_size else n_rows
        self.n_rows, self.batch_size, self.n_kept = n_rows, batch_size, n_kept
        self.seed, self.start = seed, start

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = -(-self.n_kept // self.batch_size)
        for epoch in itertools.count(self.start // per_epoch):
            generator = torch.Generator().manual_seed((self.seed + epoch) % 2**63)
            batches = torch.randperm(self.n_rows, generator=generator)[: self.n_kept].split(self.batch_size)
            for batch in batches[max(self.start - epoch * per_epoch, 0) :]:
                yield batch.tolist()
