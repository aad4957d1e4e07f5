"""PerClass: lifts the density of a single class to all classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from genlabel_plugins.densities.density import Density

MASS_ERROR = 0.02  # of an integral over one feature, from which on a density is said not to be normalized
N_GRID = 40_000  # points of that integral


class PerClass(Density):
    """Class-conditional densities from any density of one class, fitted once per class.

    What may describe one class: a `torch.distributions.Distribution` over whole rows, any object with
    `log_prob(x) -> (B,)` (an `nn.Module` becomes a submodule), and any scikit-learn estimator with
    `score_samples`. Subclass and define `fit_class`, or pass the same as an argument. Rows arrive as they are,
    not centered, since a foreign density may have a bounded support; outside of it the log-density is minus infinity.

    The learnt state is the training rows and a seed: on another device or dtype, or from a state dict, the class
    densities are fitted again from them, so that `fit_class` must have one answer for the same rows and global torch
    seed. Scoring costs one call per class; a scikit-learn estimator is scored on the CPU.

    A scikit-learn score of one feature that is no normalized density, which would weigh classes against each other, is
    warned of.

    Args:
        density: Function from the rows of a class, `(N_c, D)`, to its fitted density, or an unfitted object with
            `fit(x)`, of which each class fits a copy.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
        >>> normal = PerClass(lambda rows: Independent(Normal(rows.mean(0), rows.std(0)), 1))
        >>> normal.fit(x, torch.tensor([0, 0, 1, 1])).log_prob(x[:1])
        tensor([[ -1.5155, -31.5155]])
    """

    compilable: ClassVar[bool] = False

    rows_: Tensor  # (N, D), sorted by class
    seed_: Tensor  # (), of what fit_class draws
    class_densities: list[Any]  # of the classes with rows

    def __init__(self, density: Any = None) -> None:
        super().__init__()
        self.density = density
        self._declare("rows_", "seed_")

    def fit_class(self, x: Tensor) -> Any:
        """Density of one class, learnt from its rows `(N_c, D)`."""
        if hasattr(self.density, "fit"):
            return self._fit_copy(self.density, x)
        if callable(self.density):
            return self.density(x)
        raise NotImplementedError(f"{type(self).__name__} must define fit_class or be given a density")

    def _origin(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[1])

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        self.rows_ = x[target.argsort(stable=True)]
        self.seed_ = torch.randint(2**31, (), generator=generator)
        self._build()
        if self.normalized and x.shape[1] == 1:
            self._check_mass()

    def _check_mass(self) -> None:
        """Warn of densities of one feature that do not integrate to one: classes are compared by them."""
        counts = self.class_count_[self.present_].tolist()
        for i, (density, rows) in enumerate(zip(self.class_densities, self.rows_.split(counts), strict=True)):
            if isinstance(density, Distribution) or not bool((rows > rows.min()).any()):
                continue
            mass = _mass(density, rows)
            if not abs(mass - 1) < MASS_ERROR:
                warnings.warn(
                    f"the density of class {int(self.present_[i])} by {type(density).__name__} integrates to "
                    f"{mass:.2f} over its one feature, not to 1, which weighs it against other classes: set "
                    "normalized = False if that is meant",
                    stacklevel=2,
                )
                return

    def _build(self) -> None:
        self.class_densities = []
        self.submodules = nn.ModuleList()
        if self.rows_ is None:
            return
        counts = self.class_count_[self.present_].tolist()
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(int(self.seed_))
            self.class_densities = [self.fit_class(rows) for rows in self.rows_.split(counts)]
        self.submodules.extend(density for density in self.class_densities if isinstance(density, nn.Module))
        self.submodules.requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = self.rows_
        super()._apply(fn, recurse)
        if before is not None and (before.device, before.dtype) != (self.rows_.device, self.rows_.dtype):
            self._build()
        return self

    def _log_prob(self, x: Tensor) -> Tensor:
        finite = torch.isfinite(x).all(1)  # foreign densities refuse NaN with an error of their own
        x = torch.where(finite[:, None], x, self.rows_[0])
        some_rows = self.rows_[self.class_count_[self.present_].cumsum(0) - 1]  # (K, D), one of each class
        columns = [_log_prob_of(*pair, x) for pair in zip(self.class_densities, some_rows, strict=True)]
        return torch.stack(columns, 1).to(x.dtype).masked_fill(~finite[:, None], torch.nan)

    def _fit_copy(self, density: Any, x: Tensor) -> Any:
        from sklearn.base import clone  # noqa: PLC0415 - it takes longer to import than torch

        copied = clone(density, safe=False)
        if not hasattr(copied, "score_samples"):
            return copied.fit(x) or copied
        if "random_state" in copied.get_params():
            copied.set_params(random_state=int(self.seed_))
        return copied.fit(x.double().cpu().numpy())


def _mass(density: Any, rows: Tensor) -> float:
    """Integral of a density over one feature, by a grid that is fine around the rows `(N, 1)` and reaches far."""
    center = rows[:, 0].double().sort().values
    center = center[torch.linspace(0, len(center) - 1, min(len(center), 200), device=center.device).long()]
    n_steps = N_GRID // len(center) // 2
    step = (center[-1] - center[0]) * torch.logspace(-6, 3, n_steps, dtype=torch.float64, device=center.device)
    grid = (center[:, None] + torch.cat([-step, step.new_zeros(1), step])).flatten().unique().to(rows.dtype).unique()
    density_at = torch.cat([_log_prob_of(density, rows[0], part[:, None]) for part in grid.split(8192)]).double().exp()
    return float(torch.trapezoid(density_at, grid.double()))


def _log_prob_of(density: Any, inner: Tensor, x: Tensor) -> Tensor:
    """Log-density of one class at finite rows, `(B, D) -> (B,)`, with a row `(D,)` inside its support.

    The one place where rows leave torch.
    """
    if isinstance(density, Distribution):
        inside = density.support.check(x)  # type: ignore[union-attr]
        inside = inside if inside.ndim == 1 else inside.flatten(1).all(1)
        log_prob = density.log_prob(torch.where(inside[:, None], x, inner))
        log_prob = log_prob.masked_fill(~inside, -torch.inf) if log_prob.ndim == 1 else log_prob
    elif hasattr(density, "log_prob"):
        log_prob = density.log_prob(x)
    else:
        log_prob = torch.as_tensor(density.score_samples(x.double().cpu().numpy()), device=x.device)
    if log_prob.shape != (len(x),):
        raise ValueError(
            f"the density of a class must be one of whole rows: log_prob must have shape ({len(x)},), "
            f"got {tuple(log_prob.shape)}; wrap a torch distribution in Independent(..., 1)"
        )
    return log_prob
