"""TrainingTable: standardized rows in an order of their own, with their weights, as training and densities see them."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genlabel_plugins._state import mean_and_spread
from genlabel_plugins.densities._components import RANK_TOLERANCE, even_directions

TIE = 1e-9  # past a place on the grid: sums in another order, as on a GPU, are as far past it
MAX_REPEATS = 100  # mean weight up to which whole numbers mean repetitions


class TrainingTable(NamedTuple):
    """Training rows, standardized, sorted and weighed.

    They are sorted by their values, so that what is learnt depends on the set of rows and not on their order.

    Attributes:
        x: Rows in the units of the table, shape `(N, D)`, float32; `(N, rank)` in a basis.
        target: Class indices, shape `(N,)`.
        share: How often training visits each row relative to the others, shape `(N,)`; None for all alike.
        density_rows: Rows that densities are fitted to, repeated as they weigh; None for each once.
        mean: Mean of each feature, shape `(D,)`, float64.
        scale: Unit of each feature, shape `(D,)`, float64.
        basis: Orthonormal directions, whose span holds the rows, shape `(D, rank)`, float64; None for the features.
        total: Sum of the weights, a scalar, float64.
        strictness: Factor of a penalty on squared coefficients that is meant for other units, a scalar, float64.
    """

    x: Tensor
    target: Tensor
    share: Tensor | None
    density_rows: Tensor | None
    mean: Tensor
    scale: Tensor
    basis: Tensor | None
    total: Tensor
    strictness: Tensor

    @classmethod
    def of(
        cls,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        class_weight: Tensor | None = None,
        *,
        standardize: bool = True,
        in_span: bool = False,
    ) -> Self:
        """Make a table of rows `(N, D)` and class indices `(N,)`.

        Args:
            x: Rows, shape `(N, D)`, float64.
            target: Class indices, shape `(N,)`.
            weight: Weight of each row, shape `(N,)`. Whole numbers, up to a mean of 100, repeat a row, or leave it
                out; others say how often training visits it relative to the rest.
            class_weight: How often training visits each class relative to its rows, shape `(C,)`; densities, each
                of one class, are left alone.
            standardize: Divide each feature by its standard deviation, unless it is constant; else divide all by one
                number, and undo in `strictness` what that does to a penalty.
            in_span: Write the rows of a table that is wider than long in a basis of their span, in which nothing is
                lost: no combination of the rows leaves it; and those of columns in common units in `even_directions`.

        Raises:
            ValueError: If no row has a positive weight.

        Example:
            >>> x, target = torch.tensor([[3.0], [1.0]]).double(), torch.tensor([0, 1])
            >>> TrainingTable.of(x, target, torch.tensor([1.0, 2.0])).target
            tensor([1, 1, 0])
        """
        arranged = arrange(x, target, weight)
        return cls.of_arranged(*arranged, class_weight, standardize=standardize, in_span=in_span)

    @classmethod
    def of_arranged(
        cls,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        class_weight: Tensor | None = None,
        *,
        standardize: bool = True,
        in_span: bool = False,
    ) -> Self:
        """Make a table of rows that `arrange` has put in order, or of some of them in that order."""
        density_rows = None if weight is None else systematic_sample(weight, 0.5)
        seen = x if density_rows is None else x[density_rows]
        mean, spread = mean_and_spread(seen)
        scale = torch.where((seen.amax(0) == seen.amin(0)) | (spread == 0), 1.0, spread)
        if not standardize:
            largest = spread.amax()
            common = largest * (spread / largest).square().mean().sqrt() if largest > 0 else torch.ones_like(largest)
            scale = common.expand_as(scale)
        share = weight
        if class_weight is not None:
            share = class_weight.to(x)[target] * (1.0 if weight is None else weight)
        total = mean.new_tensor(len(x)) if share is None else share.sum()
        if share is not None and bool((share == share[0]).all()):
            share = None
        z = (x - mean) / scale
        basis = None
        if in_span and z.shape[1] > len(z):
            _, size, directions = torch.linalg.svd(z, full_matrices=False)
            directions = directions[size > RANK_TOLERANCE * size[0]]
            basis = directions.T @ even_directions(len(directions)).to(z)
        elif in_span and not standardize:
            basis = even_directions(z.shape[1]).to(z)
        if basis is not None:
            z = z @ basis
        strictness = torch.ones_like(total) if standardize else scale[0] ** -2
        return cls(z.float(), target, share, density_rows, mean, scale, basis, total, strictness)

    def standardize(self, x: Tensor) -> Tensor:
        """Bring other rows into the units of the table, `(B, D) -> (B, D)`, float32."""
        z = (x - self.mean) / self.scale
        return (z if self.basis is None else z @ self.basis).float()

    def class_share(self, n_classes: int) -> Tensor:
        """Share of each class in what training visits, shape `(C,)`, float64."""
        visits = torch.bincount(self.target, self.share, minlength=n_classes).double()
        return visits / visits.sum()


def arrange(x: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows in the order of their values, without those of no weight, repeated as weights say.

    Raises:
        ValueError: If no row has a positive weight.
    """
    if weight is not None:
        kept = weight > 0
        if not bool(kept.any()):
            raise ValueError("weight must be positive for at least one row, got none")
        x, target, weight = x[kept], target[kept], weight[kept].double()
    order = torch.from_numpy(lexical_order(torch.cat([x, target[:, None].to(x)], 1).numpy(force=True))).to(x.device)
    x, target = x[order], target[order]
    if weight is not None:
        weight = weight[order]
        if repeats_rows(weight):
            x, target = (part.repeat_interleave(weight.long(), 0) for part in (x, target))
            weight = None
        elif bool((weight == weight[0]).all()):
            weight = None
    return x, target, weight


