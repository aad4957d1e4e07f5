"""Reading the training rows once, in order, without a trace in the module or in anybody's random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def training_rows(
    trainer: Trainer, module: LightningModule, read: Callable[[Any], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Rows `(N, D)` and targets `(N, T)` of the training set, each row once, however often a sampler draws it.

    Args:
        trainer: Trainer that has its training loader.
        module: Module in training; it sees the batches in evaluation mode and without gradient.
        read: From a batch on the module's device to its rows and targets.
    """
    loader: Any = trainer.train_dataloader
    if isinstance(loader, DataLoader):
        dataset = loader.dataset
        if isinstance(loader.sampler, SubsetRandomSampler):  # the other rows may be those of the validation
            dataset = Subset(dataset, loader.sampler.indices)
        loader = DataLoader(
            dataset,
            batch_size=loader.batch_size or 1024,
            collate_fn=loader.collate_fn,
            generator=torch.Generator(),  # else a loader draws a seed from the global generator
        )
    pieces = []
    with torch.no_grad(), evaluating(module), trainer.precision_plugin.forward_context():
        for batch in tqdm(loader, "GenLabel reads the training rows", disable=not shows_progress(trainer), leave=False):
            on_device = trainer.strategy.batch_to_device(batch, module.device)
            pieces.append(read(trainer.precision_plugin.convert_input(on_device)))
    rows, targets = zip(*pieces, strict=True)
    return torch.cat(rows), torch.cat(targets)


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
