"""Units in which each class is standard: the start, and the far tails, of a density fitted by gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._state import accumulator
from genlabel_plugins.densities._moments import class_moments, constant_features, feature_scale

REGULARISER = 1e-4  # in units of each feature's variance over all rows
TAIL_START = 1.5  # in units of the largest norm of a training row of the class
MIN_ROWS = 20  # a class with fewer rows keeps its Gaussian: too few to hold some out


class ClassUnits(NamedTuple):
    r"""Affine maps :math:`z = W_c (x - \mu_c)` under which the rows of class c have mean 0 and covariance 1.

    Attributes:
        mean: Class means, shape `(K, D)`.
        factor: Inverses of the maps, lower triangular `(K, D, D)`, or their diagonals `(K, D)`.
        whiten: The maps, shape as `factor`.
        log_det: Log-determinants of the maps, shape `(K,)`.
    """

    mean: Tensor
    factor: Tensor
    whiten: Tensor
    log_det: Tensor


def class_units(x: Tensor, target: Tensor, offset: Tensor, *, diagonal: bool = False) -> ClassUnits:
    r"""Estimate the units of each class, whatever its size.

    The covariance is :math:`(S_c + a P) / (n_c - 1 + a)`, with scatter :math:`S_c`, the diagonal :math:`P` of the
    covariance pooled over classes and :math:`a = 1` pseudo-row: a class of one row takes the pooled spread.

    Args:
        x: Centred rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`, every class with a row.
        offset: What was subtracted, shape `(D,)`; a spread within its rounding is no spread.
        diagonal: Scale the features without decorrelating them.
    """
    moments = class_moments(x, target, int(target.max()) + 1, diagonal=diagonal)
    count, mean, scatter = moments
    within = scatter if diagonal else scatter.diagonal(dim1=1, dim2=2)  # (K, D)
    scale = feature_scale(moments, constant_features(x, offset))
    pooled = within.sum(0) / (count.sum() - len(count)).clamp(min=1) / scale.square()
    pooled = torch.where(count.sum() > len(count), pooled, 1.0)
    weight = count.view(-1, *[1] * (scatter.ndim - 1))
    if diagonal:
        factor = ((scatter / scale.square() + pooled) / weight + REGULARISER).sqrt()  # (K, D)
        return ClassUnits(mean, factor * scale, 1 / (factor * scale), -(factor * scale).log().sum(1))
    covariance = (scatter / torch.outer(scale, scale) + pooled.diag()) / weight  # (K, D, D)
    identity = torch.eye(len(scale), dtype=scale.dtype, device=scale.device)
    factor = torch.linalg.cholesky(covariance + REGULARISER * identity)
    whiten = torch.linalg.solve_triangular(factor, identity, upper=False).contiguous()
    log_det = whiten.diagonal(dim1=1, dim2=2).log().sum(1) - scale.log().sum()
    return ClassUnits(mean, factor * scale[:, None], whiten / scale, log_det)


def standardized(x: Tensor, target: Tensor, mean: Tensor, whiten: Tensor) -> Tensor:
    """Rows in the units of their own class, `(N, D), (N,) -> (N, D)`; computed in the precision of a sum."""
    wide = accumulator(x)
    if whiten.ndim == 2:
        return ((x.to(wide) - mean[target]) * whiten[target]).to(x.dtype)
    z = torch.empty_like(x)
    for c in range(len(mean)):
        rows = target == c
        z[rows] = ((x[rows].to(wide) - mean[c]) @ whiten[c].T).to(x.dtype)
    return z


def tail_radius(z: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Distance from the class mean beyond which a class is Gaussian, `(N, D), (N,) -> (K,)`."""
    largest = z.new_zeros(n_classes).scatter_reduce(0, target, z.norm(dim=1), "amax")
    return TAIL_START * largest


def gaussian_tail(z: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    r"""Pull rows back to a radius: :math:`\log p(z) = \log p(z_R) - (|z|^2 - R^2) / 2` for :math:`|z| > R`.

    A network extrapolates arbitrarily; this density is continuous, finite and falls off in every direction.

    Args:
        z: Rows in the units of each class, shape `(B, K, D)`.
        radius: Radius R of each class, shape `(K,)`.

    Returns:
        Rows within the radius, shape `(B, K, D)`, and what to add to their log-density, shape `(B, K)`.

    Example:
        >>> inside, change = gaussian_tail(torch.tensor([[[3.0, 4.0]]]), torch.tensor([2.0]))
        >>> inside, change
        (tensor([[[1.2000, 1.6000]]]), tensor([[-10.5000]]))
    """
    norm = torch.linalg.vector_norm(z, dim=-1)  # (B, K)
    within = norm.minimum(radius)
    shrink = torch.where(norm > radius, radius / norm.clamp(min=torch.finfo(z.dtype).tiny), 1.0)
    return z * shrink.unsqueeze(-1), 0.5 * (within - norm) * (within + norm)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log-density of the standard normal, `(*, D) -> (*)`."""
    return -0.5 * z.square().sum(-1) - 0.5 * math.log(2 * math.pi) * z.shape[-1]
