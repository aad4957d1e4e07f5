"""Mean and covariance of each class, from many rows or from few."""

from __future__ import annotations

import math
import os
from numbers import Real
from typing import Literal, NamedTuple, get_args

import torch
from sklearn import covariance as sklearn_covariance
from torch import Tensor

from genlabel_plugins._checks import warn_of_few_rows
from genlabel_plugins.densities._moments import ScaledMoments, scaled_moments

Shrinkage = Literal["auto", "ledoit_wolf", "oas"]

ROWS_PER_FEATURE = 10  # so many, and a class has a covariance of its own
ROWS_PER_VARIANCE = 20


class ClassEstimates(NamedTuple):
    """Means and covariances in float64; every class has a spread in every column.

    Attributes:
        class_count: Rows per class, shape `(K,)`.
        mean: Means of the rows, shape `(K, D)`.
        center: Centers of the classes, shape `(K, D)`: the means, drawn together where rows are few in all.
        covariance: Covariances, shape `(K, D, D)`, or `(K, D)` where only variances are asked for; K is 1 if tied.
        constant: Mask of columns that are constant over all rows, whose variance is set to one, shape `(D,)`.
        pooled: The covariance that all classes share, shape `(D, D)`, or `(D,)`.
        pooled_weight: Weight of it in the covariance of each class, shape `(K, 1)`; for variances alone `(K, D)`.
        noise: Share by which the correlations of `pooled` are shrunk, and share by which centers are drawn together.
        is_scaled: Classes with a column in which `pooled` was scaled to them, shape `(K,)`.
    """

    class_count: Tensor
    mean: Tensor
    center: Tensor
    covariance: Tensor
    constant: Tensor
    pooled: Tensor
    pooled_weight: Tensor
    noise: tuple[float | Tensor, float | Tensor]
    is_scaled: Tensor


def class_estimates(
    x: Tensor,
    target: Tensor,
    offset: Tensor,
    *,
    shrinkage: Shrinkage | float = "auto",
    diagonal: bool = False,
    tied: bool = False,
    ddof: int = 0,
) -> ClassEstimates:
    r"""Estimate :math:`\Sigma_c = (1 - w_c) S_c + w_c P_c` from the class's own covariance S and the pooled one P.

    By itself, the weight falls from 1 for a class with no more rows than features and one to 0 at
    `ROWS_PER_FEATURE` rows a feature. A column that is mostly one value within the class says little of its
    variance, however many the rows, and raises the weight: n rows of kurtosis k are worth 2n / (k - 1). P is the
    same for all classes, but for columns whose variance in the class is far beyond chance another than the pooled
    one: they are scaled to it. Scaling a column of the rows scales the estimate.

    Where rows are few in all, P in turn is shrunk to its diagonal by the share of noise in its squared
    correlations, and the means to their center by the share of noise in their squared distances from it, without
    which labels are certain and wrong.

    Args:
        x: Centered rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`, every class with a row.
        offset: What was subtracted, shape `(D,)`; a spread within its rounding is no spread.
        shrinkage: `"auto"`, or the weight of a multiple of P's diagonal, in [0, 1] or by scikit-learn's
            `"ledoit_wolf"` or `"oas"`; a class without a spread of its own takes P then.
        diagonal: Estimate variances alone, each column by itself.
        tied: Estimate P alone.
        ddof: By how much divisors fall short of the number of rows.

    Raises:
        ValueError: If full covariances would take more memory than there is.

    Reference:
        Friedman, Regularized discriminant analysis, 1989; Schaefer and Strimmer, A shrinkage approach to
        large-scale covariance matrix estimation, 2005; Ledoit and Wolf, A well-conditioned estimator for
        large-dimensional covariance matrices, 2004; James and Stein, Estimation with quadratic loss, 1961.
    """
    n_classes = int(target.max()) + 1
    if not diagonal:
        check_memory(n_classes, x, tied)
    moments = scaled_moments(x, target, n_classes, offset, centered=True, diagonal=diagonal)
    return estimates_of(moments, x, target, shrinkage=shrinkage, diagonal=diagonal, tied=tied, ddof=ddof)


