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
    """Count, mean, scatter and fourth powers of each class, by a merge of centered blocks of its rows.

    A block is centered on its own mean, so that rows far from zero lose nothing. Products run in the dtype of `x`;
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


class _Block(NamedTuple):
    """Number and mean of rows, and the sums of powers about it; third and fourth powers column by column."""

    n_rows: int
    mean: Tensor
    scatter: Tensor
    third: Tensor
    fourth: Tensor


def _moments(block: Tensor, diagonal: bool) -> _Block:
    """Moments of the rows of a block, which is overwritten; all zero of none."""
    mean = block.sum(0, dtype=torch.float64) / max(len(block), 1)
    rounded = mean.to(block.dtype)
    missed = mean - rounded
    block -= rounded
    square = block.square()
    scatter = square.sum(0) if diagonal else block.T @ block
    scatter = scatter - len(block) * (missed.square() if diagonal else torch.outer(missed, missed))
    third = block.mul_(square).sum(0, dtype=torch.float64)
    return _Block(len(block), mean, scatter, third, square.square_().sum(0, dtype=torch.float64))


def _merge(a: _Block, b: _Block) -> _Block:
    """Moments of the rows of two blocks together."""
    n, shift = a.n_rows + b.n_rows, b.mean - a.mean
    p, q = a.n_rows / n, b.n_rows / n
    within = [s if s.ndim == 1 else s.diagonal() for s in (a.scatter, b.scatter)]
    third = a.third + b.third + n * p * q * (p - q) * shift**3 + 3 * shift * (p * within[1] - q * within[0])
    fourth = a.fourth + b.fourth + n * p * q * (p * p - p * q + q * q) * shift**4
    fourth += 6 * shift**2 * (p * p * within[1] + q * q * within[0]) + 4 * shift * (p * b.third - q * a.third)
    between = shift.square() if a.scatter.ndim == 1 else torch.outer(shift, shift)
    return _Block(n, a.mean + shift * q, a.scatter + b.scatter + between * (n * p * q), third, fourth)
