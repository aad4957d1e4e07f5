"""`power_marginals`: any density, of columns that a power transform has made symmetric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.registry import make_backend

MOST = 3.0  # distance of a power from 1: beyond, far-away values leave the range of float32


class PowerMarginals(Density):
    r"""Density of skewed columns, :math:`p_c(x) = q_c(\psi(x)) \prod_d \psi_d'(x_d)`, one :math:`\psi` for all classes.

    Each column is measured from its median in units of its mean absolute deviation, then by the transform of Yeo and
    Johnson, of the power that makes all its rows most like a Gaussian. It is monotone and the same for every class, so
    that it cancels in the posterior but for what q makes of rows without skew.

    Args:
        of: Density of the transformed rows, a registered name or an object with `fit` and `log_prob`.
        of_params: Parameters that go with its name.

    Attributes:
        power_: Power of each column, shape `(D,)`; 1 leaves it as it is.

    Example:
        >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).exp()
        >>> density = PowerMarginals().fit(x, (x[:, 0] > 1).long())
        >>> bool(density.power_ < 0.5)
        True

    Reference:
        Yeo and Johnson, A new family of power transformations to improve normality or symmetry, 2000.
    """

    normalized = False  # a power below 0 or above 2 leaves out what q says of values that no row can take

    median_: Tensor  # (D,), of centered rows
    unit_: Tensor  # (D,)
    power_: Tensor  # (D,)

    def __init__(self, *, of: Any = "gm", of_params: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.of = of
        self.of_params = of_params
        self.density = make_backend(of, **(of_params or {}))
        for claim in ("exact", "compilable"):
            setattr(self, claim, getattr(self.density, claim, False))
        # A column in which one class lies far away is bent between the classes.
        self.declines = frozenset({"far_class"}) | getattr(self.density, "declines", frozenset())  # type: ignore[misc]
        self._declare("median_", "unit_", "power_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        from sklearn.preprocessing import PowerTransformer  # noqa: PLC0415 - it takes longer to import than torch

        self.median_ = x.median(0).values
        deviation = (x - self.median_).abs().mean(0)
        self.unit_ = torch.where(deviation > 0, deviation, 1.0)
        z = ((x - self.median_) / self.unit_).double()
        varies = (deviation > 0).cpu()
        self.power_ = torch.ones_like(self.unit_)
        if bool(varies.any()):
            found = PowerTransformer(standardize=False).fit(z.cpu().numpy()[:, varies.numpy()]).lambdas_
            self.power_[varies.to(x.device)] = torch.as_tensor(found).to(x).clamp(1 - MOST, 1 + MOST)
        rows, _ = self._transformed(x)
        options = {"generator": generator} if isinstance(self.density, Density) else {}
        self.density.fit(rows, target, **options)

    def _transformed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by the transform, `(B, D)`, and the logarithm of its derivative, `(B, 1)`."""
        z = (x - self.median_) / self.unit_
        power = torch.where(z >= 0, self.power_, 2 - self.power_)
        length = z.abs().log1p()
        flat = power.abs() < 1e-6  # where the power is a logarithm
        stretched = torch.where(flat, length, (power * length).expm1() / power.masked_fill(flat, 1.0))
        log_slope = ((power - 1) * length - self.unit_.log()).sum(1, keepdim=True)
        return stretched.copysign(z), log_slope

    def _log_prob(self, x: Tensor) -> Tensor:
        rows, log_slope = self._transformed(x)
        log_prob: Tensor = self.density.log_prob(rows)
        return log_prob + log_slope

    @property
    def temperature_(self) -> Tensor | None:
        """What the density of the transformed rows says of its certainty."""
        temperature: Tensor | None = getattr(self.density, "temperature_", None)
        return temperature

    @property
    def leaves_parents_out(self) -> bool:
        """Whether the density of the transformed rows can leave rows out."""
        return bool(getattr(self.density, "leaves_parents_out", False))

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        rows, log_slope = self._transformed(x)
        x_i, x_j = (self._transformed(part)[0] for part in (parents.x_i, parents.x_j))
        without = parents._replace(x_i=x_i, x_j=x_j)
        log_prob: Tensor = self.density.log_prob_without(rows, without)
        return log_prob + log_slope