def estimates_of(
    scaled: ScaledMoments,
    x: Tensor,
    target: Tensor,
    *,
    shrinkage: Shrinkage | float = "auto",
    diagonal: bool = False,
    tied: bool = False,
    ddof: int = 0,
) -> ClassEstimates:
    """The same from moments; rows and targets, `(N, D), (N,)`, may be left out where `enough_rows`, but not by name."""
    unit, offset, moments = scaled
    count, mean, scatter, _, fourth = moments
    n_classes, n_rows = len(count), float(count.sum())
    worth = _worth(count, variances(scatter, diagonal), fourth)  # (K, D)
    mean, scatter = mean * unit, scatter * (unit.square() if diagonal else unit.outer(unit))
    n_within = n_rows - n_classes
    rounding = (2 * torch.finfo(offset.dtype).eps * (mean.abs() + offset.abs())).square()  # (K, D)
    flat = variances(scatter, diagonal) <= rounding * count[:, None]
    if bool(flat.any()):
        scatter = scatter.masked_fill(flat if diagonal else flat[:, :, None] | flat[:, None], 0.0)
        worth = worth.masked_fill(flat, 0.0)
    bare = flat.all(0)  # (D,), without a spread within any class: classes apart tell the unit
    between = count @ (mean - count @ mean / n_rows).square() / n_rows
    constant = bare & (between <= rounding.amax(0))
    spread_between = torch.where(bare, between / (n_within + 1), 0.0).masked_fill_(constant, 1.0)
    fill = spread_between if diagonal else spread_between.diag()
    auto, named = shrinkage == "auto", shrinkage in ("ledoit_wolf", "oas")
    n_features = 1 if diagonal else int((~bare).sum())
    scarcity = _scarcity(n_within, n_features) if auto else 0.0
    pooled = (scatter.sum(0) / max(n_rows - max(ddof, scarcity) * n_classes, 1)).add_(fill)
    unit, center = variances(pooled, diagonal), mean
    rows = (x - mean[target]) / unit.sqrt() if named or (scarcity and not diagonal) else x
    noise: tuple[float | Tensor, float | Tensor] = (0.0, 0.0)
    if scarcity and not diagonal:
        in_correlations = _noise_in_correlations(pooled, rows, n_within, most=scarcity)
        pooled = pooled.lerp(pooled.diagonal().diag(), in_correlations)
        noise = in_correlations, _noise_in_means(count, mean, pooled, most=scarcity if n_within else 0.0)
        center = mean.lerp(mean.mean(0).expand_as(mean), noise[1])
    elif not (auto or diagonal):
        pooled = _towards_sphere(pooled, unit, pooled.new_tensor(_intensity(rows, shrinkage)))
    is_scaled = torch.zeros_like(count, dtype=torch.bool)
    if tied:
        wholly = torch.ones_like(count)[:, None]
        return ClassEstimates(count, mean, center, pooled[None], constant, pooled, wholly, noise, is_scaled)
    own = (scatter / (count - ddof).clamp(min=1).view(-1, *[1] * pooled.ndim)).add_(fill)
    weight = ((ROWS_PER_VARIANCE - worth) / (ROWS_PER_VARIANCE - 2)).clamp(0, 1) if auto else (worth == 0).double()
    weight.masked_fill_(bare, 0.0)
    if not diagonal:  # Ledoit and Wolf see no noise in two rows, which mirror each other
        too_few = [_scarcity(n, n_features) if auto else float(named and n < 3) for n in count.tolist()]
        weight = weight.amax(1).maximum(weight.new_tensor(too_few))[:, None, None]
    if not (auto or diagonal):
        each = [_intensity(rows[target == c], shrinkage) for c in range(n_classes if named else 1)]
        own = _towards_sphere(own, unit, own.new_tensor(each).expand(n_classes))
    shared = pooled
    if auto and bool(weight.any()):
        scale = _scale(variances(own, diagonal) / unit, worth)
        is_scaled = (scale != 1).any(1)
        shared = pooled * (scale.square() if diagonal else scale[:, :, None] * scale[:, None])
    covariance = torch.lerp(own, shared.expand_as(own), weight.expand_as(own)) if bool(weight.any()) else own
    weight = weight.view(len(count), -1)
    return ClassEstimates(count, mean, center, covariance, constant, pooled, weight, noise, is_scaled)


