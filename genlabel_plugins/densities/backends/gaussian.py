"""`gm`: one Gaussian, or a mixture of several, per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number
from genlabel_plugins.densities._components import warn_of_components
from genlabel_plugins.densities._moments import moments_of, scaled_moments, state_of
from genlabel_plugins.densities._ranks import State
from genlabel_plugins.densities._segments import LogRatio, mixture_log_ratio, segment_ends
from genlabel_plugins.densities.backends._class_estimates import (
    ClassEstimates,
    Shrinkage,
    check_memory,
    check_shrinkage,
    class_estimates,
    enough_rows,
    estimates_of,
)
from genlabel_plugins.densities.backends._down_dates import DownDates, weights_of
from genlabel_plugins.densities.backends._evidence import regularized
from genlabel_plugins.densities.backends._gaussian_components import Components, mixtures, single_gaussians
from genlabel_plugins.densities.backends._quadratic_forms import quadratic_forms, quadratic_segment
from genlabel_plugins.densities.backends._whitening import (
    factorize,
    whitened_segment,
    whitened_squares,
    whitening,
    with_ones,
)
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.streaming import StreamingDensity

CovarianceType = Literal["full", "tied", "diag", "spherical"]


class GaussianMixture(StreamingDensity):
    r"""Gaussian class densities :math:`p_c(x) = \sum_k w_{ck}\, N(x; \mu_{ck}, \Sigma_{ck})`.

    Means and covariances are the maximum-likelihood estimates where rows are many, and shrunk to what all classes
    share where they are few. A full covariance is scored by one product of the batch with the stacked whitening
    matrices :math:`L_{ck}^{-1}`; the others by one product with the coefficients of their quadratic forms.

    Of one component, `partial_fit` keeps the rows while they are few, then their moments, merged about their own means:
    in whatever parts they come, the densities are those of one `fit`, to rounding. A subclass with a `_fit` of its own
    keeps all rows for it.

    Args:
        n_components: Components per class; `"bic"` chooses up to `max_components` by the Bayesian information
            criterion, among numbers that leave each component rows enough for a covariance of its own.
        covariance_type: `"full"`, `"tied"` (one covariance for all classes), `"diag"` or `"spherical"`.
        shrinkage: `"auto"` shrinks covariances to the pooled one, and that to its diagonal, by the number of rows;
            0 never does. With one component and a full or tied covariance, `"ledoit_wolf"`, `"oas"` or a weight
            in [0, 1] shrinks to equal multiples of the pooled variances.
        reg_covar: Added to each variance of a class, as a share of it, so that the units of the data do not matter.
        max_components: Largest number of components that `"bic"` tries.
        regularization: With `"auto"`, rows that are left out choose between these covariances, the pooled one and its
            diagonal, and how certain labels may be, which `GenLabel` heeds; None leaves the estimates as they are.
            Nothing is chosen beside a shrinkage of your own, for several components, `"diag"` and `"spherical"`, nor
            by `partial_fit` once moments stand for the rows.

    Raises:
        ValueError: On an option out of range, or, in `fit`, a singular covariance with `reg_covar=0`.

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [10.0], [12.0]], dtype=torch.float64)
        >>> gm = GaussianMixture(shrinkage=0.0, reg_covar=0.0).fit(x, torch.tensor([0, 0, 1, 1]))
        >>> gm.log_prob(x[:1])
        tensor([[ -1.4189, -61.4189]], dtype=torch.float64)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 1.2.
    """

    stream_fields: ClassVar[Mapping[str, bool]] = {
        "unit": False,
        "mean": True,
        "scatter": True,
        "third": True,
        "fourth": True,
    }

    log_norm_: Tensor  # (K, M), log weight and normalizer of each component
    whiten_: Tensor  # full: packed whitening of all components
    transform_: Tensor  # otherwise: (D,) or (D, D), to units in which a covariance is diagonal
    quadratic_: Tensor  # otherwise: (2D, K*M), coefficients of [z^2, z]
    temperature_: Tensor  # (), by which `GenLabel` divides log-ratios

    def __init__(
        self,
        *,
        n_components: int | Literal["bic"] = 1,
        covariance_type: CovarianceType = "full",
        shrinkage: Shrinkage | float = "auto",
        reg_covar: float = 1e-8,
        max_components: int = 6,
        regularization: Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        if regularization not in ("auto", None):
            raise ValueError(f"regularization must be 'auto' or None, got {regularization!r}")
        if covariance_type not in get_args(CovarianceType):
            raise ValueError(f"covariance_type must be one of {get_args(CovarianceType)}, got {covariance_type!r}")
        count: Any = n_components  # numpy's integers too
        if count != "bic" and not (isinstance(count, Integral) and int(count) > 0):
            raise ValueError(f"n_components must be a positive integer or 'bic', got {n_components!r}")
        check_shrinkage(shrinkage)
        if shrinkage not in ("auto", 0) and (n_components != 1 or covariance_type not in ("full", "tied")):
            raise ValueError(
                f"shrinkage={shrinkage!r} goes with n_components=1 and a full or tied covariance; 'auto' and 0 with all"
            )
        if covariance_type == "tied" and n_components != 1:
            raise ValueError(
                f"covariance_type='tied' is shared by all classes and goes with n_components=1, got {n_components!r}"
            )
        check_number("max_components", max_components, 1, whole=True)
        check_number("reg_covar", reg_covar, 0)
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.shrinkage = shrinkage
        self.reg_covar = reg_covar
        self.max_components = max_components
        self.regularization = regularization
        self.streamable = n_components == 1 and shrinkage not in ("ledoit_wolf", "oas")
        self.down_dates = DownDates()
        self._declare("log_norm_", "whiten_", "transform_", "quadratic_", "temperature_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        estimate = class_estimates(
            x, target, self.offset_, shrinkage=self.shrinkage, diagonal=self._diagonal, tied=self._tied
        )
        if self.shrinkage == "auto" and not self._diagonal:
            warn_of_components(estimate.class_count, x, self.offset_)
        components = self._single(estimate)
        if self.n_components != 1:
            components = mixtures(
                x,
                target,
                components,
                covariance_type=self.covariance_type,
                n_components=self.n_components,
                max_components=self.max_components,
                reg_covar=self.reg_covar,
                generator=generator,
            )
        temperature, weights = 1.0, weights_of(estimate, self.shrinkage, tied=self._tied)
        free = self.regularization == "auto" and self.shrinkage == "auto" and not self._diagonal
        if free and components.mean.shape[1] == 1:
            found = regularized(x, target, estimate, components.covariance[:, 0], self.reg_covar)
            covariance, temperature, *_ = found
            weights = found.own, found.pooled
            components = components._replace(covariance=covariance.expand_as(components.covariance[:, 0])[:, None])
        self._store(components, estimate, weights, temperature)

    def _drawn(self, x: Tensor, generator: torch.Generator) -> State:
        if not self.streamable:
            raise ValueError(
                f"partial_fit goes with n_components=1 and shrinkage 'auto' or a number, got {self.n_components!r} and "
                f"{self.shrinkage!r}, which need all rows at once"
            )
        return {}

    def _condense(self, state: State) -> State:
        if type(self)._fit is not GaussianMixture._fit:  # a subclass that fits in its own way needs the rows
            return state
        return self._summed(state) if enough_rows(state["count"], len(state["origin"])) else state

    def _summed(self, state: State) -> State:
        """The same state with moments in place of rows."""
        if "rows" not in state:
            return state
        x, count, origin = state["rows"], state["count"], state["origin"]
        if not self._diagonal:
            check_memory(len(count), x, self._tied)
        scaled = scaled_moments(x, state["target"], len(count), origin, centered=False, diagonal=self._diagonal)
        return {"count": count, "origin": origin} | state_of(scaled)

    def _joined(self, a: State, b: State) -> State:
        first, second = (moments_of(self._summed(state)) for state in (a, b))
        return state_of(first.merge(second))

    def _finish(self, state: State) -> None:
        if "rows" in state:
            super()._finish(state)
            return
        whole, count = moments_of(state), state["count"].double()
        mean = count @ whole.moments.mean / count.sum() * whole.unit
        self.offset_ = (whole.origin + mean).to(whole.origin.dtype)
        self.present_ = count.nonzero().squeeze(1)
        whole = whole.rebased(whole.unit, self.offset_)
        whole = whole._replace(moments=whole.moments.of_classes(self.present_))
        no_rows = self.offset_.new_empty(0, len(mean)), self.present_[:0]
        estimate = estimates_of(whole, *no_rows, shrinkage=self.shrinkage, diagonal=self._diagonal, tied=self._tied)
        self._store(self._single(estimate), estimate, weights_of(estimate, self.shrinkage, tied=self._tied))

    def _single(self, estimate: ClassEstimates) -> Components:
        return single_gaussians(
            estimate, covariance_type=self.covariance_type, shrinkage=self.shrinkage, reg_covar=self.reg_covar
        )

    @property
    def _diagonal(self) -> bool:
        return self.covariance_type in ("diag", "spherical")

    @property
    def _tied(self) -> bool:
        return self.covariance_type == "tied"

    def _store(
        self, components: Components, estimate: ClassEstimates, weights: tuple[Tensor, Tensor], temperature: float = 1.0
    ) -> None:
        self.temperature_ = self.offset_.new_full((), temperature)
        offset, mean = self.offset_, estimate.mean.clone()  # a center may be the mean itself
        self._recenter(components.mean)
        if self.leaves_parents_out:
            self.down_dates.remember(mean - (self.offset_.double() - offset), weights, estimate.noise)
        if self.covariance_type == "full":
            self._store_full(components)
        else:
            self.transform_, self.quadratic_, log_det = quadratic_forms(components, tied=self._tied)
            self._store_norm(components, log_det)

    def segment(self, x: Tensor, pair: Tensor, partner: Tensor) -> LogRatio:
        r"""Log-ratio :math:`\log p_{c_i} - \log p_{c_j}` along the segments from partners (at 0) to rows (at 1).

        Args:
            x: Rows, shape `(N, *)`, of which the first B have a partner.
            pair: Classes of these rows and of their partners, shape `(2, B)`.
            partner: Row at the other end, shape `(B,)`.
        """
        rows, pair = segment_ends(self, x, pair)
        n_components = self.log_norm_.shape[1]
        component = pair[..., None]  # (2, B, M)
        if n_components > 1:
            component = component * n_components + torch.arange(n_components, device=x.device)
        log_norm = self.log_norm_.take(component).to(rows)
        if self.covariance_type == "full":
            square = whitened_segment(rows, self.whiten_.to(rows), self.log_norm_.numel(), component, partner)
        else:
            square = quadratic_segment(self._transformed(rows), self.quadratic_.to(rows), component, partner)
        return mixture_log_ratio(log_norm, square)

    def _log_prob(self, x: Tensor) -> Tensor:
        log_norm = self.log_norm_  # (K, M)
        if self.covariance_type == "full":
            square = whitened_squares(with_ones(x), self.whiten_, log_norm.numel())  # (K*M, B)
            log_prob = torch.add(log_norm.reshape(-1, 1), square, alpha=-0.5).T
        elif self.covariance_type == "tied":  # the squares are the same for every class
            z = self._transformed(x)
            log_prob = torch.addmm(log_norm.reshape(-1), z, self.quadratic_[z.shape[1] :])
            log_prob = log_prob.sub_(z.square_().sum(1, keepdim=True), alpha=0.5)
        else:
            z = self._transformed(x)
            log_prob = torch.addmm(log_norm.reshape(-1), torch.cat([z.square(), z], 1), self.quadratic_)
        if log_norm.shape[1] == 1:
            return log_prob
        mixture: Tensor = log_prob.unflatten(1, log_norm.shape).logsumexp(-1)  # (B, K)
        return mixture

    @property
    def leaves_parents_out(self) -> bool:
        """Whether means and covariances lose rows in closed form: those of one component, full or tied."""
        return self.n_components == 1 and not self._diagonal and self.shrinkage not in ("ledoit_wolf", "oas")

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        log_norm, count = self.log_norm_[:, 0], self.class_count_[self.present_]
        if self._tied:
            whiten = self.transform_.to(x), self.quadratic_[x.shape[1] :]
            return self.down_dates.tied(x, parents, whiten, log_norm, count)
        return self.down_dates.full(x, parents, self.whiten_, log_norm, count)

    def _transformed(self, x: Tensor) -> Tensor:
        transform = self.transform_.to(x)
        return x @ transform if transform.ndim == 2 else x * transform

    def _recenter(self, mean: Tensor) -> None:
        """Center rows, and `mean`, `(K, M, D)`, on the median class: one far class would cost the rest precision."""
        offset = self.offset_
        self.offset_ = (offset + mean[:, 0].median(0).values).to(offset)
        mean -= self.offset_.double() - offset

    def _store_full(self, components: Components) -> None:
        cholesky = factorize(components.covariance).flatten(0, 1)  # (K*M, D, D)
        self.whiten_ = whitening(cholesky, components.mean.flatten(0, 1))
        log_det = cholesky.diagonal(dim1=1, dim2=2).log().sum(-1).view_as(components.log_weight)
        self._store_norm(components, log_det)

    def _store_norm(self, components: Components, log_det: Tensor) -> None:
        unit = 0.5 * components.mean.shape[-1] * math.log(2 * math.pi)
        self.log_norm_ = components.log_weight - log_det - unit
