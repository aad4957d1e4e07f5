"""Class means and covariances, in one streaming pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK_ROWS = 65_536  # a chunk of 64 features in float32 stays within a last-level cache


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
    """Count, mean and scatter of each class, by Chan's merge of centred chunks.

    Each block of a class in a chunk is centred on its own mean, so that its product may run in the dtype of
    `x`; only the merged state is float64. Rows far from zero lose nothing.

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
    n_features = x.shape[1]
    shape = (n_features,) if diagonal else (n_features, n_features)
    count = x.new_zeros(n_classes, dtype=torch.float64)
    mean = x.new_zeros((n_classes, n_features), dtype=torch.float64)
    scatter = x.new_zeros((n_classes, *shape), dtype=torch.float64)
    for rows, labels in zip(x.split(CHUNK_ROWS), target.split(CHUNK_ROWS), strict=True):
        order = labels.argsort()
        sizes = torch.bincount(labels, minlength=n_classes).tolist()
        for c, block in enumerate(rows[order].split(sizes)):
            n = len(block)
            if not n:
                continue
            block_mean = block.mean(0)
            centred = block - block_mean
            within = centred.square().sum(0) if diagonal else centred.T @ centred
            shift = block_mean.double() - mean[c]
            between = shift.square() if diagonal else torch.outer(shift, shift)
            total = count[c] + n
            scatter[c] += within + between * (count[c] * n / total)
            mean[c] += shift * (n / total)
            count[c] = total
    return ClassMoments(count, mean, scatter)


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