def lexical_order(rows: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of rows, `(N, D) -> (N,)`, by their first column, within equals by the second, and so on.

    Doubles that are read as big-endian integers, with the signs taken care of, compare as bytes compare: one sort of
    whole rows, many times faster than `numpy.lexsort`, which sorts by one column after another.

    Example:
        >>> lexical_order(np.array([[1.0, -2.0], [1.0, -3.0], [-1.0, 0.0]]))
        array([2, 1, 0])
    """
    bits = np.add(rows, 0.0, order="C").view(np.int64)  # zero has one sign
    flips = bits >> 63  # all bits of a negative number, the sign of a positive one
    flips |= np.iinfo(np.int64).min
    bits ^= flips
    keys = bits.astype(">i8")
    return keys.view(np.dtype((np.void, keys.strides[0]))).squeeze(1).argsort(kind="stable")


def repeats_rows(weight: Tensor) -> bool:
    """Whether weights, shape `(N,)`, are whole numbers that say how often a row stands in the table."""
    positive = weight[weight > 0]
    return bool((positive == positive.round()).all()) and float(positive.mean()) <= MAX_REPEATS


def count_rows(weight: Tensor) -> int:
    """Rows of a table with these weights, shape `(N,)`."""
    return int(weight.sum()) if repeats_rows(weight) else int((weight > 0).sum())


def systematic_sample(weight: Tensor, offset: float | Tensor) -> Tensor:
    """As many rows as there are weights, each as often as it weighs, rounded up or down.

    Args:
        weight: Non-negative weights, shape `(N,)`.
        offset: Shift of the sampling grid, in [0, 1); uniformly random, each row has its expected count.

    Returns:
        Row indices, shape `(N,)`, ascending.

    Example:
        >>> systematic_sample(torch.tensor([3.0, 0.0, 1.0, 0.0]), 0.5)
        tensor([0, 0, 0, 2])

    Reference:
        Madow and Madow, On the Theory of Systematic Sampling, 1944.
    """
    n_rows = len(weight)
    upper = weight.double().cumsum(0)
    upper *= n_rows / upper[-1]
    grid = torch.arange(n_rows, device=weight.device, dtype=torch.float64) + (offset + TIE)
    return torch.searchsorted(upper, grid, right=True).clamp(max=int(weight.nonzero()[-1]))
