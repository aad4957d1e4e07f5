"""Parents: the two training rows of a mixed one, and where they are among the rows that a density remembers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from genlabel_plugins._checks import check_tensor
from genlabel_plugins._state import LearntState, accumulator, as_rows

BITS = 44  # of a place along the line on which rows are found again; as many lie between two classes
TOLERANCE = 1e-6  # of what a row measures, within which it is taken for a known one


class Parents(NamedTuple):
    """The two training rows that each mixed row was made of.

    Attributes:
        x_i: Rows, shape `(B, *)`, as the densities know rows.
        target_i: Their classes, shape `(B,)`.
        x_j: Partners of these rows, shape `(B, *)`.
        target_j: Their classes, shape `(B,)`; -1 for a row that is its own partner and has no second parent.
    """

    x_i: Tensor
    target_i: Tensor
    x_j: Tensor
    target_j: Tensor

    @classmethod
    def in_batch(cls, x: Tensor, target: Tensor, partner: Tensor) -> Parents:
        """Parents in a batch of rows `(B, *)` of classes `(B,)`, each of which was mixed with its partner, `(B,)`."""
        own = torch.arange(len(target), device=target.device)
        return cls(x, target, x[partner], torch.where(partner == own, -1, target[partner]))

    def check(self, n_rows: int) -> None:
        """Raise `ValueError` unless there are parents of so many rows, with class indices."""
        for name, part in self._asdict().items():
            check_tensor(name, part)
            if len(part) != n_rows:
                raise ValueError(f"parents must be given for each of the {n_rows} rows of x, got {len(part)} in {name}")
            if name.startswith("target") and (part.ndim != 1 or part.is_floating_point()):
                shape = tuple(part.shape)
                raise ValueError(
                    f"{name} must hold class indices, shape ({n_rows},), got {part.dtype} of shape {shape}"
                )


class RowPlaces(LearntState):
    """Finds training rows again by their values: in which place a density keeps them.

    Rows are projected onto a line, on which a binary search finds those of the class beside a row, and a second
    projection tells whether one of them is the row itself. That costs a product with two vectors; and the rounding of
    features that are computed anew does no harm.

    Example:
        >>> x, target = torch.tensor([[0.5, 1.0], [2.0, 0.1], [2.0, 0.1]]), torch.tensor([0, 0, 1])
        >>> places = RowPlaces()
        >>> places.remember(x, target, torch.tensor([7, 8, 9]))
        >>> places.find(x[1:], target[1:]), places.find(x[:1] + 0.1, target[:1])
        (tensor([8, 9]), tensor([-1]))
    """

    may_lack = "the places of its rows"

    direction_: Tensor  # (D, 2)
    key_: Tensor  # (N,), class and place along the line, sorted
    mark_: Tensor  # (N, 2), projections in this order
    place_: Tensor  # (N,)

    def __init__(self) -> None:
        super().__init__()
        self._declare("direction_", "key_", "mark_", "place_")

    def remember(self, x: Tensor, target: Tensor, place: Tensor) -> None:
        """Note the places `(N,)` of rows `(N, D)` of classes `(N,)`."""
        unit, number = x.abs().mean(0), torch.arange(1, x.shape[1] + 1, device=x.device, dtype=accumulator(x))
        weight = torch.stack([number.sqrt().frac().add(0.5), number.mul(0.5 * (5**0.5 - 1)).frac().sub(0.5)], 1)
        self.direction_ = (weight / weight[:, 0].sum()).to(x) / unit.where(unit > 0, 1.0)[:, None]
        key, mark, _ = self._projected(x, target)
        order = key.argsort(stable=True)
        self.key_, self.mark_, self.place_ = key[order], mark[order], place[order]

    def find(self, x: Tensor, target: Tensor) -> Tensor:
        """Places of rows `(B, D)` of classes `(B,)`, shape `(B,)`; -1 for a row that is none of those remembered."""
        rank, gap = self._beside(x, target)
        return self._nearest(rank, gap)[1]

    def leave(self, parents: Parents, count: Tensor) -> tuple[Tensor, Tensor]:
        """Places of parents, and how many rows each class loses with them.

        A class keeps its rows if it would lose all of them. Parents that are equal are two rows if there are two.

        Args:
            parents: The parents; targets count the classes with rows.
            count: Rows of these classes, shape `(K,)`.

        Returns:
            Places `(B, 2)`, -1 for what is not left out, and losses `(B, K)`.
        """
        x_i, target_i, x_j, target_j = parents
        rank, gap = self._beside(torch.cat([x_i, x_j]), torch.cat([target_i, target_j]))
        (rank_i, rank_j), (gap_i, gap_j) = rank.chunk(2), gap.chunk(2)
        taken, place_i = self._nearest(rank_i, gap_i)
        taken = taken.where(place_i >= 0, -1)
        place_j = self._nearest(rank_j, gap_j.masked_fill(rank_j == taken[:, None], torch.inf))[1]
        place, target = torch.stack([place_i, place_j], 1), torch.stack([target_i, target_j], 1).clamp(min=0)  # (B, 2)
        known = place >= 0
        lost = count.new_zeros(len(place), len(count)).scatter_add_(1, target, known.to(count))
        lost = lost.where(lost < count, 0)
        return place.where(known & (lost.gather(1, target) > 0), -1), lost

    def _beside(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The four remembered rows beside each on the line, `(B, 4)`, and how far they are, infinite if another row."""
        self.check_kept()
        key, mark, size = self._projected(x, target)
        around = torch.arange(-2, 2, device=x.device)
        rank = (torch.searchsorted(self.key_, key)[:, None] + around).clamp_(0, len(self.key_) - 1)
        gap = (self.mark_[rank] - mark[:, None]).abs().amax(2)
        same = (gap <= TOLERANCE * size[:, None]) & ((self.key_[rank] - key[:, None]).abs() < 2**BITS)
        return rank, gap.where(same, torch.inf)

    def _nearest(self, rank: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Rank of the nearest of four rows, and its place, -1 if all are others, `(B,)` both."""
        least, which = gap.min(1)
        rank = rank.gather(1, which[:, None]).squeeze(1)
        return rank, self.place_[rank].masked_fill(least == torch.inf, -1)

    def _projected(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys `(B,)`, projections `(B, 2)` and sizes `(B,)` of rows."""
        wide = as_rows(x).to(accumulator(x))
        direction = self.direction_.to(wide)
        mark, size = wide @ direction, wide.abs() @ direction[:, 0]
        along = functional.softsign(mark[:, 0])  # far rows do not crowd the others
        key: Tensor = (target << (BITS + 1)) + (along * 2 ** (BITS - 1)).long()
        return key, mark, size


def drop_(score: Tensor, place: Tensor, value: float) -> Tensor:
    """Lower scores `(B, P)` at places `(B, 2)` to a value; places outside `0..P-1` are passed over."""
    at = place.clamp(0, score.shape[1] - 1)
    return score.scatter_reduce_(1, at, torch.where(at == place, value, torch.inf).to(score), "amin")
