"""Densities on rows as people have them: few, far apart, tied, with a sentinel; against scikit-learn's classifiers."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.model_selection import train_test_split

from genlabel_plugins import GenLabel, make_backend

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*onverge")
BOTH = pytest.mark.parametrize("name", ["gm", "kde"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def fitted(name, x, y, **options):
    return GenLabel(make_backend(name, **options)).fit(torch.from_numpy(x), torch.from_numpy(y))


def posterior(genlabel, x):
    return genlabel.posterior(torch.from_numpy(x)).numpy()


def score(genlabel, x, y):
    """Accuracy and log-loss."""
    log_p = genlabel.log_prob(torch.from_numpy(x)).double().log_softmax(1).numpy()
    return (log_p.argmax(1) == y).mean(), -log_p[np.arange(len(y)), y].mean()


def half_of(load, seed):
    x, y = load(return_X_y=True)
    return train_test_split(x, y, test_size=0.5, random_state=seed, stratify=y)


def each(x, y, n, seed):
    """Rows of a table of which n a class are for training, and the others."""
    rng = np.random.RandomState(seed)
    train = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in range(y.max() + 1)])
    test = np.setdiff1d(np.arange(len(y)), train)
    return x[train], x[test], y[train], y[test]


def wide(n, n_features, rng):
    y = np.arange(n) % 2
    x = rng.randn(n, n_features)
    x[:, :10] += 0.5 * (2 * y[:, None] - 1)
    return x, y


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("far", [100, 1_000, 10_000])
@pytest.mark.parametrize("name", ["gm", "kde", "flow", "vae"])
def test_a_far_class_leaves_the_others_alone(name, far, dtype):
    rng, y = np.random.RandomState(0), np.arange(900) % 3
    x, query = rng.randn(900, 2), np.array([[1.0, 0.0], [2.0, 0.0], [3.2, 0.0]])
    x[y == 1, 0] += 6
    options = {"max_epochs": 2} if name in ("flow", "vae") else {}
    moved = (x + far * (y == 2)[:, None]).astype(dtype)
    found = posterior(fitted(name, moved, y, **options), query.astype(dtype))[:, 0]
    near = posterior(fitted(name, (x + 20 * (y == 2)[:, None]).astype(dtype), y, **options), query.astype(dtype))[:, 0]
    np.testing.assert_allclose(found, near, atol=2e-3)
    if name == "gm":
        expected = QuadraticDiscriminantAnalysis().fit(moved, y).predict_proba(query)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["gm", "kde"])
@pytest.mark.parametrize("covariance_type", ["tied", "diag", "spherical"])
def test_a_far_class_costs_float32_no_precision(name, covariance_type):
    options = {"covariance_type": covariance_type} if name == "gm" else {}
    rng, y = np.random.RandomState(0), np.arange(300) % 3
    x = rng.randn(300, 3) + 2 * (y == 1)[:, None] + 10_000 * (y == 2)[:, None]
    query = (x[:60] + x[60:120]) / 2
    exact = posterior(fitted(name, x, y, **options), query)
    rounded = posterior(fitted(name, x.astype(np.float32), y, **options), query.astype(np.float32))
    np.testing.assert_allclose(rounded[:, :2], exact[:, :2], atol=2e-2 if name == "kde" else 2e-3)


@BOTH
@DTYPES
def test_one_sentinel_costs_no_more_than_it_does_the_quadratic_classifier(name, dtype):
    rng, y = np.random.RandomState(0), np.arange(600) % 3
    mean = 2 * rng.randn(3, 6)
    x, query = mean[y] + rng.randn(600, 6), mean[y] + rng.randn(600, 6)
    x[0, 2] = 999_999
    accuracy, _ = score(fitted(name, x.astype(dtype), y), query.astype(dtype), y)
    assert accuracy > QuadraticDiscriminantAnalysis().fit(x, y).score(query, y) - 0.01


@BOTH
@DTYPES
@pytest.mark.parametrize("n", [20, 60, 400])
def test_a_narrow_class_beside_a_wide_one_keeps_its_width(name, n, dtype):
    rng, y = np.random.RandomState(0), np.arange(2 * n) % 2
    x = rng.randn(2 * n, 2) * np.where(y == 1, 1e4, 1.0)[:, None]
    found = posterior(fitted(name, x.astype(dtype), y), np.array([[100.0, 0.0], [2.0, 0.0]], dtype))[:, 0]
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-4)  # of the quadratic classifier


@BOTH
@DTYPES
@pytest.mark.parametrize("size", [1e-2, 5e-4])
def test_a_signal_in_the_difference_of_two_columns_is_seen(name, size, dtype):
    rng = np.random.RandomState(0)
    y = np.arange(800) % 2
    base = rng.randn(800)
    x = np.c_[base, base + size * (4 * (2 * y - 1) + rng.randn(800))].astype(dtype)
    accuracy, log_loss = score(fitted(name, x[:400], y[:400]), x[400:], y[400:])
    assert accuracy > 0.99  # as linear discriminant analysis in float64
    assert log_loss < 0.02


@pytest.mark.parametrize(("name", "options"), [("gm", {}), ("gm", {"covariance_type": "tied"}), ("kde", {})])
def test_with_fewer_rows_than_features_labels_are_uncertain_and_right(name, options):
    rng, scores, certainty = np.random.RandomState(0), [], []
    for _ in range(3):
        (x, y), (query, truth) = wide(60, 500, rng), wide(600, 500, rng)
        genlabel = fitted(name, x, y, **options)
        scores.append(score(genlabel, query, truth))
        certainty.append(posterior(genlabel, query).max(1).min())
    accuracy, log_loss = np.mean(scores, 0)
    assert accuracy > 0.72
    assert log_loss < 0.6
    assert max(certainty) < 0.6


def test_the_shrinkage_by_itself_is_no_worse_than_the_best_by_hand():
    x, y = load_breast_cancer(return_X_y=True)
    by_hand = [
        {"covariance_type": "diag", "shrinkage": 0.0},
        {"covariance_type": "spherical", "shrinkage": 0.0},
        {"covariance_type": "tied", "shrinkage": "ledoit_wolf"},
    ]
    for n in (5, 15, 31):
        runs = {str(options): [] for options in [{}, *by_hand]}
        for seed in range(6):
            x_train, x_test, y_train, y_test = each(x, y, n, seed)
            for options in [{}, *by_hand]:
                runs[str(options)].append(score(fitted("gm", x_train, y_train, **options), x_test, y_test))
        mean = {options: np.mean(found, 0) for options, found in runs.items()}
        assert mean["{}"][0] > max(found[0] for found in mean.values()) - 0.015
        assert mean["{}"][1] < 1.1 * min(found[1] for found in mean.values())


@BOTH
def test_accuracy_never_falls_as_rows_are_added(name):
    scores = {n: [] for n in (10, 16, 20, 21, 30, 60, 120)}
    for seed in range(6):
        rng = np.random.RandomState(seed)
        mean, truth = 0.6 * rng.randn(4, 20), np.arange(800) % 4
        query = mean[truth] + rng.randn(800, 20)
        for n, found in scores.items():
            y = np.arange(4 * n) % 4
            found.append(score(fitted(name, mean[y] + rng.randn(len(y), 20), y), query, truth)[0])
    accuracy = [np.mean(found) for found in scores.values()]
    assert accuracy[0] > 0.75
    for i in range(1, len(accuracy)):
        assert accuracy[i] > max(accuracy[:i]) - 0.02


@BOTH
def test_classes_of_almost_the_same_size_are_predicted_alike(name):
    rng = np.random.RandomState(4)
    mean, truth = 0.6 * rng.randn(4, 20), np.arange(2000) % 4
    query = mean[truth] + rng.randn(2000, 20)
    y = np.repeat(range(4), [23, 23, 20, 20])
    best = posterior(fitted(name, mean[y] + rng.randn(len(y), 20), y), query).argmax(1)
    assert np.bincount(best).min() > 380  # of 500; it was 45
    assert (best == truth).mean() > 0.75


@BOTH
def test_one_more_row_than_features_on_breast_cancer(name):
    x, y = load_breast_cancer(return_X_y=True)
    accuracy = {}
    for n in (30, 31, 32, 40):
        parts = [each(x, y, n, seed) for seed in range(6)]
        accuracy[n] = np.mean([score(fitted(name, a, c), b, d)[0] for a, b, c, d in parts])
    assert accuracy[30] > 0.92
    for n in (31, 32, 40):
        assert accuracy[n] > accuracy[30] - 0.01


@pytest.mark.parametrize("options", [{}, {"n_components": "bic"}])
def test_sparse_columns_cost_no_more_than_they_do_linear_discriminant_analysis(options):
    rng = np.random.RandomState(0)
    rate = np.minimum(0.9, 0.04 * np.exp(rng.randn(2, 40)))
    rate[0, :5] = 0.0
    y = np.arange(1200) % 2
    x = (rng.rand(1200, 40) < rate[y]).astype(float)
    linear = LinearDiscriminantAnalysis().fit(x[:400], y[:400])
    log_p = linear.predict_log_proba(x[400:])
    accuracy, log_loss = score(fitted("gm", x[:400], y[:400], **options), x[400:], y[400:])
    assert accuracy > linear.score(x[400:], y[400:]) - 0.01
    assert log_loss < -log_p[np.arange(800), y[400:]].mean() + 0.02


@BOTH
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_with_one_row_a_class_labels_are_of_the_nearest_and_soft(name, unit):
    x, y = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]), np.arange(3)
    genlabel = GenLabel(make_backend(name))
    with pytest.warns(UserWarning, match="every class has a single row"):
        genlabel.fit(torch.from_numpy(x * unit), torch.from_numpy(y))
    found = posterior(genlabel, np.r_[x, [[5.0, 0.0]]] * unit)
    assert found[:3].argmax(1).tolist() == [0, 1, 2]
    assert found.max() < 0.99
    np.testing.assert_allclose(found[3, 0], found[3, 1])


@pytest.mark.parametrize(
    "options", [{}, {"shrinkage": "ledoit_wolf"}, {"shrinkage": "oas"}, {"covariance_type": "diag"}]
)
def test_a_class_of_two_rows_takes_what_the_others_know(options):
    rng = np.random.RandomState(0)
    y, truth = np.r_[np.arange(400) % 2, 2, 2], np.arange(900) % 3
    mean = 0.7 * rng.randn(3, 30)
    x, query = mean[y] + rng.randn(402, 30), mean[truth] + rng.randn(900, 30)
    accuracy, log_loss = score(fitted("gm", x, y, **options), query, truth)
    assert accuracy > LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(x, y).score(query, truth) - 0.03
    assert log_loss < 0.35


@BOTH
def test_units_of_columns_do_not_matter(name):
    rng, y = np.random.RandomState(0), np.arange(150) % 3
    x = rng.randn(150, 8) + rng.randn(3, 8)[y]
    query, unit = (x + x[::-1]) / 2, 10.0 ** rng.uniform(-6, 6, 8)
    found = posterior(fitted(name, x, y), query)
    np.testing.assert_allclose(posterior(fitted(name, x * unit, y), query * unit), found, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_bic_is_no_worse_than_one_component(load, seed):
    x_train, x_test, y_train, y_test = half_of(load, seed)
    one, bic = (score(fitted("gm", x_train, y_train, n_components=n), x_test, y_test) for n in (1, "bic"))
    assert bic[0] > one[0] - 0.01
    assert bic[1] < one[1] + 0.02


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_bic_takes_no_component_for_a_tied_column(kind):
    rng = np.random.RandomState(0)
    rate, y = rng.uniform(0.05, 0.6, (2, 8)), np.arange(1800) % 2
    x = (rng.rand(1800, 8) < rate[y]).astype(float)
    one, bic = (
        score(fitted("gm", x[:800], y[:800], n_components=n, covariance_type=kind), x[800:], y[800:])
        for n in (1, "bic")
    )
    assert bic[0] > one[0] - 0.02
    assert bic[1] < one[1] + 0.05


def test_a_fixed_number_that_leaves_singular_components_warns():
    x, target = (torch.from_numpy(part) for part in load_wine(return_X_y=True))
    with pytest.warns(UserWarning, match="n_components=4 leaves components of 3 classes"):
        make_backend("gm", n_components=4).fit(x, target)


@BOTH
def test_one_row_more_than_features_warns_too(name):
    rng = np.random.RandomState(0)
    x, y = torch.from_numpy(rng.randn(14, 6)), torch.arange(14) % 2
    with pytest.warns(UserWarning, match=r"no more rows than the 6 features and one \(the first has 7\)"):
        make_backend(name).fit(x, y)


@pytest.mark.parametrize("shrinkage", [0.0, "ledoit_wolf"])
def test_the_warning_names_a_shrinkage_that_helps(shrinkage):
    rng = np.random.RandomState(0)
    x, y = torch.from_numpy(rng.randn(14, 6)), torch.arange(14) % 2
    with pytest.warns(UserWarning, match=f"shrinkage={shrinkage!r} leaves .* shrinkage='auto' pools them"):
        make_backend("gm", shrinkage=shrinkage).fit(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [5, 10])
def test_features_that_are_all_but_zero_in_few_rows_say_nothing_of_their_class(n_rows):
    """As those of a pretrained network: the default classifies as one covariance for all classes does."""

    def features(n, seed):
        generator = torch.Generator().manual_seed(seed)
        target = torch.arange(10).repeat_interleave(n)
        active = torch.randn(10, 600, generator=torch.Generator().manual_seed(7)) / 2
        x = torch.nn.functional.silu(3 * (active[target] - 1 + torch.randn(10 * n, 600, generator=generator)))
        return x.clamp(min=0) + 1e-4 * torch.rand(10 * n, 600, generator=generator), target

    rows, target = features(50, 99)
    with warnings.catch_warnings(action="ignore"):  # few rows
        accuracy = [
            (make_backend("gm", **options).fit(*features(n_rows, n_rows)).log_prob(rows).argmax(1) == target)
            for options in ({}, {"covariance_type": "tied"})
        ]
    own, tied = (right.double().mean().item() for right in accuracy)
    assert tied > 0.8
    assert own > tied - 0.02


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_components_of_few_rows_are_told_apart_and_turning_them_helps(backend):
    X, y = load_digits(return_X_y=True)
    x, target = torch.from_numpy(X), torch.from_numpy(y)
    few = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:60]
    x = (x - x[few].mean(0)) / x[few].std(0).clamp(min=1e-9) * (x[few].std(0) > 0)
    components = x @ torch.linalg.svd(x[few], full_matrices=False)[2].T

    def accuracy(rows):
        fitted = GenLabel(backend).fit(rows[few], target[few])
        return (fitted.posterior(rows).argmax(1) == target).double().mean()

    with pytest.warns(UserWarning, match="look like the principal components of few rows"):
        along = accuracy(components)
    turned = (
        components
        @ torch.linalg.qr(torch.randn(len(few), len(few), generator=torch.Generator().manual_seed(1)).double()).Q
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "features look like")
        assert accuracy(turned) > along + 0.2
        accuracy(x)