def enough_rows(count: Tensor, n_features: int) -> bool:
    """Whether all classes together, `(C,)` rows each, have so many that more never bring the rows into an estimate."""
    return float(count.sum() - (count > 0).sum()) >= ROWS_PER_FEATURE * n_features


def variances(covariance: Tensor, diagonal: bool) -> Tensor:
    """Variances `(*, D)` of covariances `(*, D, D)`, or of what is a diagonal already."""
    return covariance if diagonal else covariance.diagonal(dim1=-2, dim2=-1)


def check_shrinkage(shrinkage: Shrinkage | float) -> None:
    """Raise `ValueError` on what is no shrinkage."""
    if shrinkage not in get_args(Shrinkage) and not (isinstance(shrinkage, Real) and 0 <= float(shrinkage) <= 1):
        raise ValueError(f"shrinkage must be a float in [0, 1] or one of {get_args(Shrinkage)}, got {shrinkage!r}")


def raise_variances(covariance: Tensor, share: float, diagonal: bool = False) -> Tensor:
    """Add a share of each variance to it, in place: whatever the units, a class has its own floor."""
    variances(covariance, diagonal).mul_(1 + share)
    return covariance


def warn_if_few(estimate: ClassEstimates, shrinkage: Shrinkage | float, *, tied: bool = False) -> None:
    """Say that there are too few rows for covariances of their own, and what helps."""
    count, n_features = estimate.class_count.long(), int((~estimate.constant).sum())
    n_within = int(count.sum()) - len(count)
    few = count[(count > 1) & (count <= n_features + 1)]
    if not n_within:
        problem = "every class has a single row, so that the spread of all rows stands for that of a class"
    elif tied and n_within <= n_features:
        problem = f"{n_within} rows beyond one a class are no more rows than the {n_features} features"
    elif len(few) and not tied:
        first = int(few[0])
        problem = f"{len(few)} classes have no more rows than the {n_features} features and one (the first has {first})"
    else:
        return
    if shrinkage == "auto":
        advice = "covariances are pooled and shrunk; more rows, or fewer features as by PCA, tell more"
    else:
        advice = f"shrinkage={shrinkage!r} leaves their covariances poor: shrinkage='auto' pools them"
    warn_of_few_rows(f"{problem}: {advice}", stacklevel=4)


def check_memory(n_classes: int, x: Tensor, tied: bool) -> None:
    """Raise `ValueError` if full covariances of the features of rows `(N, D)` do not fit into memory."""
    n_matrices = n_classes + 2 if tied else 3 * n_classes  # scatter, estimate and factor, at least
    needed = 8 * n_matrices * x.shape[1] ** 2
    if x.device.type == "cuda":
        memory = torch.cuda.mem_get_info(x.device)[1]
    elif hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:  # Windows does not say
        memory = 2**40
    if needed > memory:
        raise ValueError(
            f"x must have fewer features for full covariances: of {n_classes} classes and {x.shape[1]} features they "
            f"take {needed / 1e9:,.0f} GB, more than the {memory / 1e9:,.0f} GB of this device; take fewer, as by PCA, "
            "or variances alone, by backend 'gm' with covariance_type='diag'"
        )


def _scarcity(n_rows: float, n_features: int) -> float:
    """One for no more rows than features and one, zero from `ROWS_PER_FEATURE` rows a feature on."""
    enough = ROWS_PER_FEATURE * n_features
    return min(max((enough - n_rows) / max(enough - n_features - 1, 1), 0.0), 1.0)


