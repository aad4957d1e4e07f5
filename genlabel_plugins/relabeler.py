"""Relabeler: the posterior of class-conditional densities, blended with the mixed label."""

from __future__ import annotations

from typing import Any, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number, check_switch, check_tensor
from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import LearntState
from genlabel_plugins.densities._temperature import best_temperature, tone_down
from genlabel_plugins.densities.cross_fit import CrossFit
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.posterior import blend, class_posterior
from genlabel_plugins.scoring import held_out

GAMMA = 0.5  # the default at every door


@runtime_checkable
class Relabeler(Protocol):
    """Class-conditional densities that correct a mixed label: all that an integration sees."""

    def fit(self, x: Tensor, target: Tensor) -> Self:
        """Learn from inputs `(N, *)` and class indices `(N,)`."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, `(B, *) -> (B, C)`."""
        ...

    def relabel(self, x: Tensor, y_mix: Tensor) -> Tensor:
        """Corrected label of mixed inputs, `(B, *), (B, C) -> (B, C)`."""
        ...


class GenLabel(LearntState):
    r"""Relabel mixed inputs by the posterior of a generative model (GenLabel, Algorithm 1).

    .. math:: y = \gamma\, y_\text{gen} + (1 - \gamma)\, y_\text{mix}, \qquad
              y_\text{gen} = \operatorname{softmax}_c\big((\log p_c(x) + \log \pi_c) / T\big)

    A row on which the densities say nothing (all minus infinity, or any NaN) keeps `y_mix`; `n_fallback_`
    counts such rows on the device.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`.
        gamma: Trust in `y_gen`, in [0, 1], 0.5 by default; 1 takes it alone, and a tensor of shape `(B,)` trusts each
            row on its own.
        priors: `"uniform"` (the paper), `"empirical"` (training frequencies) or one number per class.
        top_k: Keep only the `top_k` most likely classes (Algorithm 3 keeps 2); by default all.
        temperature: Divides the log-posterior; above 1 softens it.
        leave_parents_out: Label each mixed row as if the densities had been fitted without the two rows that it is of,
            which else lie next to it. For `"kde"`, `"nn"`, and `"gm"` of one full or tied component.
        cross_fit: The same for any density or teacher, by that many folds: see `CrossFit`.

    Raises:
        ValueError: On an option out of range, naming the value and the choices.

    Example:
        >>> x = torch.tensor([[-1.1], [-0.9], [0.9], [1.1]])
        >>> genlabel = GenLabel("gm").fit(x, torch.tensor([0, 0, 1, 1]))
        >>> genlabel.relabel(torch.tensor([[1.0]]), torch.tensor([[0.5, 0.5]]))
        tensor([[0.2500, 0.7500]])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, equation (1).
    """

    n_fallback_: Tensor
    prior: Tensor | None

    def __init__(
        self,
        backend: Any = "gm",
        *,
        gamma: float | Tensor = GAMMA,
        priors: Literal["uniform", "empirical"] | Any = "uniform",
        top_k: int | None = None,
        temperature: float = 1.0,
        leave_parents_out: bool = False,
        cross_fit: int | None = None,
    ) -> None:
        super().__init__()
        _check_gamma(gamma)
        if isinstance(gamma, Tensor) and not bool(((gamma >= 0) & (gamma <= 1)).all()):
            raise ValueError(f"gamma must lie in [0, 1], got values from {gamma.min():.4g} to {gamma.max():.4g}")
        check_number("top_k", top_k, 1, none=True, whole=True)
        check_number("temperature", temperature, 0)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        check_switch("leave_parents_out", leave_parents_out)
        if cross_fit is not None:
            check_number("cross_fit", cross_fit, 3, whole=True)
        self.density = make_backend(backend) if cross_fit is None else CrossFit(backend, n_folds=cross_fit)
        if leave_parents_out and not getattr(self.density, "leaves_parents_out", False):
            raise ValueError(
                "leave_parents_out goes with kde, nn, and gm of one full or tied component, got "
                f"{' '.join(repr(self.density).split())}: cross_fit=5 does the same for any density"
            )
        self.leave_parents_out = leave_parents_out
        self.cross_fit = cross_fit
        self.gamma = gamma
        self.priors = priors
        self.top_k = top_k
        self.temperature = temperature
        self.register_buffer("prior", _as_prior(priors), persistent=False)
        self.register_buffer("n_fallback_", torch.zeros((), dtype=torch.long), persistent=False)

    def fit(self, x: Tensor, target: Tensor, **options: Any) -> Self:
        """Fit the densities on clean rows `(N, *)` and class indices `(N,)`; `options` go to the density."""
        self.density.fit(x, target, **options)
        self.n_fallback_.zero_()
        return self.to(x.device)

    def calibrate(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_folds: int | None = 5,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Set `temperature` to the one with the least held-out log-loss; the densities stay as they are.

        Args:
            x: Inputs, shape `(N, *)`.
            target: Class indices, shape `(N,)`.
            n_folds: Folds of a stratified cross-validation that refits copies; None takes the densities as they
                are, for rows that they were not fitted on.
            generator: Source of randomness on the CPU for the folds; by default a fresh one, seeded with 0.

        Reference:
            Guo et al., On Calibration of Modern Neural Networks, ICML 2017, temperature scaling.
        """
        self.temperature = best_temperature(held_out(self, x, target, n_folds, generator))
        return self

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, `(B, *) -> (B, C)`, toned down if the density knows that it is too certain."""
        log_prob: Tensor = self.density.log_prob(x)
        temperature = getattr(self.density, "temperature_", None)
        return log_prob if temperature is None else tone_down(log_prob, temperature)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log-densities plus log-priors, `(B, *) -> (B, C)`, before temperature and top-k."""
        return self._with_prior(self.log_prob(x))

    def _with_prior(self, log_prob: Tensor) -> Tensor:
        log_prior = self._log_prior()
        if log_prior is None:
            return log_prob
        if len(log_prior) != log_prob.shape[1]:
            raise ValueError(f"priors must be {log_prob.shape[1]} numbers, one per class, got {len(log_prior)}")
        return log_prob + log_prior.to(log_prob)

    def posterior(self, x: Tensor) -> Tensor:
        """Posterior `y_gen` of all classes, `(B, *) -> (B, C)`; the prior where the densities say nothing."""
        with torch.no_grad():
            y_gen = self._posterior(x)
            prior = self._log_prior()
            fallback = y_gen.new_full((), 1 / y_gen.shape[1]) if prior is None else prior.softmax(-1)
            return torch.where(y_gen.sum(-1, keepdim=True).isnan(), fallback.to(y_gen), y_gen)

    @property
    def wants_parents(self) -> bool:
        """Whether `relabel` asks for the parents of mixed rows."""
        return self.leave_parents_out or isinstance(self.density, CrossFit)

    @torch.no_grad()
    def relabel(
        self, x: Tensor, y_mix: Tensor, gamma: float | Tensor | None = None, parents: Parents | None = None
    ) -> Tensor:
        """Blend `y_mix` with the posterior at `x`, `(B, *), (B, C) -> (B, C)`.

        Args:
            x: Mixed inputs, shape `(B, *)`.
            y_mix: Mixed labels, shape `(B, C)`; the result has their dtype, and float32 for half precision.
            gamma: Overrides the constructor's for this batch; a float or shape `(B,)`.
            parents: The rows that each was made of, which are left out if the options say so.

        Raises:
            ValueError: If `y_mix` has another number of classes than the densities, gamma lies outside [0, 1], or
                parents are wanted and not given.
        """
        gamma = self.gamma if gamma is None else gamma
        _check_gamma(gamma)
        y_mix = y_mix.to(torch.promote_types(y_mix.dtype, torch.float32))
        if not isinstance(gamma, Tensor) and gamma == 0:
            return y_mix
        wants_parents = self.wants_parents
        if wants_parents and parents is None:
            raise ValueError(
                "leave_parents_out and cross_fit need relabel(x, y_mix, parents=Parents(...)), got no parents"
            )
        y_gen = self._posterior(x, parents if wants_parents else None)
        if y_gen.shape != y_mix.shape:
            raise ValueError(
                f"y_mix must have shape {tuple(y_gen.shape)} (rows of x, classes seen in fit), got {tuple(y_mix.shape)}"
            )
        silent = y_gen.sum(-1, keepdim=True).isnan()  # (B, 1)
        n_fallback = self.n_fallback_
        if n_fallback.device != silent.device:  # a density fitted elsewhere
            self.n_fallback_ = n_fallback = n_fallback.to(silent.device)
        n_fallback += silent.count_nonzero()
        y_gen = torch.where(silent, y_mix, y_gen.to(y_mix.dtype))
        return y_gen if not isinstance(gamma, Tensor) and gamma == 1 else blend(y_mix, y_gen, gamma)

    def _posterior(self, x: Tensor, parents: Parents | None = None) -> Tensor:
        """Posterior `(B, C)`; NaN in rows on which the densities say nothing."""
        check_tensor("x", x)
        with full_precision(x):
            score = self.density.log_prob(x) if parents is None else self.density.log_prob_without(x, parents)
            certainty = getattr(self.density, "temperature_", None)
            score = score if certainty is None else score / certainty  # the marginal that `log_prob` keeps cancels
            return class_posterior(self._with_prior(score), top_k=self.top_k, temperature=self.temperature)

    def _log_prior(self) -> Tensor | None:
        if self.prior is not None:
            return self.prior.log()
        if self.priors == "uniform":
            return None
        count: Tensor | None = getattr(self.density, "class_count_", None)
        if count is None:
            raise ValueError(f"priors='empirical' needs the class_count_ of a fitted density, got {self.density!r}")
        return (count / count.sum()).log()

    def extra_repr(self) -> str:
        """Options of the relabeler, as `repr` shows them."""
        parents = ", leave_parents_out=True" if self.leave_parents_out else ""
        shown = f"gamma={self.gamma}, priors={self.priors!r}, top_k={self.top_k}, temperature={self.temperature}"
        return shown + parents


def _check_gamma(gamma: float | Tensor) -> None:
    if not isinstance(gamma, Tensor):
        check_number("gamma", gamma, 0, 1)


def _as_prior(priors: Any) -> Tensor | None:
    """Priors given as numbers, normalized to sum to one."""
    if isinstance(priors, str):
        if priors not in ("uniform", "empirical"):
            raise ValueError(f"priors must be 'uniform', 'empirical' or one number per class, got {priors!r}")
        return None
    try:
        prior = torch.as_tensor(priors, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # what numbers cannot be made of
        prior = torch.empty(())
    if prior.ndim != 1 or not bool((prior >= 0).all()) or not 0 < float(prior.sum()) < torch.inf:
        raise ValueError(f"priors must be non-negative numbers, one per class, got {priors!r}")
    return prior / prior.sum()


def n_classes_of(relabeler: Any) -> int:
    """Number of classes of a fitted density, or of a relabeler's.

    Raises:
        ValueError: If it is not known.
    """
    for model in (relabeler, getattr(relabeler, "density", None)):
        n_classes = getattr(model, "n_classes", None)
        if n_classes is not None:
            return int(n_classes)
    raise ValueError(f"n_classes must be given, or the relabeler fitted, got {type(relabeler).__name__} without")
