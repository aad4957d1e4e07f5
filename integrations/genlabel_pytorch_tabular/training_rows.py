"""Reading the rows that training visits once, as a step sees them, without a trace in module or random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from tqdm.auto import tqdm

from genlabel_pytorch_tabular._lightning import isolate_rng

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def training_rows(
    trainer: Trainer,
    module: LightningModule,
    read: Callable[[Any], tuple[Tensor, Tensor]],
    batches: Iterable[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows `(N, D)` and targets `(N, T)` of the training set, each row once, however often a sampler draws it.

    Args:
        trainer: Trainer that has its training loader.
        module: Module in training; it sees the batches in evaluation mode and without gradient.
        read: From a batch, as a step sees it, to its rows and targets.
        batches: Batches kept from steps, in place of those of the loader.
    """
    pieces = []
    with torch.no_grad(), isolate_rng(include_cuda=module.device.type == "cuda"):
        for batch in _batches(trainer, module) if batches is None else batches:
            with evaluating(module), trainer.precision_plugin.forward_context():
                pieces.append(read(batch))
    rows, targets = zip(*pieces, strict=True)
    return torch.cat(rows), torch.cat(targets)


def is_stream(loader: Any) -> bool:
    """Whether a loader can perhaps be read but once, or never ends."""
    if isinstance(loader, DataLoader):
        return isinstance(loader.dataset, IterableDataset)
    return not hasattr(loader, "__len__")


def shows_progress(trainer: Trainer) -> bool:
    """Whether the user of a Trainer wants progress bars."""
    bar: Any = trainer.progress_bar_callback
    return bar is not None and bool(bar.is_enabled)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; after it each submodule is in the mode it was in."""
    training = [each for each in module.modules() if each.training]
    module.eval()
    try:
        yield
    finally:
        for each in training:
            each.training = True


def _batches(trainer: Trainer, module: LightningModule) -> Iterator[Any]:
    """Batches of the training rows, after all that Lightning and the module do to them before a step."""
    loader: Any = trainer.train_dataloader
    keeping: Any = nullcontext()
    if isinstance(loader, DataLoader):
        keeping = _keeping_generator(loader)
        loader = DataLoader(
            Subset(loader.dataset, _visited(loader, trainer)),
            batch_size=loader.batch_size or 1024,
            collate_fn=loader.collate_fn,
            generator=torch.Generator(),  # else a loader draws a seed from the global generator
        )
    with keeping:
        for batch in tqdm(loader, "GenLabel reads the training rows", disable=not shows_progress(trainer), leave=False):
            converted = trainer.precision_plugin.convert_input(batch)
            yield trainer.strategy.batch_to_device(module._on_before_batch_transfer(converted))


def _visited(loader: DataLoader[Any], trainer: Trainer) -> list[int]:
    """Indices of the rows that training visits: all that a random sampler may draw, else those of one epoch."""
    n_batches = trainer.num_training_batches * trainer.world_size
    limit = None if n_batches == float("inf") else int(n_batches)
    batches: Any = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:  # of its own kind
        return sorted(set(chain.from_iterable(islice(batches, limit))))
    sampler: Any = loader.sampler if batches is None else batches.sampler
    while isinstance(sampler, DistributedSampler):  # Lightning wraps a sampler of the user's
        sampler = getattr(sampler.dataset, "_sampler", None) or (
            RandomSampler(sampler.dataset) if sampler.shuffle else range(len(sampler.dataset))  # type: ignore[arg-type]
        )
    if isinstance(sampler, WeightedRandomSampler):
        drawn: Iterable[int] = sampler.weights.nonzero()[:, 0].tolist()
    elif isinstance(sampler, SubsetRandomSampler):
        drawn = sampler.indices
    elif isinstance(sampler, RandomSampler):
        drawn = range(len(sampler.data_source))
    else:
        drawn = islice(sampler, limit if limit is None else limit * getattr(batches, "batch_size", 1))
    return sorted(set(drawn))


@contextmanager
def _keeping_generator(loader: DataLoader[Any]) -> Iterator[None]:
    """Put back the generator of a sampler, which a pass over it moves."""
    samplers = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    generators: list[Any] = [getattr(each, "generator", None) for each in samplers]
    found = [each for each in generators if isinstance(each, torch.Generator)]
    states = [each.get_state() for each in found]
    try:
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)