def _worth(count: Tensor, spread: Tensor, fourth: Tensor) -> Tensor:
    """Rows of a Gaussian that tell as much of the variance of each column, `(K,), (K, D), (K, D)` -> `(K, D)`."""
    excess = count[:, None] * fourth / spread.square() - 1  # 2 for a Gaussian
    return torch.where(spread > 0, 2 * count[:, None] / excess.clamp(min=2), 0.0)


def _scale(ratio: Tensor, worth: Tensor) -> Tensor:
    """Root of a variance over the pooled one as far as it is far beyond chance, `(K, D), (K, D)` -> `(K, D)`.

    Few rows tell it of a class as a whole, by the median of its columns, and not of one column: of the features of a
    pretrained network, many are by chance all but zero in five rows of a class.
    """
    freedom = (worth - 1).clamp(min=1)
    chance = 2 + 20 / freedom + 4 / freedom.sqrt()  # of the logarithm: no Gaussian column in ten thousand exceeds it
    log_ratio = torch.where(worth > 0, ratio, 1.0).log()
    log_ratio = torch.where(worth >= ROWS_PER_VARIANCE, log_ratio, log_ratio.median(1, keepdim=True).values)
    return (0.5 * log_ratio.sign() * (log_ratio.abs() - chance).clamp(min=0)).exp()


def _noise_in_correlations(covariance: Tensor, rows: Tensor, n_within: float, *, most: float) -> Tensor:
    """Share of noise in the squared correlations of `(D, D)`, by which they are shrunk, but at most `most`.

    The noise is the larger of what Gaussian rows have and of what is seen in the scaled rows `(N, D)`.
    """
    std = covariance.diagonal().sqrt()
    square = (covariance / torch.outer(std, std)).square_().fill_diagonal_(1.0)
    seen = rows.square().sum(1).square().mean() - square.sum()
    noise = (1 - square).square().sum().maximum(seen) / max(n_within, 1)
    share = noise / (square.sum() - len(square)).clamp(min=torch.finfo(square.dtype).tiny)
    return most * share.clamp(max=1)


def _noise_in_means(count: Tensor, mean: Tensor, covariance: Tensor, *, most: float) -> Tensor:
    """Share of noise in the distances of means `(K, D)` from their center, to which they are shrunk, at most `most`."""
    origin = mean.mean(0)
    cholesky = torch.linalg.cholesky(raise_variances(covariance.clone(), 1e-8))
    distance = torch.linalg.solve_triangular(cholesky, (mean - origin).T, upper=False).square().sum()
    n_classes, n_features = mean.shape
    freedom = n_features * (n_classes - 1)
    noise = (1 / count).mean() * freedom
    excess = (distance - noise * max(1 - 2 / max(freedom, 1), 0)).maximum(noise * math.sqrt(2 / max(freedom, 1)))
    share: Tensor = 1 - excess / distance.clamp(min=torch.finfo(mean.dtype).tiny)
    return share.clamp(0, 1) * most


def _towards_sphere(covariance: Tensor, unit: Tensor, weight: Tensor) -> Tensor:
    """Shrink covariances `(*, D, D)` by weights `(*)` to a multiple of the variances `unit`."""
    level = (covariance.diagonal(dim1=-2, dim2=-1) / unit).mean(-1, keepdim=True)
    return covariance.lerp((level * unit).diag_embed(), weight[..., None, None].expand_as(covariance))


def _intensity(rows: Tensor, shrinkage: Shrinkage | float) -> float:
    """Weight of a multiple of the identity in the covariance of centered rows `(n, D)`, given or by scikit-learn."""
    if not isinstance(shrinkage, str):
        return shrinkage
    _, weight = getattr(sklearn_covariance, shrinkage)(rows.double().cpu().numpy(), assume_centered=True)
    return float(weight)
