"""Class means and covariances, in one streaming pass."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins.densities._ranks import State

CHUNK_ROWS = 4_096  # a chunk of 64 features in float64 stays in cache


class ClassMoments(NamedTuple):
    """Moments of each class, float64.

    Attributes:
        class_count: Rows per class, shape `(C,)`.
        mean: Class means, shape `(C, D)`.
        scatter: Sums of squares about the mean, shape `(C, D, D)`, or `(C, D)` if only its diagonal.
        third: Sums of third powers about the mean, shape `(C, D)`.
        fourth: Sums of fourth powers about the mean, shape `(C, D)`.
    """

    class_count: Tensor
    mean: Tensor
    scatter: Tensor
    third: Tensor
    fourth: Tensor

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Moments of the rows of both together, whatever the leading dimensions."""
        n_self, n_other = self.class_count[..., None], other.class_count[..., None]
        n, shift = n_self + n_other, other.mean - self.mean
        p, q = n_self / n.clamp(min=1), n_other / n.clamp(min=1)
        diagonal = self.scatter.ndim == self.mean.ndim
        within = [m.scatter if diagonal else m.scatter.diagonal(dim1=-2, dim2=-1) for m in (self, other)]
        third = self.third + other.third + n * p * q * (p - q) * shift**3 + 3 * shift * (p * within[1] - q * within[0])
        fourth = self.fourth + other.fourth + n * p * q * (p * p - p * q + q * q) * shift**4
        fourth += 6 * shift**2 * (p * p * within[1] + q * q * within[0]) + 4 * shift * (
            p * other.third - q * self.third
        )
        weighted = shift * (n * p * q)
        between = weighted * shift if diagonal else weighted[..., :, None] * shift[..., None, :]
        scatter = between.add_(self.scatter).add_(other.scatter)
        return ClassMoments(n.squeeze(-1), self.mean + shift * q, scatter, third, fourth)

    def rescaled(self, factor: Tensor) -> ClassMoments:
        """Moments of the rows times `factor`, shape `(D,)`."""
        diagonal = self.scatter.ndim == self.mean.ndim
        scatter = self.scatter * (factor.square() if diagonal else factor.outer(factor))
        third, fourth = self.third * factor**3, self.fourth * factor**4
        return ClassMoments(self.class_count, self.mean * factor, scatter, third, fourth)

    def of_classes(self, classes: Tensor) -> ClassMoments:
        """Moments of some of the classes, indices `(K,)`."""
        return ClassMoments(*(part[classes] for part in self))


def class_moments(
    x: Tensor,
    target: Tensor,
    n_classes: int,
    *,
    diagonal: bool = False,
    origin: Tensor | None = None,
    unit: Tensor | None = None,
) -> ClassMoments:
    """Count, mean, scatter and fourth powers of each class, by a merge of centered blocks of its rows.

    A block is centered on its own mean, so that rows far from zero lose nothing. Products run in the dtype of `x`;
    inverting a scatter magnifies their rounding, so densities give float64.

    Args:
        x: Rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        n_classes: Number of classes C.
        diagonal: Keep only the diagonal of the scatter.
        origin: What to subtract from the rows, block by block, if there is a unit, shape `(D,)`.
        unit: What to divide them by then, in float64, shape `(D,)`; one for float32.

    Example:
        >>> moments = class_moments(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]), 2)
        >>> moments.mean.squeeze(1), moments.scatter.flatten()
        (tensor([2., 8.], dtype=torch.float64), tensor([2., 0.], dtype=torch.float64))

    Reference:
        Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1982;
        Pebay, Formulas for robust, one-pass parallel computation of covariances and higher-order moments, 2008.
    """
    count = torch.bincount(target, minlength=n_classes)

    def block(rows: Tensor) -> Tensor:
        taken = x.index_select(0, rows)
        if unit is None:
            return taken
        taken = taken.double() if origin is None else taken.double().sub_(origin)
        return taken.div_(unit) if x.dtype == torch.float64 else taken

    classes = [
        reduce(ClassMoments.merge, (_moments(block(chunk), diagonal) for chunk in rows.split(CHUNK_ROWS)))
        for rows in _narrow(target, n_classes).argsort().split(count.tolist())
    ]
    return ClassMoments(*(torch.stack(part) for part in zip(*classes, strict=True)))


