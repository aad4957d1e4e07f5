"""What a mixer knows of the batch it mixed last, in the open for a loss that comes after the forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genlabel_plugins.mixing.inputs import map_inputs


@dataclass(kw_only=True)
class MixedBatch:
    """A mixed batch of R rows as the loop sees it, made of B clean ones.

    Attributes:
        clean: Inputs before mixing, shape `(B, *)`; None if nobody asks for them.
        target: Their class indices, shape `(B,)`.
        y: Labels that the loop was given, shape `(R, C)`.
        y_lin: The same before any smoothing, shape `(R, C)`.
        mixed: Which rows are mixtures, shape `(R,)`.
        n_clean: Rows at the front that are the clean ones themselves: B or none.
        n_taken: Rows that were taken so far.
    """

    clean: Any
    target: Tensor
    y: Tensor
    y_lin: Tensor
    mixed: Tensor
    n_clean: int = 0
    n_taken: int = 0

    def take(self, n_rows: int) -> MixedBatch:
        """The next rows, as a loop over micro-batches comes by them, and the clean ones that they were made of.

        After the last row the first is next again: an optimizer may evaluate the loss of a batch several times.
        """
        self.n_taken = 0 if self.n_taken >= len(self.y) else self.n_taken
        rows = slice(self.n_taken, self.n_taken + n_rows)
        n_clean = min(max(self.n_clean - self.n_taken, 0), n_rows)
        self.n_taken += n_rows
        return MixedBatch(
            clean=None if self.clean is None else map_inputs(lambda tensor: tensor[rows], self.clean),
            target=self.target[rows],
            y=self.y[rows],
            y_lin=self.y_lin[rows],
            mixed=self.mixed[rows],
            n_clean=n_clean,
        )

    def take_clean(self) -> tuple[Any, Tensor] | None:
        """Inputs before mixing and their class indices, given out once."""
        clean, self.clean = self.clean, None
        return None if clean is None else (clean, self.target)
