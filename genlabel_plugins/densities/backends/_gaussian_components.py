"""Estimation of Gaussian components."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor

from genlabel_plugins.densities.backends._class_estimates import (
    ROWS_PER_FEATURE,
    ClassEstimates,
    Shrinkage,
    raise_variances,
    variances,
    warn_if_few,
)
from genlabel_plugins.densities.backends._whitening import factorize

SINGULAR = 1e-6  # a component's least variance in units of its class, below which it lives on a plane


class Components(NamedTuple):
    """Gaussian components of each class, float64; a class with fewer than M is padded with weight zero.

    Attributes:
        log_weight: Log mixture weights, shape `(K, M)`.
        mean: Means, shape `(K, M, D)`.
        covariance: Covariances, shape `(K, M, D, D)`, or `(K, M, D)` if diagonal; K is 1 if tied.
    """

    log_weight: Tensor
    mean: Tensor
    covariance: Tensor


def single_gaussians(
    estimate: ClassEstimates, *, covariance_type: str, shrinkage: Shrinkage | float, reg_covar: float
) -> Components:
    """One Gaussian per class."""
    diagonal, tied = covariance_type in ("diag", "spherical"), covariance_type == "tied"
    covariance = estimate.covariance
    if not diagonal:
        warn_if_few(estimate, shrinkage, tied=tied)
    elif covariance_type == "spherical":
        level = covariance.masked_fill(estimate.constant, 0.0).mean(-1, keepdim=True)
        covariance = level.where(level > 0, 1.0).repeat(1, covariance.shape[1])
    covariance = raise_variances(covariance, reg_covar, diagonal)
    return Components(torch.zeros_like(estimate.class_count)[:, None], estimate.center[:, None], covariance[:, None])


def mixtures(
    x: Tensor,
    target: Tensor,
    single: Components,
    *,
    covariance_type: str,
    n_components: int | Literal["bic"],
    max_components: int,
    reg_covar: float,
    generator: torch.Generator,
) -> Components:
    """Several Gaussians per class by scikit-learn's EM, `(N, D), (N,)`, or where it finds none the single one."""
    diagonal = covariance_type != "full"
    dimension = 1 if diagonal else x.shape[1]
    width = max_components if n_components == "bic" else n_components
    log_weight, mean, covariance = (part.repeat(1, width, *[1] * (part.ndim - 2)) for part in single)
    log_weight[:, 1:] = -torch.inf
    seed = int(torch.randint(2**31, (), generator=generator))
    fewest = dimension * ROWS_PER_FEATURE if n_components == "bic" else dimension + 2
    poor = []
    for c in range(len(mean)):
        unit = variances(single.covariance[c, 0], diagonal).sqrt()
        scale = unit.square() if diagonal else torch.outer(unit, unit)
        rows = ((x[target == c] - single.mean[c, 0]) / unit).cpu().numpy()
        most = min(width, len(rows) // fewest) if n_components == "bic" else min(width, len(rows))
        if most < 2:
            continue
        fits = [
            SklearnMixture(m, covariance_type=covariance_type, reg_covar=reg_covar, random_state=seed).fit(rows)
            for m in (range(1, most + 1) if n_components == "bic" else [most])
        ]
        sound = [fit for fit in fits if _is_sound(fit, single.covariance[c, 0] / scale, fewest / len(rows))]
        if n_components == "bic":
            best = min(fits[:1] + sound, key=lambda fit: fit.bic(rows))
            if best is fits[0]:
                continue
        else:
            best = fits[0]
            poor += [] if sound else [c]
        found = slice(best.n_components)
        spread = torch.as_tensor(best.covariances_).to(mean)
        log_weight[c, found] = torch.as_tensor(best.weights_).log().to(mean)
        mean[c, found] = single.mean[c, 0] + torch.as_tensor(best.means_).to(mean) * unit
        covariance[c, found] = (spread[:, None] if covariance_type == "spherical" else spread) * scale
    if poor:
        warnings.warn(
            f"n_components={n_components} leaves components of {len(poor)} classes with no more rows than features and "
            "one, or without a spread in some direction: such a component outweighs all others near its rows; "
            "n_components=1 and 'bic' do not",
            stacklevel=4,
        )
    used = int(torch.isfinite(log_weight).sum(1).max())
    return Components(log_weight[:, :used], mean[:, :used], covariance[:, :used])


def _is_sound(mixture: SklearnMixture, whole: Tensor, least_share: float) -> bool:
    """Whether each component has its rows, and a spread in every direction of the class covariance `whole`."""
    covariance = torch.as_tensor(mixture.covariances_).to(whole)
    if whole.ndim == 1:
        smallest = (covariance if covariance.ndim > 1 else covariance[:, None]) / whole
    else:
        cholesky = factorize(whole)
        half = torch.linalg.solve_triangular(cholesky, covariance, upper=False)
        smallest = torch.linalg.eigvalsh(torch.linalg.solve_triangular(cholesky, half.mT, upper=False))
    return bool(mixture.weights_.min() >= least_share and smallest.min() > SINGULAR)
