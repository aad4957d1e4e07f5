"""Power transforms before a density, against scikit-learn's and the rule for densities of transformed variables."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import PowerTransformer

from genlabel_plugins import GenLabel, Parents, make_backend
from genlabel_sklearn import GenLabelClassifier


def skewed(n_rows=240, n_features=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(n_rows) % 3
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64) + 0.8 * target[:, None]
    return torch.cat([x[:, :1].exp(), -x[:, 1:2].exp(), x[:, 2:]], 1) * 10 + 5, target


def test_columns_pass_the_transform_of_scikit_learn():
    x, target = skewed()
    density = make_backend("gm", marginals="power").fit(x, target)
    z = ((x - density.offset_) - density.median_) / density.unit_
    reference = PowerTransformer(standardize=False).fit(z.numpy())
    rows, log_slope = density._transformed(x - density.offset_)
    np.testing.assert_allclose(density.power_, reference.lambdas_, rtol=1e-6)
    np.testing.assert_allclose(rows, reference.transform(z.numpy()), rtol=1e-6, atol=1e-9)
    step = 1e-6 * density.unit_
    slope = (density._transformed(x - density.offset_ + step)[0] - rows) / step
    torch.testing.assert_close(log_slope[:, 0], slope.log().sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(density.log_prob(x), density.density.log_prob(rows) + log_slope)


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_at_the_ends_of_the_power_it_is_a_logarithm(power):
    x, target = skewed()
    density = make_backend("gm", marginals="power").fit(x, target)
    rows = x - density.offset_
    density.power_.fill_(power)
    at = density._transformed(rows)
    density.power_.fill_(power + 1e-4)
    for exact, near in zip(at, density._transformed(rows), strict=True):
        torch.testing.assert_close(exact, near, rtol=1e-2, atol=1e-2)


def test_a_constant_column_and_options_of_the_density_pass_through():
    x, target = skewed()
    x[:, 1] = 3.0
    density = make_backend("kde", marginals="power", bandwidth=0.4).fit(x, target)
    assert density.power_[1] == 1
    assert density.density.bandwidth == 0.4
    assert density.log_prob(x * 1e6).isfinite().all()
    with pytest.raises(ValueError, match="marginals must be 'power' or None, got 'rank'"):
        make_backend("gm", marginals="rank")


def test_parents_leave_transformed_rows_too():
    x, target = skewed()
    genlabel = GenLabel(make_backend("nn", marginals="power"), leave_parents_out=True).fit(x, target)
    parents = Parents.in_batch(x[:20], target[:20], torch.arange(20).flip(0))
    rows = genlabel.density._transformed
    centered = [part - genlabel.density.offset_ for part in (x[:20], parents.x_i, parents.x_j)]
    mixed, x_i, x_j = (rows(part)[0] for part in centered)
    inner = genlabel.density.density.log_prob_without(mixed, Parents(x_i, parents.target_i, x_j, parents.target_j))
    y = genlabel.relabel(x[:20], torch.full((20, 3), 1 / 3, dtype=torch.float64), 1.0, parents)
    torch.testing.assert_close(y, inner.softmax(1))


def test_skew_costs_labels_nothing():
    losses = []
    for seed in range(3):
        draws = np.random.default_rng(seed)
        mean, spread = draws.normal(size=(3, 10)) / 2, draws.normal(size=(10, 10)) / 10**0.5
        y = draws.integers(3, size=1300)
        X = np.exp(mean[y] + draws.normal(size=(1300, 10)) @ spread)
        ways = ({"scheme": "none"}, {}, {"backend": make_backend("gm", marginals="power")})
        models = [GenLabelClassifier(random_state=0, **way).fit(X[:300], y[:300]) for way in ways]
        losses.append([1 - model.score(X[300:], y[300:]) for model in models])
    none, plain, power = np.mean(losses, 0)
    assert power < none + 0.015
    assert power < plain - 0.015
