"""Units near the ends of float32: what no unit changes must not change, and single numbers far out cost no error."""

import math

import pytest
import torch

from genlabel_plugins import GenLabel, make_backend

TARGET = torch.arange(90) % 3
X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + 3 * TARGET[:, None]
BACKENDS = {
    "gm": {},
    "kde": {},
    "nn": {},
    "flow": {"max_epochs": 2},
    "vae": {"max_epochs": 2},
    "gan": {"max_epochs": 2, "n_steps": 2},
    "mixed_types": {},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*classes have fewer than")


@pytest.mark.parametrize("exponent", [-100, 100])
@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"gan"}))
def test_densities_scale_with_the_unit(name, exponent):
    density = make_backend(name, **BACKENDS[name]).fit(X, TARGET)
    scaled = make_backend(name, **BACKENDS[name]).fit(math.ldexp(1.0, exponent) * X, TARGET)
    expected = density.log_prob(X) - X.shape[1] * exponent * math.log(2)
    torch.testing.assert_close(scaled.log_prob(math.ldexp(1.0, exponent) * X), expected, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("exponent", [-400, 400])
@pytest.mark.parametrize(
    ("name", "options"), [("gm", {}), ("gm", {"covariance_type": "diag"}), ("gm", {"n_components": 2}), ("kde", {})]
)
def test_fourth_powers_may_leave_float64(name, options, exponent):
    unit, x = math.ldexp(1.0, exponent), X.double()
    density = make_backend(name, **options).fit(x, TARGET)
    scaled = make_backend(name, **options).fit(unit * x, TARGET)
    expected = density.log_prob(x) - x.shape[1] * exponent * math.log(2)
    torch.testing.assert_close(scaled.log_prob(unit * x), expected, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("exponent", [-100, 100])
def test_distances_from_a_manifold_scale_with_the_unit(exponent):
    unit = math.ldexp(1.0, exponent)
    density = make_backend("gan", **BACKENDS["gan"]).fit(X, TARGET)
    scaled = make_backend("gan", **BACKENDS["gan"]).fit(unit * X, TARGET)
    torch.testing.assert_close(scaled.distance(unit * X) / unit, density.distance(X), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    "name", [pytest.param("gan", marks=pytest.mark.newer_torch(2, 14)), *sorted(BACKENDS.keys() - {"gan"})]
)
def test_one_far_entry_one_far_row_and_a_column_that_is_tiny_once_cost_no_error(name):
    entry, row, column = X.clone(), X.clone(), X.clone()
    entry[5, 2] = 1e30
    row[5] = 1e30
    column[:, 1] = 0
    column[5, 1] = 1e-30
    for x in (entry, row, column):
        genlabel = GenLabel(make_backend(name, **BACKENDS[name])).fit(x, TARGET)
        assert torch.isfinite(genlabel.log_prob(x)).all()
        posterior = genlabel.posterior(x)
        torch.testing.assert_close(posterior.sum(1), torch.ones(90))
    assert (posterior.argmax(1) == TARGET).float().mean() > 0.8  # the tiny column is left aside
