"""Mahalanobis distances to all classes by matrix products with the stacked inverse Cholesky factors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor


def whitening(cholesky: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    r"""Rows of :math:`[-L_c^{-1}\mu_c, L_c^{-1}]`, in blocks without the zeros of the triangle, packed.

    Args:
        cholesky: Factors L of the class covariances, shape `(K, D, D)`, in units of `scale`.
        mean: Class means, shape `(K, D)`, in units of `scale`.
        scale: Unit of each feature, shape `(D,)`.
    """
    identity = torch.eye(len(scale)).to(cholesky)
    inverse = torch.linalg.solve_triangular(cholesky, identity, upper=False)
    rows = torch.cat([-(inverse @ mean[:, :, None]), inverse / scale], 2)  # (K, D, 1+D)
    return torch.cat([rows[:, start:stop, : stop + 1].flatten() for start, stop in _blocks(len(scale))])


def whitened_squares(x: Tensor, whiten: Tensor, n_classes: int) -> Tensor:
    r"""Squared distances :math:`\lVert L_c^{-1}(x - \mu_c)\rVert^2`, `(B, D) -> (B, K)`.

    The batch is the last dimension of the products, so that squares are summed over whole vectors of it.
    """
    rows = with_ones(x).T  # (1+D, B)
    square = x.new_zeros(n_classes, len(x))
    for block in whitening_blocks(whiten, n_classes, x.shape[1]):
        z = block @ rows[: block.shape[1]]  # (K * coordinates, B)
        square += z.square_().view(n_classes, -1, len(x)).sum(1)
    return square.T


def whitening_blocks(whiten: Tensor, n_classes: int, n_features: int) -> Iterator[Tensor]:
    """Blocks of packed whitenings, `(K * coordinates, 1 + features)`, to be multiplied by rows `with_ones`.

    L^-1 is lower triangular: coordinates `start..stop` need the first `stop` features only, which saves almost
    half of the product in many dimensions.
    """
    used = 0
    for start, stop in _blocks(n_features):
        n_whitened = n_classes * (stop - start)
        yield whiten[used : used + n_whitened * (stop + 1)].view(n_whitened, stop + 1)
        used += n_whitened * (stop + 1)


def with_ones(x: Tensor) -> Tensor:
    """Rows behind a column of ones that carries the means, `(B, D) -> (B, 1+D)`."""
    return torch.cat([x.new_ones(len(x), 1), x], 1)


def factorise(covariance: Tensor) -> Tensor:
    """Cholesky factor, `(*, D, D) -> (*, D, D)`.

    Raises:
        ValueError: If a covariance is not positive definite.
    """
    cholesky, info = torch.linalg.cholesky_ex(covariance)
    if bool((info > 0).any()):
        raise ValueError("a class covariance is singular: raise reg_covar or set shrinkage='ledoit_wolf'")
    return cholesky  # type: ignore[no-any-return]


def _blocks(n_features: int) -> list[tuple[int, int]]:
    """Ranges of whitened coordinates that are scored together; more blocks save more, and cost a call each."""
    n_blocks = 1 if n_features < 96 else 2 if n_features < 256 else 8
    edges = [round(i * n_features / n_blocks) for i in range(n_blocks + 1)]
    return list(pairwise(edges))
