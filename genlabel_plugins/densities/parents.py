"""Parents: the two training rows of a mixed one, and where they are among the rows that a density remembers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._state import LearntState, accumulator, as_rows

BITS = 44  # of a place along the line on which rows are found again; as many lie between two classes
TOLERANCE = 1e-7  # of the length of the line, within which a row is taken for a known one


class Parents(NamedTuple):
    """The two training rows that each mixed row was made of.

    Attributes:
        x_i: Rows, shape `(B, *)`, as the densities know rows.
        target_i: Their classes, shape `(B,)`.
        x_j: Partners of these rows, shape `(B, *)`.
        target_j: Their classes, shape `(B,)`.
    """

    x_i: Tensor
    target_i: Tensor
    x_j: Tensor
    target_j: Tensor

    @classmethod
    def in_batch(cls, x: Tensor, target: Tensor, partner: Tensor) -> Parents:
        """Parents in a batch of rows `(B, *)` of classes `(B,)`, each of which was mixed with its partner, `(B,)`."""
        return cls(x, target, x[partner], target[partner])


class RowPlaces(LearntState):
    """Finds training rows again by their values: in which place a density keeps them.

    Rows are projected onto a line, on which a binary search finds the nearest one of the class. That costs a product
    with one vector; and the rounding of features that are computed anew does no harm.

    Example:
        >>> x, target = torch.tensor([[0.5, 1.0], [2.0, 0.1], [2.0, 0.1]]), torch.tensor([0, 0, 1])
        >>> places = RowPlaces()
        >>> places.remember(x, target, torch.tensor([7, 8, 9]))
        >>> places.find(x[1:], target[1:]), places.find(x[:1] + 0.1, target[:1])
        (tensor([8, 9]), tensor([-1]))
    """

    direction_: Tensor  # (D,)
    key_: Tensor  # (N,), sorted
    place_: Tensor  # (N,)

    def __init__(self) -> None:
        super().__init__()
        self._declare("direction_", "key_", "place_")

    def remember(self, x: Tensor, target: Tensor, place: Tensor) -> None:
        """Note the places `(N,)` of rows `(N, D)` of classes `(N,)`."""
        unit = x.abs().amax(0)
        weight = torch.arange(1, x.shape[1] + 1, device=x.device).to(x).sqrt().frac().add(0.5)
        self.direction_ = weight / (unit.where(unit > 0, 1.0) * (2.1 * weight.sum()))  # the line runs from -1/2 to 1/2
        order = (key := self._keys(x, target)).argsort(stable=True)
        self.key_, self.place_ = key[order], place[order]

    def find(self, x: Tensor, target: Tensor) -> Tensor:
        """Places of rows `(B, D)` of classes `(B,)`, shape `(B,)`; -1 for a row that is none of those remembered."""
        check_remembered(self.key_)
        key = self._keys(x, target)
        keys, last = self.key_, len(self.key_) - 1
        after = torch.searchsorted(keys, key).clamp_(max=last)
        before = (after - 1).clamp_(min=0)
        nearest = torch.where(key - keys[before] < keys[after] - key, before, after)
        return torch.where((keys[nearest] - key).abs() <= TOLERANCE * 2**BITS, self.place_[nearest], -1)

    def leave(self, parents: Parents, count: Tensor) -> tuple[Tensor, Tensor]:
        """Places of parents, and how many rows each class loses with them.

        A class keeps its rows if it would lose all of them. Parents that are equal are one row.

        Args:
            parents: The parents; targets count the classes with rows.
            count: Rows of these classes, shape `(K,)`.

        Returns:
            Places `(B, 2)`, -1 for what is not left out, and losses `(B, K)`.
        """
        x_i, target_i, x_j, target_j = parents
        target = torch.stack([target_i, target_j], 1)  # (B, 2)
        place = self.find(torch.cat([x_i, x_j]), target.T.flatten()).view(2, -1).T
        known = place >= 0
        known[:, 1] &= place[:, 0] != place[:, 1]
        lost = count.new_zeros(len(place), len(count)).scatter_add_(1, target, known.to(count))
        lost = lost.where(lost < count, 0)
        return place.where(known & (lost.gather(1, target) > 0), -1), lost

    def _keys(self, x: Tensor, target: Tensor) -> Tensor:
        wide = accumulator(x)
        along = (as_rows(x).to(wide) @ self.direction_.to(wide) + 0.5).nan_to_num(0.0).clamp(0, 1)
        key: Tensor = (target << (BITS + 1)) + (along * 2**BITS).long()
        return key


def check_remembered(state: Tensor | None) -> None:
    """Raise `ValueError` where a density was saved before it kept what leaving rows out takes."""
    if state is None:
        raise ValueError("leave_parents_out needs a density that was fitted by this version: fit it again")


def drop_(score: Tensor, place: Tensor, value: float) -> Tensor:
    """Lower scores `(B, P)` at places `(B, 2)` to a value; places outside `0..P-1` are passed over."""
    at = place.clamp(0, score.shape[1] - 1)
    return score.scatter_reduce_(1, at, torch.where(at == place, value, torch.inf).to(score), "amin")
