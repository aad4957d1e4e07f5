"""Epochs: which rows make up each batch of a training, and which of them meet, drawn for many steps at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins.mixing.pairing import draw_beta
from genlabel_plugins.selection._training_table import systematic_sample


class Draws(NamedTuple):
    """Batches of S steps; batches of one row less end in padding.

    Attributes:
        rows: Row in each place, shape `(S, B)`; 0 pads.
        partner: Place in the batch that each place is mixed with, shape `(S, B)`.
        lam: Share of the row itself, one number per batch, shape `(S,)`, or per place, `(S, B)`, float64.
        weight: Weight of each place in the mean over its batch, shape `(S, B)`; 0 pads.
    """

    rows: Tensor
    partner: Tensor
    lam: Tensor
    weight: Tensor

    def steps(self, start: int, stop: int) -> Draws:
        """Some of the steps."""
        return Draws(*(tensor[start:stop] for tensor in self))

    def to(self, device: torch.device) -> Draws:
        """The draws on another device."""
        return Draws(*(tensor.to(device, non_blocking=True) for tensor in self))


class Epochs:
    """Draws the random batches of a table, all of one size or one row less.

    An epoch is the same whether it is drawn alone or with others.

    Args:
        n_rows: Rows of the table, N.
        batch_size: Rows in a batch at most.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        generator: Source of randomness on the CPU.
        share: How often an epoch visits each row relative to the others, shape `(N,)`, on the CPU: the expected
            number of times, rounded up or down. By default once.
        per_sample: Draw one `lam` per row instead of one per batch.

    Attributes:
        first_clean: Epoch, counted from 0, from which on `lam` is 1, so that nothing is mixed; the draws stay.

    Example:
        >>> draws = Epochs(5, 3, 1.0, torch.Generator().manual_seed(0)).draw(1)
        >>> draws.rows.shape, draws.weight
        (torch.Size([2, 3]), tensor([[0.3333, 0.3333, 0.3333],
                [0.5000, 0.5000, 0.0000]]))
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        alpha: float,
        generator: torch.Generator,
        share: Tensor | None = None,
        *,
        per_sample: bool = False,
    ) -> None:
        self.n_rows = n_rows
        self.n_steps = count_steps(n_rows, batch_size)
        self.width = -(-n_rows // self.n_steps)
        self.alpha = alpha
        self.generator = generator
        self.share = share
        self.per_sample = per_sample
        self.first_clean = math.inf
        self.n_drawn = 0
        n_full = n_rows - self.n_steps * (self.width - 1)
        self.padding = torch.zeros(self.n_steps, self.width, dtype=torch.bool)
        self.padding[n_full:, -1] = True

    def draw(self, n_epochs: int) -> Draws:
        """Draw the next epochs, `n_epochs * n_steps` batches."""
        order, meeting, lam = zip(*(self._draw_one() for _ in range(n_epochs)), strict=True)
        padding = self.padding.repeat(n_epochs, 1)  # (S, B)
        rows = torch.zeros(padding.shape, dtype=torch.long)
        rows[~padding] = torch.cat(order)
        partner = torch.cat(meeting).masked_fill(padding, torch.inf).argsort(1)  # padding meets padding
        weight = (~padding).float()
        return Draws(rows, partner, torch.cat(lam), weight / weight.sum(1, keepdim=True))

    def _draw_one(self) -> tuple[Tensor, Tensor, Tensor]:
        order = torch.randperm(self.n_rows, generator=self.generator)
        if self.share is not None:
            offset = torch.rand((), generator=self.generator, dtype=torch.float64)
            order = systematic_sample(self.share, offset)[order]
        meeting = torch.rand(self.n_steps, self.width, generator=self.generator, dtype=torch.float32)
        lam = draw_beta(
            torch.full((self.n_steps * (self.width if self.per_sample else 1),), self.alpha), self.generator
        )
        self.n_drawn += 1
        if self.n_drawn > self.first_clean:
            lam = torch.ones_like(lam)
        return order, meeting, lam.unflatten(0, (self.n_steps, self.width)) if self.per_sample else lam


def count_steps(n_rows: int, batch_size: int) -> int:
    """Batches in an epoch."""
    return -(-n_rows // batch_size)
