"""EarlyStopping: watches stacked networks in training and keeps the best state of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from genlabel_plugins.densities._training import hold_out
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable

HeldOut = tuple[Tensor, Tensor, Tensor]  # rows (B, D), classes (B,), weights (B,)
LEAST_HELD_OUT = 10  # rows that can tell when to stop


class EarlyStopping:
    """Notes the loss of each network after each epoch; with held-out rows it keeps the best state of each.

    Args:
        patience: Epochs without a lower held-out log-loss of any network after which to stop.
        held_out: Held-out rows of each table; None watches only.

    Attributes:
        losses: Mean training loss of each network in each epoch, shapes `(F, M)`.
        held_out_losses: Held-out log-loss of each, shapes `(F, M)`.
    """

    def __init__(self, patience: int, held_out: Sequence[HeldOut] | None = None) -> None:
        self.patience = patience
        self.held_out = held_out
        self.losses: list[Tensor] = []
        self.held_out_losses: list[Tensor] = []
        self.best: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, networks: StackedNetworks, losses: Tensor) -> bool:
        """Note an epoch; whether to stop."""
        self.losses.append(losses)
        if self.held_out is None:
            return False
        now = torch.stack([self._loss(networks.of_table(f), *rows) for f, rows in enumerate(self.held_out)])
        self.held_out_losses.append(now)
        history = torch.stack(self.held_out_losses)  # (epochs, F, M)
        since = len(history) - 1 - history.argmin(0)
        state = [parameter.clone() for parameter in networks.parameters()]
        better = networks.per_network(since == 0)
        self.best = [torch.where(*parts) for parts in zip(better, state, self.best or state, strict=True)]
        return bool((since >= self.patience).all())

    @torch.no_grad()
    def restore(self, networks: StackedNetworks) -> None:
        """Put the best state of each network back."""
        for parameter, best in zip(networks.parameters(), self.best, strict=False):
            parameter.copy_(best)

    @staticmethod
    def _loss(networks: StackedNetworks, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Weighted log-loss of the networks of one table, shape `(M,)`."""
        z = networks(x[None])[0]  # (B, C, M)
        labels = target[:, None].expand(-1, z.shape[2])
        return (weight / weight.sum()) @ cross_entropy(z, labels, reduction="none").double()


def table_and_held_out(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    class_weight: Tensor | None,
    *,
    fraction: float | None,
    seed: int,
    least: int = LEAST_HELD_OUT,
    **table_options: Any,
) -> tuple[TrainingTable, HeldOut | None]:
    """Make a table of rows that `arrange` has put in order, without those held out to tell when to stop.

    Args:
        x: Rows, shape `(N, D)`, float64.
        target: Class indices, shape `(N,)`.
        weight: Weights of the rows, shape `(N,)`, or None.
        class_weight: As `TrainingTable.of` takes it.
        fraction: Fraction of each class to hold out, rounded down; None holds nothing out.
        seed: Seed of the choice.
        least: Hold nothing out where that would be fewer rows.
        table_options: Other options of `TrainingTable.of`.
    """
    rows = held_out = torch.arange(len(x), device=x.device)[:0]
    if fraction is not None:
        rows, held_out = hold_out(target, fraction, torch.Generator().manual_seed(seed))
    if fraction is None or len(held_out) < least:
        return TrainingTable.of_arranged(x, target, weight, class_weight, **table_options), None
    rows = rows.sort().values
    kept = None if weight is None else weight[rows]
    table = TrainingTable.of_arranged(x[rows], target[rows], kept, class_weight, **table_options)
    judges = torch.ones_like(x[:, 0]) if weight is None else weight
    return table, (table.standardize(x[held_out]), target[held_out], judges[held_out])
