"""Principal components of few rows: to know them, and directions that favor none."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from genlabel_plugins._checks import warn_of_few_rows
from genlabel_plugins._state import mean_and_spread

RANK_TOLERANCE = 1e-7  # relative size below which a direction is rounding
ORDERED = 0.9  # share of pairs by falling variance; half of them do by chance
TELLING = 10  # columns from which chance orders one table in 1,000 so well; of two columns it does every other
EXACT = 1e-4  # means and correlations that no chance leaves: components of these very rows


@lru_cache(maxsize=8)
def even_directions(rank: int) -> Tensor:
    """Orthonormal directions of a space without axes of its own, `(rank, rank)`, float64, always the same.

    Densities shrink covariances towards their diagonals. Along singular vectors or principal components a covariance
    is diagonal already: nothing would be shrunk, and directions that hardly vary among few rows would count most.
    Along directions drawn at random its diagonal is all but a sphere.

    Example:
        >>> q = even_directions(3)
        >>> bool(torch.allclose(q @ q.T, torch.eye(3).double()))
        True
    """
    drawn = torch.randn(rank, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions: Tensor = torch.linalg.qr(drawn).Q
    return directions


def looks_like_components(x: Tensor) -> bool:
    """Whether features look like the principal components of rows like these, shape `(N, D)`.

    They do if their means are zero and they do not correlate, as far as N rows tell, if nine in ten of their pairs come
    by falling variance, and if they do not repeat values as dummies and counts do. Fewer than ten columns come in that
    order by chance too often: their means and correlations have to be zero but for rounding, as those of components of
    these very rows are. To divide components by their standard deviations blows up those that hardly vary.

    Example:
        >>> x = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 2.0 ** -torch.arange(10)
        >>> looks_like_components(x), looks_like_components(x + 5), looks_like_components(x.flip(1))
        (True, False, False)
    """
    n_rows, n_features = x.shape
    x = x.double()
    mean, spread = mean_and_spread(x)
    kept = spread > RANK_TOLERANCE * spread.amax()
    if n_features < 2 or int(kept.sum()) < 2:
        return False
    spread, mean, x = spread[kept], mean[kept], x[:, kept]
    shift, z = (mean / spread).abs().amax(), (x - mean) / spread
    # The squared correlations of all columns sum to what the squared products of all rows do, on the smaller matrix.
    products = z.T @ z if z.shape[1] <= n_rows else z @ z.T
    among_themselves = z.square().sum(0).square().sum()
    n_pairs = z.shape[1] * (z.shape[1] - 1)
    correlation = ((products.square().sum() - among_themselves) / n_rows**2 / n_pairs).clamp_min(0).sqrt()
    by_chance = (5 / n_rows**0.5, (2 / n_rows) ** 0.5) if z.shape[1] >= TELLING else (EXACT, EXACT)
    if not (float(shift) <= by_chance[0] and float(correlation) <= by_chance[1]):
        return False
    falls = (spread[:, None] >= spread).triu(1).sum() / (n_pairs / 2)
    if falls < ORDERED:
        return False
    n_different = len(x.unique(dim=0))
    return all(2 * len(column.unique()) >= n_different for column in x.T)


def warn_of_components(class_count: Tensor, x: Tensor, offset: Tensor) -> None:
    """Say that rows are few and look like their own principal components, along which nothing is shrunk.

    Args:
        class_count: Rows per class, shape `(K,)`.
        x: Centered rows, shape `(N, D)`.
        offset: What was subtracted, shape `(D,)`.
    """
    if bool((class_count <= x.shape[1] + 1).any()) and looks_like_components(x + offset):
        warn_of_few_rows(
            "features look like the principal components of few rows, along which covariances are diagonal, so that "
            "shrinking them to their diagonal does nothing: fit the columns, or turn the components at random, "
            "by x @ torch.linalg.qr(torch.randn(D, D)).Q",
            stacklevel=4,
        )
