"""The density of mixed types against scikit-learn, scipy and sums over all categories."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.naive_bayes import CategoricalNB

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows

CARDINALITY = [3, 2]


@pytest.fixture
def table():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(60) % 3
    continuous = torch.randn(60, 1, generator=generator, dtype=torch.float64) + target[:, None]
    codes = torch.stack([torch.randint(v, (60,), generator=generator) for v in CARDINALITY], 1)
    codes[:, 0] = torch.where(target == 0, 0, codes[:, 0])  # a category that class 0 never takes otherwise
    return continuous, codes, target


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_categories_are_those_of_scikit_learn(table, smoothing):
    _, codes, target = table
    rows = encode_rows(None, codes, CARDINALITY)
    density = MixedTypes(cardinality=CARDINALITY, smoothing=smoothing).fit(rows, target)
    oracle = CategoricalNB(alpha=smoothing, min_categories=CARDINALITY, fit_prior=False).fit(codes, target)
    expected = oracle.predict_joint_log_proba(codes) + np.log(3)
    np.testing.assert_allclose(density.log_prob(rows), expected, rtol=1e-5)


def test_columns_are_independent_within_a_class(table):
    continuous, codes, target = table
    rows = encode_rows(continuous, codes, CARDINALITY)
    density = MixedTypes(cardinality=CARDINALITY, continuous_params={"shrinkage": 0.0, "reg_covar": 0.0}).fit(
        rows, target
    )
    categorical = CategoricalNB(alpha=1.0, min_categories=CARDINALITY, fit_prior=False).fit(codes, target)
    of_class = [continuous[target == c].numpy() for c in range(3)]
    gaussian = np.concatenate([norm(part.mean(), part.std()).logpdf(continuous) for part in of_class], 1)
    expected = gaussian + categorical.predict_joint_log_proba(codes) + np.log(3)
    np.testing.assert_allclose(density.log_prob(rows), expected, rtol=1e-9)


def test_sums_to_one_over_all_categories(table):
    _, codes, target = table
    density = MixedTypes(cardinality=CARDINALITY).fit(encode_rows(None, codes, CARDINALITY).double(), target)
    everything = torch.tensor(list(itertools.product(range(3), range(2))))
    total = density.log_prob(encode_rows(None, everything, CARDINALITY).double()).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(3, dtype=torch.float64))


def test_mixed_indicators_lie_between(table):
    continuous, codes, target = table
    rows = encode_rows(torch.zeros_like(continuous), codes, CARDINALITY)
    density = MixedTypes(cardinality=CARDINALITY).fit(encode_rows(continuous, codes, CARDINALITY), target)
    mixed = 0.3 * rows + 0.7 * rows.flip(0)
    expected = 0.3 * density.log_prob(rows) + 0.7 * density.log_prob(rows.flip(0))
    torch.testing.assert_close(density.log_prob(mixed), expected)


def test_without_categories_it_is_the_backend(table):
    continuous, _, target = table
    expected = make_backend("gm").fit(continuous, target).log_prob(continuous)
    torch.testing.assert_close(make_backend("mixed_types").fit(continuous, target).log_prob(continuous), expected)


@pytest.mark.parametrize("continuous", ["gm", "kde"])
def test_columns_that_say_the_same_are_toned_down(continuous):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 2
    code = torch.where(torch.rand(400, generator=generator) < 0.8, target, 1 - target)[:, None]
    number = torch.randn(400, 1, generator=generator)
    posterior = {}
    for n_copies in (1, 8):
        density = MixedTypes(cardinality=[2] * n_copies, continuous=continuous)
        rows = encode_rows(number, code.repeat(1, n_copies), [2] * n_copies)
        genlabel = GenLabel(density, gamma=1.0).fit(rows, target)
        assert density.temperature_ == pytest.approx(1.3**8 if n_copies == 8 else 1.0)  # 8.2, the nearest of its grid
        posterior[n_copies] = genlabel.posterior(rows)
    assert (posterior[8] - posterior[1]).abs().mean() < 0.03  # numbers that say nothing count for less, too
    plain = MixedTypes(cardinality=[2] * 8, continuous=continuous, continuous_params={"regularization": None})
    assert plain.fit(rows, target).temperature_ == 1


def test_the_temperature_of_another_backend_is_kept(table):
    continuous, codes, target = table
    rows = encode_rows(continuous, codes, CARDINALITY)

    class Toned(type(make_backend("nn"))):
        temperature_ = torch.tensor(3.0)

    assert MixedTypes(cardinality=CARDINALITY, continuous=Toned()).fit(rows, target).temperature_ == 3


def test_an_object_needs_fit_and_log_prob_alone(table):
    class Own:
        def __init__(self):
            self.density = make_backend("gm")

        def fit(self, x, target):
            self.density.fit(x, target)

        def log_prob(self, x):
            return self.density.log_prob(x)

    continuous, codes, target = table
    rows = encode_rows(continuous, codes, CARDINALITY)
    own, named = (MixedTypes(cardinality=CARDINALITY, continuous=each).fit(rows, target) for each in (Own(), "gm"))
    torch.testing.assert_close(own.log_prob(rows), named.log_prob(rows))


def test_refuses():
    with pytest.raises(ValueError, match="smoothing must be positive, got 0"):
        MixedTypes(smoothing=0)
    with pytest.raises(ValueError, match="x must have the 5 indicators of cardinality, got 2 columns"):
        MixedTypes(cardinality=CARDINALITY).fit(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]))


def test_it_claims_what_the_density_of_the_numbers_claims():
    assert MixedTypes().normalized
    assert not MixedTypes(continuous="nn").normalized
    assert not MixedTypes(continuous="vae").exact
    assert not MixedTypes(continuous="gan").compilable