def _narrow(target: Tensor, n_classes: int) -> Tensor:
    """Class indices in few bytes, which are sorted several times faster."""
    return target.to(torch.int16) if n_classes <= 2**15 else target


def _moments(block: Tensor, diagonal: bool) -> ClassMoments:
    """Moments of the rows of a block, which is overwritten; all zero of none."""
    mean = block.sum(0, dtype=torch.float64) / max(len(block), 1)
    rounded = mean.to(block.dtype)
    missed = mean - rounded
    block -= rounded
    square = block.square()
    scatter = square.sum(0) if diagonal else block.T @ block
    scatter = scatter - len(block) * (missed.square() if diagonal else torch.outer(missed, missed))
    third = block.mul_(square).sum(0, dtype=torch.float64)
    n_rows = mean.new_tensor(len(block))
    return ClassMoments(n_rows, mean, scatter, third, square.square_().sum(0, dtype=torch.float64))


class ScaledMoments(NamedTuple):
    """Moments of rows of any units: fourth powers of huge or tiny numbers would leave float64.

    Attributes:
        unit: Powers of two in which the moments are, shape `(D,)`.
        origin: What was subtracted from the rows before, shape `(D,)`; its dtype is that of the rows.
        moments: Moments of the rows about the origin, in these units.
    """

    unit: Tensor
    origin: Tensor
    moments: ClassMoments

    def rebased(self, unit: Tensor, origin: Tensor) -> ScaledMoments:
        """The same moments in other units about another origin."""
        moments = self.moments.rescaled(self.unit / unit)
        shift = (self.origin.double() - origin.double()) / unit
        seen = moments.class_count[:, None] > 0
        return ScaledMoments(unit, origin, moments._replace(mean=torch.where(seen, moments.mean + shift, 0.0)))

    def merge(self, other: ScaledMoments) -> ScaledMoments:
        """Moments of the rows of both together, about the origin of the first."""
        unit = self.unit.maximum(other.unit)
        origin = self.origin.to(torch.promote_types(self.origin.dtype, other.origin.dtype))
        a, b = (each.rebased(unit, origin) for each in (self, other))
        return ScaledMoments(unit, origin, a.moments.merge(b.moments))


def scaled_moments(
    x: Tensor, target: Tensor, n_classes: int, origin: Tensor, *, centered: bool, diagonal: bool = False
) -> ScaledMoments:
    """Moments of rows `(N, D)` about `origin`, which was subtracted from them before if they are `centered`."""
    subtracted = None if centered else origin.double()
    unit = torch.ones_like(x[0], dtype=torch.float64)  # fourth powers of float32 stay within float64
    if x.dtype == torch.float64:
        extremes = torch.stack([x.amin(0), x.amax(0)])
        power = torch.frexp((extremes if centered else extremes - origin).abs().amax(0)).exponent
        unit *= torch.full_like(unit, 2.0).pow(power)
    moments = class_moments(x, target, n_classes, diagonal=diagonal, origin=subtracted, unit=unit)
    return ScaledMoments(unit, origin, moments)


def moments_of(state: State) -> ScaledMoments:
    """Moments in the state of a stream."""
    moments = ClassMoments(state["count"].double(), *(state[name] for name in ("mean", "scatter", "third", "fourth")))
    return ScaledMoments(state["unit"], state["origin"], moments)


def state_of(scaled: ScaledMoments) -> State:
    """Fields of the state of a stream that hold moments."""
    _, mean, scatter, third, fourth = scaled.moments
    return {"unit": scaled.unit, "mean": mean, "scatter": scatter, "third": third, "fourth": fourth}
