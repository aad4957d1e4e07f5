"""Kernel densities against scipy's gaussian_kde and slow loops."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal
from sklearn.datasets import load_wine

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities.backends import _tiles as tiles


def unequal_classes(sizes=(40, 300, 23, 90), n_features=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    stretch = torch.rand(len(sizes), n_features, generator=generator, dtype=torch.float64) + 0.5
    center = 2 * torch.randn(len(sizes), n_features, generator=generator, dtype=torch.float64)
    x = torch.randn(len(target), n_features, generator=generator, dtype=torch.float64) * stretch[target]
    order = torch.randperm(len(target), generator=generator)
    return (x + center[target]).to(dtype)[order], target[order]


def between(x, n=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.randint(len(x), (2, n), generator=generator)
    return 0.7 * x[i] + 0.3 * x[j]


def scipy_log_prob(x, target, query, bandwidth):
    rows = [x[target == c].numpy().T for c in range(int(target.max()) + 1)]
    return torch.from_numpy(np.stack([gaussian_kde(r, bandwidth).logpdf(query.numpy().T) for r in rows], 1))


@pytest.mark.parametrize("bandwidth", ["scott", "silverman", 0.1])
@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_log_density_equals_scipy(bandwidth, n_features):
    x, target = unequal_classes(n_features=n_features)
    query = between(x)
    kde = make_backend("kde", bandwidth=bandwidth, shrinkage=0.0, reg_covar=0.0).fit(x, target)
    torch.testing.assert_close(kde.log_prob(query), scipy_log_prob(x, target, query, bandwidth), rtol=1e-9, atol=1e-9)


def test_on_a_tidy_table_the_default_equals_scipy():
    x, target = unequal_classes((200, 120, 300))
    query = between(x)
    expected = scipy_log_prob(x, target, query, "scott")
    torch.testing.assert_close(
        make_backend("kde", regularization=None).fit(x, target).log_prob(query), expected, rtol=1e-6, atol=1e-6
    )


def test_posterior_equals_the_published_formula():
    features, labels = load_wine(return_X_y=True)
    x, target = torch.from_numpy((features - features.mean(0)) / features.std(0)), torch.from_numpy(labels)
    query = between(x)
    density = []
    for c in range(3):
        rows = x[target == c].numpy()
        spread = np.cov(rows.T)
        spread += 1e-8 * np.diag(np.diag(spread))
        kernel = multivariate_normal(np.zeros(13), len(rows) ** (-2 / 17) * spread)
        density.append(np.stack([kernel.pdf(q - rows).mean() for q in query.numpy()]))
    p = torch.from_numpy(np.stack(density, 1))
    expected = p / p.sum(1, keepdim=True)
    kde = make_backend("kde", shrinkage=0.0)
    torch.testing.assert_close(GenLabel(kde).fit(x, target).posterior(query), expected, rtol=0, atol=1e-6)


def test_float32_labels_are_those_of_float64():
    x, target = unequal_classes((500, 400, 300), n_features=10)
    query = between(x, 256)
    exact = GenLabel("kde").fit(x, target).posterior(query)
    rounded = GenLabel("kde").fit(x.float(), target).posterior(query.float())
    assert (rounded.double() - exact).abs().max() < 1e-5


def test_an_offset_changes_nothing():
    x, target = unequal_classes(dtype=torch.float32)
    shifted = x + 1e4  # rounds x, and both densities are fitted to the same rounded rows
    query = between(shifted)
    far = make_backend("kde").fit(shifted, target).log_prob(query)
    near = make_backend("kde").fit((shifted - 1e4).double(), target).log_prob(query.double() - 1e4)
    close = near > near.amax(1, keepdim=True) - 50
    assert (far - near)[close].abs().max() < 2e-4


def test_far_from_the_data_one_kernel_is_left():
    x, target = unequal_classes()
    query = 1e6 * torch.ones(1, 3, dtype=torch.float64)
    kde = make_backend("kde", shrinkage=0.0, reg_covar=0.0).fit(x, target)
    torch.testing.assert_close(kde.log_prob(query), scipy_log_prob(x, target, query, "scott"), rtol=1e-9, atol=0)
    assert torch.isfinite(make_backend("kde").fit(x.float(), target).log_prob(query.float())).all()


def test_density_integrates_to_one():
    x, target = unequal_classes(n_features=1)
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)[:, None]
    mass = make_backend("kde").fit(x, target).log_prob(grid).exp().sum(0) * 0.01
    torch.testing.assert_close(mass, torch.ones(4, dtype=torch.float64), rtol=1e-9, atol=0)


def test_a_class_with_few_rows_takes_the_pooled_covariance():
    x, target = unequal_classes((30, 1, 3, 40))
    within = sum((n - 1) * np.cov(x[target == c].numpy().T) for c, n in ((0, 30), (2, 3), (3, 40)))
    pooled = within / (30 + 3 + 40 - 3)
    query = between(x)
    log_prob = make_backend("kde", reg_covar=0.0).fit(x, target).log_prob(query)
    kernel = multivariate_normal(x[target == 1][0].numpy(), pooled)
    np.testing.assert_allclose(log_prob[:, 1], kernel.logpdf(query.numpy()), rtol=1e-9)
    width = 3 ** (-2 / 7)
    pull = (1 - width * (width - 0.5) / 0.45) ** 0.5  # kernels of almost the size of the class lie near its mean
    rows = x[target == 2]
    rows = rows.mean(0) + pull * (rows - rows.mean(0))
    kernels = [multivariate_normal(row.numpy(), width * pooled).pdf(query.numpy()) for row in rows]
    np.testing.assert_allclose(log_prob[:, 2], np.log(np.mean(kernels, 0)), rtol=1e-9)


def test_a_constant_column_leaves_the_posterior_alone():
    x, target = unequal_classes()
    query = between(x)
    constant = torch.cat([x, x.new_full((len(x), 1), 7.0)], 1)
    kde = GenLabel(make_backend("kde", bandwidth=0.4))
    expected = kde.fit(x, target).posterior(query)
    posterior = kde.fit(constant, target).posterior(torch.cat([query, query.new_full((len(query), 1), 7.0)], 1))
    torch.testing.assert_close(posterior, expected)


def test_cross_validated_bandwidth_is_the_most_likely_of_the_left_out_rows():
    x, target = unequal_classes((60, 45), n_features=2)
    kde = make_backend("kde", bandwidth="cv", shrinkage=0.0, reg_covar=0.0).fit(x, target)
    for c in range(2):
        rows = x[target == c].numpy()
        spread, n = np.cov(rows.T), len(rows)

        def left_out(h, rows=rows, spread=spread, n=n):
            density = np.stack([multivariate_normal(row, h**2 * spread).pdf(rows) for row in rows])
            np.fill_diagonal(density, 0)
            with np.errstate(divide="ignore"):
                return np.log(density.sum(0) / (n - 1)).sum()

        grid = [n ** (-1 / 6) * 2 ** (step / 4 - 4) for step in range(21)]
        assert math.isclose(float(kde.bandwidth_[c]), max(grid, key=left_out), rel_tol=1e-9)


def test_many_classes_and_many_tiles_agree_with_scipy(monkeypatch):
    monkeypatch.setattr(tiles, "MAX_WIDTH", 16)
    monkeypatch.setattr(tiles, "CHUNK_ELEMENTS", 4096)
    x, target = unequal_classes([4 + c % 60 for c in range(100)], n_features=2)
    query = between(x)
    log_prob = make_backend("kde", shrinkage=0.0, reg_covar=0.0).fit(x, target).log_prob(query)
    torch.testing.assert_close(log_prob, scipy_log_prob(x, target, query, "scott"), rtol=1e-9, atol=1e-9)


def test_large_batches_are_scored_in_parts():
    x, target = unequal_classes()
    query = between(x, 2500)
    kde = make_backend("kde").fit(x, target)
    torch.testing.assert_close(kde.log_prob(query), torch.cat([kde.log_prob(part) for part in query.split(100)]))


@pytest.mark.slow
def test_compiles_without_a_graph_break():
    x, target = unequal_classes()
    kde = make_backend("kde").fit(x, target)
    compiled = torch.compile(kde.log_prob, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x[:64]), kde.log_prob(x[:64]))


def test_state_dict_round_trip():
    x, target = unequal_classes()
    kde = make_backend("kde").fit(x, target)
    loaded = make_backend("kde")
    loaded.load_state_dict(kde.state_dict())
    assert torch.equal(loaded.log_prob(x), kde.log_prob(x))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"bandwidth": "scot"}, "bandwidth must be .*'scott', 'silverman', 'cv'.*got 'scot'"),
        ({"bandwidth": 0.0}, "bandwidth must be .* got 0.0"),
        ({"reg_covar": -1.0}, "reg_covar must not be negative, got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        make_backend("kde", **option)


def test_a_singular_covariance_is_refused():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    with pytest.raises(ValueError, match="raise reg_covar"):
        make_backend("kde", reg_covar=0.0).fit(x, torch.zeros(3, dtype=torch.long))
