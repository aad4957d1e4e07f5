"""Estimation of Gaussian components, in units in which every feature has variance one."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from sklearn import covariance as sklearn_covariance
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor

from genlabel_plugins.densities._moments import ClassMoments, class_moments, feature_scale


class Components(NamedTuple):
    """Gaussian components of each class, float64; a class with fewer than M is padded with weight zero.

    Attributes:
        log_weight: Log mixture weights, shape `(K, M)`.
        mean: Means, shape `(K, M, D)`, in units of `scale`.
        covariance: Covariances, shape `(K, M, D, D)`, or `(K, M, D)` where only the diagonal is not zero.
        scale: Unit of each feature, shape `(D,)`.
    """

    log_weight: Tensor
    mean: Tensor
    covariance: Tensor
    scale: Tensor


def single_gaussians(
    x: Tensor, target: Tensor, *, covariance_type: str, shrinkage: Any, reg_covar: float, constant: Tensor
) -> Components:
    """One Gaussian per class by its moments, `(N, D), (N,)`; a class of one row takes the pooled covariance."""
    diagonal = covariance_type in ("diag", "spherical")
    moments = class_moments(x.double(), target, int(target.max()) + 1, diagonal=diagonal)
    scale = feature_scale(moments, constant, common=covariance_type == "spherical")
    unit = scale.square() if diagonal else torch.outer(scale, scale)
    count = moments.class_count.view(-1, *[1] * unit.ndim)
    pooled = moments.scatter.sum(0) / unit / count.sum()
    if covariance_type == "tied":
        if shrinkage is not None:
            residual = x - moments.mean.to(x.dtype)[target]
            pooled = _shrunk(residual / scale, pooled, shrinkage)
        covariance = pooled.expand(len(moments.class_count), *pooled.shape)
    else:
        covariance = torch.where(count > 1, moments.scatter / unit / count, pooled)
        if covariance_type == "full" and shrinkage is None:
            _warn_if_singular(moments, reg_covar)
        if shrinkage is not None:
            for c in (moments.class_count > 1).nonzero().squeeze(1).tolist():
                rows = (x[target == c] - moments.mean[c]) / scale
                covariance[c] = _shrunk(rows, covariance[c], shrinkage)
        if covariance_type == "spherical":
            covariance = covariance.mean(-1, keepdim=True).expand_as(covariance)
    regular = covariance + reg_covar * (1.0 if diagonal else torch.eye(len(scale)).to(covariance))
    return Components(
        torch.zeros_like(moments.class_count)[:, None], (moments.mean / scale)[:, None], regular[:, None], scale
    )


def mixtures(
    x: Tensor,
    target: Tensor,
    *,
    covariance_type: str,
    n_components: int | str,
    max_components: int,
    reg_covar: float,
    constant: Tensor,
    generator: torch.Generator,
) -> Components:
    """Several Gaussians per class by scikit-learn's EM, `(N, D), (N,)`."""
    single = single_gaussians(
        x, target, covariance_type=covariance_type, shrinkage=None, reg_covar=reg_covar, constant=constant
    )
    n_classes, _, n_features = single.mean.shape
    choices = range(1, max_components + 1) if n_components == "bic" else (int(n_components),)
    padded = Components(
        torch.full((n_classes, max(choices)), -torch.inf).to(single.mean),
        torch.zeros(n_classes, max(choices), n_features).to(single.mean),
        single.covariance.repeat(1, max(choices), *[1] * (single.covariance.ndim - 2)),
        single.scale,
    )
    seed = int(torch.randint(2**31, (), generator=generator))
    for c in range(n_classes):
        rows = (x[target == c] / single.scale).cpu().numpy()
        if len(rows) == 1:
            padded.log_weight[c, 0], padded.mean[c, 0] = 0.0, single.mean[c, 0]
            continue
        fits = [
            SklearnMixture(m, covariance_type=covariance_type, reg_covar=reg_covar, random_state=seed).fit(rows)
            for m in dict.fromkeys(min(choice, len(rows)) for choice in choices)
        ]
        best = min(fits, key=lambda fit: fit.bic(rows)) if len(fits) > 1 else fits[0]
        found = slice(best.n_components)
        covariance = torch.as_tensor(best.covariances_).to(single.mean)
        padded.log_weight[c, found] = torch.as_tensor(best.weights_).log().to(single.mean)
        padded.mean[c, found] = torch.as_tensor(best.means_).to(single.mean)
        padded.covariance[c, found] = covariance[:, None] if covariance_type == "spherical" else covariance
    used = int(torch.isfinite(padded.log_weight).sum(1).max())
    return Components(padded.log_weight[:, :used], padded.mean[:, :used], padded.covariance[:, :used], single.scale)


def _shrunk(rows: Tensor, covariance: Tensor, shrinkage: Any) -> Tensor:
    """Covariance of centred `rows` shrunk towards a multiple of the identity, by scikit-learn."""
    if isinstance(shrinkage, str):
        estimate = getattr(sklearn_covariance, shrinkage)
        shrunk, _ = estimate(rows.double().cpu().numpy(), assume_centered=True)
    else:
        shrunk = sklearn_covariance.shrunk_covariance(covariance.cpu().numpy(), shrinkage)
    return torch.as_tensor(shrunk).to(covariance)


def _warn_if_singular(moments: ClassMoments, reg_covar: float) -> None:
    n_features = moments.mean.shape[1]
    few = ((moments.class_count > 1) & (moments.class_count <= n_features)).nonzero().squeeze(1).tolist()
    if few:
        warnings.warn(
            f"{len(few)} classes have no more rows than the {n_features} features (the first has "
            f"{int(moments.class_count[few[0]])}), so only reg_covar={reg_covar} keeps their full covariance regular: "
            "use shrinkage='ledoit_wolf' or covariance_type='tied' or 'diag'",
            stacklevel=2,
        )
