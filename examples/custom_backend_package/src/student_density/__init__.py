"""A backend for genlabel-plugins: independent Student distributions, which far rows trouble little."""

from typing import Any

from torch import Tensor
from torch.distributions import Independent, StudentT

from genlabel_plugins import PerClass


class StudentDensity(PerClass):
    """Student's t around the median of each feature, one class at a time.

    Args:
        freedom: Degrees of freedom; few mean heavy tails.
    """

    def __init__(self, *, freedom: float = 4.0) -> None:
        super().__init__()
        self.freedom = freedom  # under its own name, so that `save` finds it

    def fit_class(self, x: Tensor) -> Any:
        """Density of one class, learnt from its rows `(N_c, D)`."""
        loc = x.median(0).values
        spread = 1.4826 * (x - loc).abs().median(0).values  # that of a Gaussian
        least = 1e-6 * x.abs().amax() + 1e-12  # a constant feature has no spread
        return Independent(StudentT(self.freedom, loc, spread.clamp(min=least)), 1)
