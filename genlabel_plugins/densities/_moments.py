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
        fourth: Sums of fourth powers about the mean, shape `(C, D)`.
    """

    class_count: Tensor
    mean: Tensor
    scatter: Tensor
    fourth: Tensor


def class_moments(x: Tensor, target: Tensor, n_classes: int, *, diagonal: bool = False) -> ClassMoments:
    """Count, mean, scatter and fourth powers of each class, by a merge of centred blocks of its rows.

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
        Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1982;
        Pebay, Formulas for robust, one-pass parallel computation of covariances and higher-order moments, 2008.
    """
    count = torch.bincount(target, minlength=n_classes)
    classes = [
        reduce(_merge, (_moments(x.index_select(0, chunk), diagonal) for chunk in rows.split(CHUNK_ROWS)))
        for rows in _narrow(target, n_classes).argsort().split(count.tolist())
    ]
    _, mean, scatter, _, fourth = zip(*classes, strict=True)
    return ClassMoments(count.double(), torch.stack(mean), torch.stack(scatter), torch.stack(fourth))


def _narrow(target: Tensor, n_classes: int) -> Tensor:
    """Class indices in few bytes, which are sorted several times faster."""
    return target.to(torch.int16) if n_classes <= 2**15 else target


Block = tuple[int, Tensor, Tensor, Tensor, Tensor]  # count, mean, scatter, sums of third and of fourth powers


def _moments(block: Tensor, diagonal: bool) -> Block:
    """Moments of the rows of a block, which is overwritten; all zero of none."""
    mean = block.sum(0, dtype=torch.float64) / max(len(block), 1)
    rounded = mean.to(block.dtype)
    missed = mean - rounded
    block -= rounded
    square = block.square()
    scatter = square.sum(0) if diagonal else block.T @ block
    scatter = scatter - len(block) * (missed.square() if diagonal else torch.outer(missed, missed))
    third = block.mul_(square).sum(0)
    return len(block), mean, scatter, third.double(), square.square_().sum(0).double()


def _merge(a: Block, b: Block) -> Block:
    """Moments of the rows of two blocks together."""
    n, shift = a[0] + b[0], b[1] - a[1]
    if not n:
        return a
    part = a[0] * b[0] / n
    ours, theirs = (s if s.ndim == 1 else s.diagonal() for s in (a[2], b[2]))
    third = a[3] + b[3] + shift**3 * (part * (a[0] - b[0]) / n) + 3 * shift * (a[0] * theirs - b[0] * ours) / n
    fourth = a[4] + b[4] + shift**4 * (part * (a[0] ** 2 - a[0] * b[0] + b[0] ** 2) / n**2)
    fourth += (
        6 * shift**2 * (a[0] ** 2 * theirs + b[0] ** 2 * ours) / n**2 + 4 * shift * (a[0] * b[3] - b[0] * a[3]) / n
    )
    between = shift.square() if a[2].ndim == 1 else torch.outer(shift, shift)
    return n, a[1] + shift * (b[0] / n), a[2] + b[2] + between * part, third, fourth
