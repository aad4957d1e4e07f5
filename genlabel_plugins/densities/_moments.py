"""Class means and covariances, in one streaming pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins.densities._ranks import State

CHUNK_ROWS = 1_024  # a chunk of 64 features in float64, and its squares, stay in cache
SAFE_POWER = 128  # of two: fourth powers of numbers up to it, and from its inverse, are far from the ends of float64


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
    """Count, mean, scatter, third and fourth powers of each class, from sums over blocks that stay in cache.

    The sums of a class are taken about the mean of its first block, so that rows far from zero lose nothing, and moved
    to its mean at the end. They run in float64, since inverting a scatter magnifies rounding.

    Args:
        x: Rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        n_classes: Number of classes C.
        diagonal: Keep only the diagonal of the scatter.
        origin: Point about which means are given, in float64, shape `(D,)`; by default zero.
        unit: What rows and `origin` are divided by, in float64, shape `(D,)`; by default one.

    Example:
        >>> moments = class_moments(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]), 2)
        >>> moments.mean.squeeze(1), moments.scatter.flatten()
        (tensor([2., 8.], dtype=torch.float64), tensor([2., 0.], dtype=torch.float64))

    Reference:
        Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1982;
        Pebay, Formulas for robust, one-pass parallel computation of covariances and higher-order moments, 2008.
    """
    count = torch.bincount(target, minlength=n_classes)
    x = x.contiguous()  # a row of a table of columns lies in as many lines of cache as it has features
    rows_of = _narrow(target, n_classes).argsort().split(count.tolist())
    taken = x.new_empty(min(CHUNK_ROWS, len(x)), x.shape[1])
    block = taken if x.dtype == torch.float64 else torch.empty_like(taken, dtype=torch.float64)
    workspace = _Workspace(taken, block, torch.empty_like(block))
    sums = zip(*(workspace.power_sums(x, rows, unit, diagonal) for rows in rows_of), strict=True)
    reference, total, scatter, third, fourth = (torch.stack(part) for part in sums)
    n_rows = count.double()[:, None]
    shift = total / n_rows.clamp(min=1)
    square = (scatter if diagonal else scatter.diagonal(dim1=1, dim2=2)).clone()
    scatter -= n_rows * shift.square() if diagonal else total[:, :, None] * shift[:, None]
    fourth += shift * (6 * shift * square - 4 * third - 3 * shift.square() * total)
    third -= shift * (3 * square - 2 * shift * total)
    mean = reference + shift
    if origin is not None:
        mean = torch.where(n_rows > 0, reference - (origin if unit is None else origin / unit) + shift, 0.0)
    return ClassMoments(n_rows.squeeze(1), mean, scatter, third, fourth)


def _narrow(target: Tensor, n_classes: int) -> Tensor:
    """Class indices in few bytes, which are sorted several times faster."""
    return target.to(torch.uint8 if n_classes <= 2**8 else torch.int16 if n_classes <= 2**15 else target.dtype)


class _Workspace(NamedTuple):
    """Memory for one block; to ask for new memory each time takes a third of the whole time."""

    taken: Tensor
    block: Tensor
    square: Tensor

    def power_sums(self, x: Tensor, rows: Tensor, unit: Tensor | None, diagonal: bool) -> tuple[Tensor, ...]:
        """Mean of the first block of some rows, and sums of their first to fourth powers about it; all zero of none."""
        reference, total, third, fourth = self.block.new_zeros(4, x.shape[1])
        scatter = torch.zeros_like(total) if diagonal else total.new_zeros(x.shape[1], x.shape[1])
        for i, chunk in enumerate(rows.split(CHUNK_ROWS)):
            taken, block, square = (memory[: len(chunk)] for memory in self)
            torch.index_select(x, 0, chunk, out=taken)
            block.copy_(taken)
            if unit is not None:
                block /= unit
            if i == 0:
                reference = block.sum(0) / max(len(block), 1)
            block -= reference
            total += block.sum(0)
            torch.mul(block, block, out=square)
            if diagonal:
                scatter += square.sum(0)
            else:
                scatter.addmm_(block.T, block)
            third += block.mul_(square).sum(0)
            fourth += square.square_().sum(0)
        return reference, total, scatter, third, fourth


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
    unit = torch.ones_like(x[0], dtype=torch.float64)
    if x.dtype == torch.float64:  # fourth powers of float32 stay within it
        extremes = torch.stack([x.amin(0), x.amax(0)])
        power = torch.frexp((extremes if centered else extremes - origin).abs().amax(0)).exponent
        unit *= torch.full_like(unit, 2.0).pow(power.masked_fill(power.abs() < SAFE_POWER, 0))
    scale = unit if bool((unit != 1).any()) else None
    moments = class_moments(x, target, n_classes, diagonal=diagonal, origin=subtracted, unit=scale)
    return ScaledMoments(unit, origin, moments)


def moments_of(state: State) -> ScaledMoments:
    """Moments in the state of a stream."""
    moments = ClassMoments(state["count"].double(), *(state[name] for name in ("mean", "scatter", "third", "fourth")))
    return ScaledMoments(state["unit"], state["origin"], moments)


def state_of(scaled: ScaledMoments) -> State:
    """Fields of the state of a stream that hold moments."""
    _, mean, scatter, third, fourth = scaled.moments
    return {"unit": scaled.unit, "mean": mean, "scatter": scatter, "third": third, "fourth": fourth}
