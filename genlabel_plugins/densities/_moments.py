"""Class means and covariances, in one streaming pass."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK_ROWS = 16_384  # a chunk of 64 features in float32 stays in cache


class ClassMoments(NamedTuple):
    """Moments of each class, float64.

    Attributes:
        class_count: Rows per class, shape `(C,)`.
        mean: Class means, shape `(C, D)`.
        scatter: Sums of squares about the mean, shape `(C, D, D)`, or `(C, D)` if only its diagonal.
    """

    class_count: Tensor
    mean: Tensor
    scatter: Tensor


def class_moments(x: Tensor, target: Tensor, n_classes: int, *, diagonal: bool = False) -> ClassMoments:
    """Count, mean and scatter of each class, by Chan's merge of centred blocks of its rows.

    A block is centred on its own mean, so that rows far from zero lose nothing. Products run in the dtype of `x`;
    inverting a scatter magnifies their rounding, so densities give float64.

    Args:
        x: Rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        n_classes: Number of classes C.
        diagonal: Keep only the diagonal of the scatter.

    Example:
        >>> moments = class_moments(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]), 2)
        >>> moments.mean.squeeze(1), moments.scatter.flatten()
        (tensor([2., 8.], dtype=torch.float64), tensor([2., 0.], dtype=torch.float64))

    Reference:
        Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1982.
    """
    count = torch.bincount(target, minlength=n_classes)
    classes = [
        reduce(_merge, (_moments(x.index_select(0, chunk), diagonal) for chunk in rows.split(CHUNK_ROWS)))
        for rows in _narrow(target, n_classes).argsort().split(count.tolist())
    ]
    _, mean, scatter = zip(*classes, strict=True)
    return ClassMoments(count.double(), torch.stack(mean), torch.stack(scatter))


def _narrow(target: Tensor, n_classes: int) -> Tensor:
    """Class indices in few bytes, which are sorted several times faster."""
    return target.to(torch.int16) if n_classes <= 2**15 else target


def _moments(block: Tensor, diagonal: bool) -> tuple[int, Tensor, Tensor]:
    """Count, mean `(D,)` and scatter of the rows of a block, which is overwritten; all zero of none."""
    mean = block.sum(0, dtype=torch.float64) / max(len(block), 1)
    rounded = mean.to(block.dtype)
    missed = mean - rounded
    block -= rounded
    scatter = block.square_().sum(0) if diagonal else block.T @ block
    return len(block), mean, scatter - len(block) * (missed.square() if diagonal else torch.outer(missed, missed))


def _merge(a: tuple[int, Tensor, Tensor], b: tuple[int, Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
    """Moments of the rows of two blocks together."""
    n, shift = a[0] + b[0], b[1] - a[1]
    between = shift.square() if a[2].ndim == 1 else torch.outer(shift, shift)
    return n, a[1] + shift * (b[0] / n), a[2] + b[2] + between * (a[0] * b[0] / n)


def feature_scale(moments: ClassMoments, constant: Tensor, *, common: bool = False) -> Tensor:
    """Standard deviation of each feature over all rows, `(D,)`; 1 for a constant feature.

    Shrinkage, regularisers and EM act in these units, so that the units of the data do not matter.

    Args:
        moments: Class moments of all rows.
        constant: Mask of constant features, shape `(D,)`.
        common: Give all features the root mean square, which keeps a spherical covariance spherical.
    """
    within = moments.scatter if moments.scatter.ndim == 2 else moments.scatter.diagonal(dim1=1, dim2=2)
    total = moments.class_count.sum()
    centre = moments.class_count @ moments.mean / total
    variance = (within.sum(0) + moments.class_count @ (moments.mean - centre).square()) / total
    variance = torch.where(constant, 0.0, variance)
    if common:
        variance = variance.mean().expand_as(variance)
    return torch.where(variance > 0, variance, 1.0).sqrt()


def constant_features(x: Tensor, offset: Tensor) -> Tensor:
    """Mask `(D,)` of features that are constant but for the rounding of an offset, in centred rows `(N, D)`."""
    return x.abs().amax(0) <= 2 * torch.finfo(x.dtype).eps * offset.abs()
