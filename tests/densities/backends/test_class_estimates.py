"""Means and covariances of classes against slow formulas in numpy."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from genlabel_plugins.densities.backends._class_estimates import class_estimates


def classes(sizes, n_features, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    mixing = torch.randn(len(sizes), n_features, n_features, generator=generator, dtype=torch.float64) / n_features
    mixing += torch.eye(n_features, dtype=torch.float64)
    x = torch.randn(len(target), n_features, generator=generator, dtype=torch.float64)
    x = torch.einsum("nd,nde->ne", x, mixing[target]) + 3 * target[:, None]
    return x - x.mean(0), target


def estimate(x, target, **options):
    return class_estimates(x, target, x.new_zeros(x.shape[1]), **options)


def covariance(x, target, c, ddof=0):
    return np.cov(x[target == c].numpy().T, ddof=ddof)


def pooled(x, target, divisor):
    n_classes = int(target.max()) + 1
    return sum(int((target == c).sum()) * covariance(x, target, c) for c in range(n_classes)) / divisor


def spelled_out_weight(rows):
    """One at n <= D + 1, zero at 10 D; and from the kurtosis of each column, one at two rows, zero at twenty."""
    n, n_features = rows.shape
    centered = rows - rows.mean(0)
    weight = (10 * n_features - n) / (10 * n_features - n_features - 1)
    for column in centered.T:
        kurtosis = np.mean(column**4) / np.mean(column**2) ** 2
        weight = max(weight, (20 - min(n, 2 * n / (kurtosis - 1))) / 18)
    return min(max(weight, 0.0), 1.0)


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_class_of_many_rows_has_the_covariance_of_numpy(ddof):
    x, target = classes([80, 120], 5)
    found = estimate(x, target, ddof=ddof)
    for c in range(2):
        np.testing.assert_allclose(found.covariance[c], covariance(x, target, c, ddof), rtol=1e-9)
        np.testing.assert_allclose(found.center[c], x[target == c].numpy().mean(0), rtol=1e-12)


def test_between_few_rows_and_many_the_covariance_goes_from_the_pooled_one_to_its_own():
    x, target = classes([7, 8, 20, 40, 60, 200], 6)
    found = estimate(x, target)
    shared = pooled(x, target, len(x))
    weights = [spelled_out_weight(x[target == c].numpy()) for c in range(6)]
    assert weights[0] == 1
    assert weights[5] == 0
    assert 0.2 < weights[3] < 0.8
    for c, weight in enumerate(weights):
        expected = (1 - weight) * covariance(x, target, c) + weight * shared
        np.testing.assert_allclose(found.covariance[c], expected, rtol=1e-9, atol=1e-12)


def test_with_few_rows_in_all_correlations_are_shrunk_by_their_noise():
    x, target = classes([16, 16], 30)
    x[:, 0] = 4 * x[:, 1] + x[:, 0]
    raw = pooled(x, target, 30)
    std = np.sqrt(np.diag(raw))
    gaussian = seen = signal = 0.0
    rows = np.concatenate([x[target == c] - x[target == c].mean(0) for c in range(2)]) / std
    for i in range(30):
        for j in range(30):
            correlation = raw[i, j] / std[i] / std[j]
            seen += np.mean((rows[:, i] * rows[:, j]) ** 2) - correlation**2
            gaussian += (1 - correlation**2) ** 2
            signal += correlation**2 * (i != j)
    share = max(gaussian, seen) / 30 / signal
    assert 0.3 < share < 1
    found = estimate(x, target, tied=True).covariance
    assert found.shape == (1, 30, 30)
    np.testing.assert_allclose(found[0], (1 - share) * raw + share * np.diag(np.diag(raw)), rtol=1e-9, atol=1e-12)


def test_with_few_rows_in_all_means_are_drawn_together_by_their_noise():
    x, target = classes([20, 15, 10], 50)
    found = estimate(x, target, tied=True)
    mean = np.stack([x[target == c].numpy().mean(0) for c in range(3)])
    origin, n_free = mean.mean(0), 50 * 2
    distance = sum(d @ np.linalg.solve(found.covariance[0].numpy(), d) for d in mean - origin)
    noise = np.mean([1 / 20, 1 / 15, 1 / 10]) * n_free
    keep = max(distance - noise * (1 - 2 / n_free), noise * np.sqrt(2 / n_free)) / distance
    assert 0.05 < keep < 1
    np.testing.assert_allclose(found.center, origin + keep * (mean - origin), rtol=1e-6)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)


@pytest.mark.parametrize("sizes", [(3, 8, 20, 90), (1, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_scaling_columns_scales_the_estimate(sizes, diagonal):
    x, target = classes(sizes, 6)
    unit = 10 ** torch.linspace(-6, 6, 6, dtype=torch.float64)
    found, scaled = (estimate(rows, target, diagonal=diagonal) for rows in (x, x * unit))
    square = unit.square() if diagonal else torch.outer(unit, unit)
    torch.testing.assert_close(scaled.covariance / square, found.covariance, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(scaled.center / unit, found.center, rtol=1e-6, atol=1e-9)


def test_one_more_row_changes_little():
    x, target = classes([60, 60], 8)
    found = [estimate(torch.cat([x[:n], x[60:]]), torch.cat([target[:n], target[60:]])) for n in range(2, 50)]
    for earlier, later in pairwise(part.covariance[0] for part in found):
        ratio = torch.linalg.eigvals(torch.linalg.solve(earlier, later)).real
        assert ratio.min() > 0.5
        assert ratio.max() < 2  # of its own from one row to the next: without bounds


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_column_constant_within_a_class_takes_the_pooled_variance(diagonal):
    x, target = classes([200, 200, 200], 4)
    x[target == 1, 2] = -1e5 / 3
    found = estimate(x, target, diagonal=diagonal).covariance
    variance = found if diagonal else found.diagonal(dim1=1, dim2=2)
    np.testing.assert_allclose(variance[1, 2], pooled(x, target, 600)[2, 2], rtol=1e-9)
    np.testing.assert_allclose(variance[0], np.diag(covariance(x, target, 0)), rtol=1e-9)


def test_a_column_constant_within_every_class_has_the_spread_between_them_over_the_rows():
    x, target = classes([30, 30], 3)
    x[:, 1] = target.double()
    x[:, 2] = 7.0
    found = estimate(x, target)
    np.testing.assert_allclose(found.covariance[0, 1, 1], 0.25 / 59, rtol=1e-9)
    assert found.covariance[0, 2, 2] == 1
    assert found.constant.tolist() == [False, False, True]


def test_a_class_far_narrower_than_the_others_scales_what_it_borrows():
    x, target = classes([20, 20], 3)
    x[target == 0, 1] = x[target == 0, 1].mean() + 1e-5 * (x[target == 0, 1] - x[target == 0, 1].mean())
    found = estimate(x, target).covariance[0]
    own = covariance(x, target, 0)
    assert own[1, 1] / 10 < found[1, 1] < 100 * own[1, 1]  # 10^10 times wider in the other class
    assert own[0, 0] < found[0, 0] < pooled(x, target, 40)[0, 0]
    assert (torch.linalg.eigvalsh(found) > 0).all()


def test_rows_in_float32_far_from_zero_have_no_spread_within_their_rounding():
    x, target = classes([30, 30], 2)
    offset = torch.tensor([0.0, 1e6])
    x = torch.stack([x[:, 0], 1e-2 * torch.sign(x[:, 1])], 1).float()
    assert class_estimates(x, target, offset).constant.tolist() == [False, True]
    assert not class_estimates(x.double(), target, offset.double()).constant.any()
