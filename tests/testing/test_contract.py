"""Every backend that is registered keeps the contract, the moment it is registered."""

from functools import partial
from unittest import SkipTest

import pytest
import torch
from torch.distributions import Independent, Laplace

from genlabel_plugins import PerClass, list_backends, make_backend
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_plugins.testing import check_relabeler, relabeler_checks

TRAINED = ("flow", "gan", "vae")
NEWER_TORCH = {("flow", "check_compiles"), ("gan", "check_class_permutation")}
CASES = [
    pytest.param(
        name,
        check,
        id=f"{name}-{check.__name__}",
        marks=[pytest.mark.slow] * (name in TRAINED)
        + [pytest.mark.newer_torch(2, 14)] * ((name, check.__name__) in NEWER_TORCH),
    )
    for name in list_backends()
    for check in relabeler_checks()
]
VARIANTS = {
    "gm tied": partial(GaussianMixture, covariance_type="tied"),
    "gm diag": partial(GaussianMixture, covariance_type="diag"),
    "gm spherical": partial(GaussianMixture, covariance_type="spherical"),
    "gm ledoit_wolf": partial(GaussianMixture, shrinkage="ledoit_wolf"),
    "PerClass": partial(PerClass, lambda rows: Independent(Laplace(rows.median(0).values, _spread(rows)), 1)),
}


@pytest.mark.parametrize(("name", "check"), CASES)
def test_every_backend_keeps_the_contract(name, check, cheap):
    check(partial(make_backend, name, **cheap(name)))


@pytest.mark.parametrize("check", relabeler_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_variants_keep_the_contract(make, check):
    check(make)


class Forgetful(GaussianMixture):
    """Breaks the contract: its second fit is another than its first."""

    def _fit(self, x, target, generator):
        super()._fit(x + (0.0 if self.log_norm_ is None else 1.0), target, generator)


class Noisy(GaussianMixture):
    """Breaks the contract: draws from the global generator."""

    def _log_prob(self, x):
        return super()._log_prob(x) + torch.rand(())


class Unnormalized(GaussianMixture):
    """Breaks its claim to integrate to one."""

    def _log_prob(self, x):
        return super()._log_prob(x) + 1


class Careless(GaussianMixture):
    """Breaks the contract: has an opinion on rows with NaN."""

    def _log_prob(self, x):
        return super()._log_prob(x.nan_to_num(0.0))


class Blurred(GaussianMixture):
    """Breaks its claim that a class far away changes nothing for the others: it knows less the farther that is."""

    normalized = False

    def __init__(self):
        super().__init__()
        self._declare("spread_")

    def _fit(self, x, target, generator):
        super()._fit(x, target, generator)
        self.spread_ = x.std(0).max() / (x[target == 0].std(0).max() + 1e-3 * x.std(0).max() + 1e-12)

    def _log_prob(self, x):
        return super()._log_prob(x) / (1 + self.spread_ / 100)


class Declining(GaussianMixture):
    """Says that it does not stand what it does not stand."""

    declines = frozenset({"far_class", "sentinel"})


def test_a_regime_is_declined_in_the_open():
    for check in relabeler_checks():
        if check.__name__.removeprefix("check_") in Declining.declines:
            with pytest.raises(SkipTest, match="declines the regime"):
                check(Declining)


@pytest.mark.parametrize("name", list_backends())
def test_only_regimes_that_exist_are_declined(name):
    assert make_backend(name).declines <= {check.__name__.removeprefix("check_") for check in relabeler_checks()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, "check_refit_equals_fit"),
        (Noisy, "check_shape_and_dtype"),
        (Unnormalized, "check_integrates_to_one"),
        (Careless, "check_row_without_a_density_keeps_its_label"),
        (Blurred, "check_far_class"),
    ],
)
def test_a_broken_backend_is_named_by_the_check_it_breaks(broken, check):
    with pytest.raises(AssertionError) as error:
        check_relabeler(broken)
    assert check in error.value.__notes__[0]


def _spread(rows):
    """Mean absolute deviation with a floor, so that one row or a constant feature is no fault."""
    spread = (rows - rows.median(0).values).abs().mean(0)
    unit = spread.max().clamp(min=1e-12 * (1 + rows.abs().max()))
    return spread.clamp(min=float(1e-3 * unit))
