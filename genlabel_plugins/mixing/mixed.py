"""Mixed: what mixing makes of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.mixing.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A mixed batch, with all that a label policy needs.

    Attributes:
        x: Mixed inputs, shape `(B, *)`, or a mapping of several.
        y_mix: Labels mixed by `lam`, shape `(B, C)`.
        target_i: Classes of the rows, shape `(B,)`.
        target_j: Classes of their partners, shape `(B,)`.
        partner: Row that each row is mixed with, shape `(B,)`; a row may be its own partner.
        lam: Share of the row itself, shape `(B,)`; what was really mixed, after any correction.
        row: The rows' own places in the batch that `partner` counts in, shape `(B,)`; by default all, in order.
        clean: Inputs before mixing, which `row` and `partner` count in, for labels that leave them out; perhaps None.
    """

    x: Inputs
    y_mix: Tensor
    target_i: Tensor
    target_j: Tensor
    partner: Tensor
    lam: Tensor
    row: Tensor | None = None
    clean: Inputs | None = None

    def parents(self, rows: Tensor) -> Parents:
        """The two rows that each mixed one was made of, out of clean rows `(N, *)` as densities know them."""
        row = torch.arange(len(rows), device=self.partner.device) if self.row is None else self.row
        own, target_j = rows if self.row is None else rows[row], torch.where(self.partner == row, -1, self.target_j)
        return Parents(own, self.target_i, rows[self.partner], target_j)

    @property
    def is_mixed(self) -> Tensor:
        """Which rows hold a part of two inputs, shape `(B,)`; the label of any other is known for sure."""
        row = torch.arange(len(self.partner), device=self.partner.device) if self.row is None else self.row
        return (self.lam > 0) & (self.lam < 1) & (self.partner != row)
