"""Label policies against formulas."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import multivariate_normal
from sklearn.neighbors import KNeighborsClassifier

from genlabel_plugins import (
    GenLabel,
    GenLabelMix,
    LogisticLabel,
    Mixup,
    NearestLabel,
    PosteriorLabel,
    linear_label,
    make_backend,
)


@pytest.fixture
def clusters():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(90) % 3
    x = torch.randn(90, 2, dtype=torch.float64, generator=generator) + 2.0 * target[:, None]
    return x, target


@pytest.fixture
def mixed(clusters):
    return Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(1))(*clusters)


def test_linear_is_the_mixed_label(mixed):
    eye = np.eye(3)
    lam = mixed.lam.numpy()[:, None]
    np.testing.assert_allclose(linear_label(mixed), lam * eye[mixed.target_i] + (1 - lam) * eye[mixed.target_j])


@pytest.mark.parametrize("sigma", [0.025, 0.3])
def test_logistic_is_the_published_formula(mixed, sigma):
    eye = np.eye(3)
    rho = expit((mixed.lam.numpy()[:, None] - 0.5) / sigma)
    expected = rho * eye[mixed.target_i] + (1 - rho) * eye[mixed.target_j]
    np.testing.assert_allclose(LogisticLabel(sigma)(mixed), expected, atol=1e-12)


def test_nearest_is_one_nearest_neighbor(clusters, mixed):
    x, target = clusters
    expected = KNeighborsClassifier(1).fit(x.numpy(), target.numpy()).predict_proba(mixed.x.numpy())
    assert np.array_equal(NearestLabel(x, target)(mixed).numpy(), expected)


@pytest.mark.parametrize(("gamma", "top_k"), [(0.0, None), (0.3, None), (1.0, None), (1.0, 2)])
def test_posterior_is_bayes_rule(clusters, mixed, gamma, top_k):
    x, target = (rows.numpy() for rows in clusters)
    genlabel = GenLabel(make_backend("gm", shrinkage=0, reg_covar=0), gamma=gamma, top_k=top_k).fit(*clusters)
    y = PosteriorLabel(genlabel)(mixed)
    likelihood = np.stack(
        [
            multivariate_normal(x[target == c].mean(0), np.cov(x[target == c].T, ddof=0)).pdf(mixed.x.numpy())
            for c in range(3)
        ],
        axis=1,
    )
    if top_k is not None:
        likelihood[np.arange(len(likelihood)), likelihood.argmin(1)] = 0  # the third of three classes
    expected = gamma * likelihood / likelihood.sum(1, keepdims=True) + (1 - gamma) * mixed.y_mix.numpy()
    np.testing.assert_allclose(y[mixed.is_mixed], expected[mixed.is_mixed], atol=1e-9)
    assert torch.equal(y[~mixed.is_mixed], mixed.y_mix[~mixed.is_mixed])  # a row that is its own partner
    if top_k is not None:
        assert ((y > 0).sum(1) <= 2).all()
    if gamma == 0:
        assert torch.equal(y, mixed.y_mix)  # plain mixup, bit for bit


def test_posterior_sees_embedded_inputs_without_gradient(clusters):
    x, target = clusters
    features = torch.nn.Linear(2, 5).double()
    genlabel = GenLabel("gm").fit(features(x).detach(), target)
    _, y = GenLabelMix(genlabel, embed=features)(x, target)
    assert y.shape == (90, 3)
    assert not y.requires_grad


def test_logistic_is_the_posterior_between_two_gaussians():
    # At the means of two Gaussians with covariance s^2 I, the log-ratio along the segment is linear in lam:
    # (2 lam - 1) |m|^2 / (2 s^2) for distance |m|, so sigma = s^2 / |m|^2.
    means = torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
    variance = 0.4
    lam = torch.linspace(0.01, 0.99, 11, dtype=torch.float64)  # a row that is not mixed keeps its label

    class Means(torch.nn.Module):
        def fit(self, x, target):
            return self

        def log_prob(self, x):
            return -torch.cdist(x, means).square() / (2 * variance)

    pair = Mixup(2, pairing="flip")(means, torch.tensor([0, 1]))
    x_mix = lam[:, None] * means[0] + (1 - lam[:, None]) * means[1]
    sigma = variance / (means[0] - means[1]).square().sum().item()
    rows = {"target_i": torch.zeros(11).long(), "target_j": torch.ones(11).long(), "partner": torch.arange(11).flip(0)}
    rows["partner"][5] = 0
    along = type(pair)(x=x_mix, lam=lam, y_mix=torch.stack([lam, 1 - lam], 1), **rows)
    torch.testing.assert_close(LogisticLabel(sigma)(along), PosteriorLabel(GenLabel(Means(), gamma=1.0))(along))


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        LogisticLabel(0)
    with pytest.raises(TypeError, match="relabel"):
        PosteriorLabel("gm")
