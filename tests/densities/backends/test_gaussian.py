"""Gaussian densities against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.mixture import GaussianMixture as SklearnMixture

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities._moments import class_moments


def wine(dtype=torch.float64):
    features, labels = load_wine(return_X_y=True)
    return torch.from_numpy(features).to(dtype), torch.from_numpy(labels)


def blobs(n_features, n_classes=5, n_per_class=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(n_classes).repeat_interleave(n_per_class)
    x = torch.randn(len(target), n_features, generator=generator, dtype=torch.float64)
    mixing = torch.randn(n_classes, n_features, n_features, generator=generator, dtype=torch.float64) / n_features**0.5
    mixing += torch.eye(n_features, dtype=torch.float64)
    x = torch.einsum("nd,nde->ne", x, mixing[target])
    return x + torch.randn(n_classes, n_features, generator=generator, dtype=torch.float64)[target], target


def between(x, n=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.randint(len(x), (2, n), generator=generator)
    return 0.7 * x[i] + 0.3 * x[j]


def class_covariance(rows, pooled, kind, reg_covar):
    spread = pooled if kind == "tied" else np.cov(rows.T, bias=True)
    if kind == "spherical":
        return (1 + reg_covar) * np.diag(spread).mean() * np.eye(len(spread))
    floor = reg_covar * np.diag(np.diag(spread))
    return floor + (np.diag(np.diag(spread)) if kind == "diag" else spread)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_log_density_equals_scipy(kind):
    x, target = wine()
    query = between(x)
    classes = [x[target == c].numpy() for c in range(3)]
    pooled = sum(len(rows) * np.cov(rows.T, bias=True) for rows in classes) / len(x)
    expected = [
        multivariate_normal(rows.mean(0), class_covariance(rows, pooled, kind, 1e-4)).logpdf(query.numpy())
        for rows in classes
    ]
    gm = make_backend("gm", covariance_type=kind, shrinkage=0.0, reg_covar=1e-4)
    log_prob = gm.fit(x, target).log_prob(query)
    np.testing.assert_allclose(log_prob, np.stack(expected, 1), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_on_a_tidy_table_the_default_is_the_maximum_likelihood_estimate(kind):
    x, target = blobs(6)
    query = between(x)
    classes = [x[target == c].numpy() for c in range(5)]
    pooled = sum(len(rows) * np.cov(rows.T, bias=True) for rows in classes) / len(x)
    log_prob = make_backend("gm", covariance_type=kind).fit(x, target).log_prob(query)
    for c, rows in enumerate(classes):
        expected = multivariate_normal(rows.mean(0), class_covariance(rows, pooled, kind, 0.0)).logpdf(query.numpy())
        np.testing.assert_allclose(log_prob[:, c], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_features", [1, 2, 40, 64, 100, 300])
def test_every_number_of_blocks_gives_the_same_squares(n_features):
    x, target = blobs(n_features, n_classes=2, n_per_class=400)
    query = between(x, 16)
    log_prob = make_backend("gm", shrinkage=0.0, reg_covar=0.0).fit(x, target).log_prob(query)
    for c in range(2):
        rows = x[target == c].numpy()
        expected = multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True)).logpdf(query.numpy())
        np.testing.assert_allclose(log_prob[:, c], expected, rtol=1e-7)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_mixtures_equal_scikit_learn(kind):
    x, target = blobs(4, n_classes=3)
    query = between(x)
    gm = make_backend("gm", n_components=3, covariance_type=kind, reg_covar=1e-4).fit(
        x, target, generator=torch.Generator().manual_seed(3)
    )
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(3)))
    for c in range(3):
        rows = x[target == c]
        unit = rows.std(0, correction=0)
        if kind == "spherical":
            unit = unit.square().mean().sqrt().expand_as(unit)
        unit = unit * (1 + 1e-4) ** 0.5
        mixture = SklearnMixture(3, covariance_type=kind, reg_covar=1e-4, random_state=seed)
        mixture.fit(((rows - rows.mean(0)) / unit).numpy())
        expected = mixture.score_samples(((query - rows.mean(0)) / unit).numpy()) - float(unit.log().sum())
        np.testing.assert_allclose(gm.log_prob(query)[:, c], expected, rtol=1e-8, atol=1e-8)


def test_bic_finds_the_number_of_components():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=generator, dtype=torch.float64)
    x[:200] += 20
    x[200:400] -= 20
    gm = make_backend("gm", n_components="bic").fit(x, torch.zeros(600, dtype=torch.long))
    assert gm.log_norm_.shape == (1, 3)


def test_posterior_equals_the_published_formula():
    features, labels = load_wine(return_X_y=True)
    features = (features - features.mean(0)) / features.std(0)
    x, target = torch.from_numpy(features), torch.from_numpy(labels)
    query = between(x)
    density = [
        multivariate_normal.pdf(query.numpy(), rows.mean(0), class_covariance(rows, None, "full", 1e-4))
        for rows in (features[labels == c] for c in range(3))
    ]
    p = torch.from_numpy(np.stack(density, 1))
    posterior = GenLabel(make_backend("gm", shrinkage=0.0, reg_covar=1e-4)).fit(x, target).posterior(query)
    torch.testing.assert_close(posterior, p / p.sum(1, keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_float32_labels_are_those_of_float64(kind, load):
    features, labels = load(return_X_y=True)
    x, target = torch.from_numpy(features).float(), torch.from_numpy(labels)
    query = between(x, 256)
    exact = GenLabel(make_backend("gm", covariance_type=kind)).fit(x.double(), target).posterior(query.double())
    rounded = GenLabel(make_backend("gm", covariance_type=kind)).fit(x, target).posterior(query)
    assert (rounded.double() - exact).abs().max() < 1e-5


def test_the_shrunk_covariance_is_regular_with_fewer_rows_than_features():
    x, target = blobs(30, n_classes=3, n_per_class=10)
    log_prob = make_backend("gm", shrinkage="ledoit_wolf", reg_covar=0.0).fit(x, target).log_prob(x)
    assert torch.isfinite(log_prob).all()
    with pytest.warns(UserWarning, match="no more rows than the 30 features"):
        make_backend("gm").fit(x, target)


def test_a_singular_covariance_is_refused():
    x, target = blobs(30, n_classes=3, n_per_class=10)
    with pytest.warns(UserWarning, match="no more rows"), pytest.raises(ValueError, match="raise reg_covar"):
        make_backend("gm", shrinkage=0.0, reg_covar=0.0).fit(torch.cat([x, x[:, :1]], 1), target)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_compiles_without_a_graph_break(kind):
    x, target = blobs(3)
    gm = make_backend("gm", covariance_type=kind).fit(x, target)
    compiled = torch.compile(gm.log_prob, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x[:8]), gm.log_prob(x[:8]))


def test_moments_of_many_blocks_are_those_of_one(monkeypatch):
    x, target = blobs(6)
    whole = class_moments(x, target, 5)
    monkeypatch.setattr("genlabel_plugins.densities._moments.CHUNK_ROWS", 7)
    for found, expected in zip(class_moments(x, target, 5), whole, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"covariance_type": "fill"}, "covariance_type must be one of .*'tied'.* got 'fill'"),
        ({"n_components": 0}, "n_components must be .* got 0"),
        ({"shrinkage": 2.0}, "shrinkage must be .* got 2.0"),
        ({"max_components": 0}, "max_components must be at least 1, got 0"),
        ({"reg_covar": -1.0}, "reg_covar must not be negative, got -1.0"),
        ({"covariance_type": "tied", "n_components": 2}, "goes with n_components=1"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        make_backend("gm", **option)
