"""Mahalanobis distances to all classes by matrix products with the stacked inverse Cholesky factors."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

MAX_BLOCKS = 12


def whitening(cholesky: Tensor, mean: Tensor) -> Tensor:
    r"""Rows of :math:`[-L_c^{-1}\mu_c, L_c^{-1}]`, `(K * D, 1+D)`, or packed blocks without the zeros of the triangle.

    Args:
        cholesky: Factors L of the class covariances, shape `(K, D, D)`.
        mean: Class means, shape `(K, D)`.
    """
    identity = torch.eye(mean.shape[1]).to(cholesky)
    inverse = torch.linalg.solve_triangular(cholesky, identity, upper=False)
    rows = torch.cat([-(inverse @ mean[:, :, None]), inverse], 2)  # (K, D, 1+D)
    blocks = _blocks(*mean.shape)
    if len(blocks) == 1:
        return rows.flatten(0, 1)
    return torch.cat([rows[:, start:stop, : stop + 1].flatten() for start, stop in blocks])


def whitened_squares(x: Tensor, whiten: Tensor, n_classes: int) -> Tensor:
    r"""Squared distances :math:`\lVert L_c^{-1}(x - \mu_c)\rVert^2` of rows `with_ones`, `(B, 1+D) -> (K, B)`.

    The batch is the last dimension of the products, so that squares are summed over whole vectors of it.
    """
    square = None
    for block in whitening_blocks(whiten, n_classes, x.shape[1] - 1):
        rows = x if block.shape[1] == x.shape[1] else x[:, : block.shape[1]]
        part = torch.mm(block, rows.T).square_().view(n_classes, -1, len(x)).sum(1)
        square = part if square is None else square.add_(part)
    return square  # type: ignore[return-value]  # there is a block


def whitened(x: Tensor, whiten: Tensor, n_classes: int) -> Tensor:
    """Rows `with_ones` in the units of all classes, `(B, 1+D) -> (K, D, B)`; zeros in place of ones for differences."""
    parts = [
        torch.mm(block, x[:, : block.shape[1]].T).view(n_classes, -1, len(x))
        for block in whitening_blocks(whiten, n_classes, x.shape[1] - 1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def whitened_segment(x: Tensor, whiten: Tensor, n_classes: int, component: Tensor, partner: Tensor) -> Tensor:
    """Squared distances at both ends of segments from partners to rows, and squared lengths.

    Args:
        x: Rows, shape `(N, D)`, of which the first B have a partner.
        whiten: Whitenings, as `whitening` gives them.
        n_classes: Number of whitenings K.
        component: Whitenings by which each segment is measured, shape `(2, B, M)`.
        partner: Row at the other end, shape `(B,)`.

    Returns:
        Squares at the partner, at the row, and of their difference, shape `(3, 2, B, M)`.
    """
    ends = torch.stack([partner, torch.arange(len(partner), device=partner.device)])  # (2, B)
    place = torch.add(component, ends[:, None, :, None], alpha=n_classes).flatten()  # (2 * 2 * B * M,)
    rows = with_ones(x)
    squares = []
    for block in whitening_blocks(whiten, n_classes, x.shape[1]):
        width = len(block) // n_classes
        z = (rows[:, : block.shape[1]] @ block.T).view(len(rows) * n_classes, width)
        z = z.index_select(0, place).view(2, *component.shape, width)
        norms = [torch.linalg.vector_norm(part, dim=-1) for part in (z, z[1:] - z[:1])]  # makes no copy to square
        squares.append(torch.cat(norms).square_())
    return reduce(torch.add, squares)


def whitening_blocks(whiten: Tensor, n_classes: int, n_features: int) -> list[Tensor]:
    """Blocks of whitenings, `(K * coordinates, 1 + features)`, to be multiplied by rows `with_ones`.

    L^-1 is lower triangular: coordinates `start..stop` need the first `stop` features only, which saves almost
    half of the product in many dimensions.
    """
    if whiten.ndim == 2:
        return [whiten]
    shapes = [(n_classes * (stop - start), stop + 1) for start, stop in _blocks(n_classes, n_features)]
    packed = whiten.split([rows * columns for rows, columns in shapes])
    return [block.view(shape) for block, shape in zip(packed, shapes, strict=True)]


def with_ones(x: Tensor) -> Tensor:
    """Rows behind a column of ones that carries the means, `(B, D) -> (B, 1+D)`."""
    return torch.cat([x.new_ones(len(x), 1), x], 1)


def factorize(covariance: Tensor) -> Tensor:
    """Cholesky factor, `(*, D, D) -> (*, D, D)`.

    Raises:
        ValueError: If a covariance is not positive definite.
    """
    cholesky, info = torch.linalg.cholesky_ex(covariance)
    if bool((info > 0).any()):
        raise ValueError("a class covariance is singular: raise reg_covar or leave shrinkage at 'auto'")
    return cholesky  # type: ignore[no-any-return]


def _blocks(n_classes: int, n_features: int) -> list[tuple[int, int]]:
    """Ranges of whitened coordinates that are scored together.

    More blocks save more of the product and stay in cache with many classes; each costs a call.
    """
    n_blocks = min(n_features, MAX_BLOCKS, max(1, n_features // 32, n_classes * n_features // 4096))
    edges = [round(i * n_features / n_blocks) for i in range(n_blocks + 1)]
    return list(pairwise(edges))
