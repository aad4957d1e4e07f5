"""What pytorch-tabular would stumble over far from the cause, said before it trains."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def check_tables(trainer: Trainer, *, doubled: bool) -> None:
    """Check the rows of pytorch-tabular that a Trainer has at hand; of other rows nothing is known.

    Args:
        trainer: Trainer that is about to begin, or to check validation.
        doubled: Whether clean rows train beside mixed ones, so that no training batch is of one row.

    Raises:
        ValueError: On a missing value in a continuous column, which would make every weight NaN, or a last batch of one
            row, in whose metric pytorch-tabular fails; naming the column or the numbers.
    """
    tables: Any = sys.modules.get("pytorch_tabular.tabular_datamodule")
    if tables is None:
        return
    for part in ("training", "validation"):
        loaders: Any = trainer.train_dataloader if part == "training" else trainer.val_dataloaders
        for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
            if isinstance(getattr(loader, "dataset", None), tables.TabularDataset):
                _check_values(loader.dataset, part)
                if part == "validation" or not doubled:
                    _check_batches(loader, part, trainer)


def _check_values(table: Any, part: str) -> None:
    if not table.continuous_cols:
        return
    missing = ~np.isfinite(table.continuous_X)
    if missing.any():
        column = int(missing.any(0).argmax())
        rows = missing[:, column].nonzero()[0]
        raise ValueError(
            f"column {table.continuous_cols[column]!r} must have no missing or infinite value, got {len(rows)} in the "
            f"{part} rows, first in row {table.index[rows[0]]}: fill it first"
        )


def _check_batches(loader: Any, part: str, trainer: Trainer) -> None:
    n_rows, size = len(loader.sampler), loader.batch_size
    limit: Any = trainer.limit_train_batches if part == "training" else trainer.limit_val_batches
    n_batches = len(loader)
    n_run = min(limit, n_batches) if isinstance(limit, int) else int(limit * n_batches)
    if size is not None and not loader.drop_last and n_rows % size == 1 % size and n_run >= n_batches > 0:
        raise ValueError(
            f"the last batch must hold more than one row, in whose metric pytorch-tabular fails, got {n_rows} {part} "
            f"rows in batches of {size}: choose another batch_size, or leave a row out"
        )
