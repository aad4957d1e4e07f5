"""Clean rows for class statistics where a collate mixes in the loader's workers."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from timm.data.loader import fast_collate
from timm.data.mixup import FastCollateMixup
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler


class CleanBatches:
    """Unmixed batches `(B, *), (B,)` without end, from the data set and the transforms of timm's training loader.

    They come from a loader of their own with one worker, or none if the training loader has none. Which rows a batch
    holds, and what its random augmentations draw, follows from a seed, the rank and the number of batches before it: a
    resumed run goes on with the batches that it would have had, and the training's own random numbers stay alone.
    Sizes of batches and of images that a batch sampler schedules are those of the training loader's epoch. Nothing is
    loaded before the first batch is asked for.

    Args:
        loader: timm's training loader.

    Attributes:
        n_given: Batches given out so far. That of an `IterableDataset`, whose order is its own, says nothing; timm's
            for NaFlex, which makes its batches itself, gives those of the training epoch.
        seed: What order and augmentations follow from; torch's initial seed, less the rank that timm adds to it.

    Raises:
        ValueError: At the first batch, if the training loader has neither a batch size nor a sampler of batches in
            which rows can be ordered anew.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.n_given = 0
        self.seed = (torch.initial_seed() - _rank()) % 2**63
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """The next clean batch."""
        with _own_random_numbers(_seed_of(self.seed, self.n_given), getattr(self.loader, "device", None)):
            if self._batches is None:
                self._batches = itertools.chain.from_iterable(itertools.repeat(self._clean_loader()))
            try:
                batch = next(self._batches)
            except BaseException:  # such as that of a worker that was killed
                self._batches = None
                raise
            if not isinstance(self.loader, DataLoader):  # the same normalization and random erasing, on the device
                prefetcher = copy.copy(self.loader)
                prefetcher.loader = [batch]  # one alone: a look at the next would draw ahead
                batch = next(iter(prefetcher))
        self.n_given += 1
        return batch

    def resume(self, n_given: int, seed: int | None = None) -> None:
        """Go on after so many batches of a run with this seed, by default the present one."""
        self.n_given, self._batches = n_given, None
        self.seed = self.seed if seed is None else seed

    def _clean_loader(self) -> DataLoader[Any]:
        mixing: DataLoader[Any] = self.loader if isinstance(self.loader, DataLoader) else self.loader.loader
        dataset: Any = mixing.dataset
        options: dict[str, Any] = {"batch_size": mixing.batch_size, "drop_last": mixing.drop_last}
        if not isinstance(dataset, IterableDataset):
            options = {"batch_sampler": self._order(mixing, len(dataset))}
            dataset = _SeededBatches(dataset)
        elif hasattr(dataset, "mixup_fn"):  # of NaFlex, which mixes rows before it pads them to a batch
            dataset = copy.copy(dataset)
            dataset.mixup_fn = None
        elif mixing.batch_size is None:
            raise _no_order()
        n_workers = min(1, mixing.num_workers)
        return DataLoader(
            dataset,
            collate_fn=fast_collate if isinstance(mixing.collate_fn, FastCollateMixup) else mixing.collate_fn,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
            multiprocessing_context=mixing.multiprocessing_context if n_workers else None,
            worker_init_fn=mixing.worker_init_fn,
            pin_memory=mixing.pin_memory,
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )

    def _order(self, mixing: DataLoader[Any], n_rows: int) -> Sampler[Any]:
        """Seeds and rows of batches in an order of their own."""
        if mixing.batch_size is not None:
            size: dict[str, Any] = {"batch_size": mixing.batch_size, "drop_last": mixing.drop_last}
            return _Order(n_rows, **size, seed=self.seed, start=self.n_given)
        if not hasattr(mixing.batch_sampler, "sampler"):
            raise _no_order()
        return _Scheduled(mixing.batch_sampler, n_rows, seed=self.seed, start=self.n_given)


def _no_order() -> ValueError:
    return ValueError("loader has no batch size of its own: pass clean rows to observe(input, target) instead")


class _Order(Sampler[tuple[int, list[int]]]):
    """Seeds and rows of batches without end, shuffled anew for each epoch, from batch `start` on."""

    def __init__(self, n_rows: int, batch_size: int, *, drop_last: bool, seed: int, start: int) -> None:
        n_kept = n_rows - n_rows % batch_size if drop_last and n_rows >= batch_size else n_rows
        self.n_rows, self.batch_size, self.n_kept = n_rows, batch_size, n_kept
        self.seed, self.start = seed, start

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        per_epoch = -(-self.n_kept // self.batch_size)
        number = self.start
        while True:
            epoch, done = divmod(number, per_epoch)
            generator = torch.Generator().manual_seed(_seed_of(self.seed, epoch))
            order = torch.randperm(self.n_rows, generator=generator)[: self.n_kept]
            for batch in order.split(self.batch_size)[done:]:
                yield _seed_of(self.seed, number), batch.tolist()
                number += 1


class _Scheduled(Sampler[tuple[int, list[Any]]]):
    """Seeds and rows of the batches that a batch sampler makes in its present epoch, of rows in an order of its own."""

    def __init__(self, batches: Any, n_rows: int, *, seed: int, start: int) -> None:
        self.batches, self.n_rows, self.seed, self.start = batches, n_rows, seed, start

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        number = self.start
        while True:
            epoch, done = divmod(number, len(self.batches))
            generator = torch.Generator().manual_seed(_seed_of(self.seed, epoch))
            batches = copy.copy(self.batches)  # anew, since training sets the epoch of its own
            batches.sampler = torch.randperm(self.n_rows, generator=generator).tolist()
            for batch in itertools.islice(batches, done, None):
                yield _seed_of(self.seed, number), batch
                number += 1


class _SeededBatches(Dataset[Any]):
    """Rows of a data set, whose random transforms draw from the seed that comes with each batch of indices."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, batch: tuple[int, list[int]]) -> list[Any]:
        """Rows of a batch, as a loader asks for them."""
        seed, rows = batch
        with _own_random_numbers(seed):
            if hasattr(self.dataset, "__getitems__"):
                return list(self.dataset.__getitems__(rows))
            return [self.dataset[row] for row in rows]


@contextmanager
def _own_random_numbers(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators that transforms draw from within the block, and put them back after it."""
    devices = [device] if device is not None and device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        for each in devices:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _seed_of(seed: int, number: int) -> int:
    """Seed of a batch, or of an epoch's order, on this rank."""
    return int(np.random.SeedSequence((seed, _rank(), number)).generate_state(1, np.uint64)[0]) >> 1
