"""Units in which each class is standard: the start, and the far tails, of a density fitted by gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._state import accumulator
from genlabel_plugins.densities.backends._class_estimates import class_estimates, raise_variances

REGULARIZER = 1e-4  # of each variance within a class
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
    """Estimate the units of each class, whatever its size, by `class_estimates`.

    Args:
        x: Centered rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`, every class with a row.
        offset: What was subtracted, shape `(D,)`.
        diagonal: Scale the features without decorrelating them.
    """
    estimate = class_estimates(x, target, offset, diagonal=diagonal, ddof=1)
    covariance = raise_variances(estimate.covariance, REGULARIZER, diagonal)
    if diagonal:
        factor = covariance.sqrt()
        return ClassUnits(estimate.mean, factor, 1 / factor, -factor.log().sum(1))
    factor = torch.linalg.cholesky(covariance)
    identity = torch.eye(x.shape[1], dtype=factor.dtype, device=factor.device)
    whiten = torch.linalg.solve_triangular(factor, identity, upper=False).contiguous()
    return ClassUnits(estimate.mean, factor, whiten, whiten.diagonal(dim1=1, dim2=2).log().sum(1))


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
