"""Gaussians whose covariance is diagonal in units that all share: one product with coefficients of [z^2, z]."""

from __future__ import annotations

import torch
from torch import Tensor

from genlabel_plugins.densities.backends._gaussian_components import Components
from genlabel_plugins.densities.backends._whitening import factorize


def quadratic_forms(components: Components, *, tied: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Transform of rows to these units, `(D,)` or `(D, D)`, coefficients `(2D, K*M)`, and half log-determinants.

    The constant of each quadratic form is in the last, `(K, M)`, too.
    """
    mean, covariance = components.mean, components.covariance
    if tied:
        cholesky = factorize(covariance[0, 0])
        identity = torch.eye(len(cholesky)).to(cholesky)
        transform = torch.linalg.solve_triangular(cholesky, identity, upper=False).T.contiguous()
        mean = mean @ transform
        precision = torch.ones_like(mean)
        log_det = cholesky.diagonal().log().sum().expand_as(components.log_weight)
    else:
        unit = covariance.flatten(0, 1).log().mean(0).mul(0.5).exp()  # squares of tiny units would underflow
        transform = 1 / unit
        mean, covariance = mean / unit, covariance / unit.square()
        precision = 1 / covariance
        log_det = 0.5 * covariance.log().sum(-1) + unit.log().sum()
    weighted = precision * mean  # (K, M, D)
    quadratic = torch.cat([-0.5 * precision, weighted], -1).flatten(0, 1).T.contiguous()
    return transform, quadratic, log_det + 0.5 * (weighted * mean).sum(-1)


def quadratic_segment(z: Tensor, quadratic: Tensor, component: Tensor, partner: Tensor) -> Tensor:
    """Minus twice the exponents of components at t = 0 and at t = 1, and squared lengths, `(3, 2, B, M)`.

    Args:
        z: Rows in the units, shape `(N, D)`, of which the first B have a partner.
        quadratic: Coefficients, shape `(2D, K*M)`.
        component: Components of each segment, shape `(2, B, M)`.
        partner: Row at the other end, shape `(B,)`.
    """
    square, linear = quadratic.T[component].chunk(2, dim=3)  # (2, B, M, D)
    z = z[:, None]  # (N, 1, D)
    z_i, z_j = z[: len(partner)], z[partner]
    start, stop = (((square * end).add_(linear).mul_(end)).sum(3) for end in (z_j, z_i))
    return torch.stack([start, stop, (square * (z_i - z_j).square_()).sum(3)]).mul_(-2)
