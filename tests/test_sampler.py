"""The sampler against what imbalanced-learn's users expect, and the labels against the fitted densities."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_wine

from genlabel_plugins import GenerativeMixSampler


def unbalanced():
    X, y = load_wine(return_X_y=True)
    kept = np.concatenate([np.arange(59), np.arange(59, 89), np.arange(130, 145)])  # 59, 30 and 15 rows
    names = np.array(["a", "b", "c"])[y[kept]]
    return X[kept], names


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_auto_draws_what_each_class_lacks(backend):
    X, y = unbalanced()
    sampler = GenerativeMixSampler(backend, random_state=0)
    X_more, y_more = sampler.fit_resample(X, y)
    assert X_more.shape == (3 * 59, 13)
    assert np.array_equal(X_more[:104], X)
    assert np.array_equal(y_more[:104], y)
    count = dict(zip(*np.unique(y_more, return_counts=True), strict=True))
    assert abs(count["b"] - 59) <= 6
    assert abs(count["c"] - 59) <= 6
    assert sampler.attained_.mean() > 0.6


def test_soft_labels_are_the_ratio_at_the_new_rows():
    X, y = unbalanced()
    sampler = GenerativeMixSampler("gm", sampling_strategy=0.5, soft_labels=True, random_state=1)
    X_more, y_more = sampler.fit_resample(X, y)
    assert y_more.shape == (104 + 30 + 15 + 8, 3)
    assert sampler.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(y_more.sum(1), 1)
    log_prob = sampler.density_.log_prob(torch.from_numpy(X_more[104:])).numpy()
    for row, soft in zip(log_prob, y_more[104:], strict=True):
        i, j = np.argsort(-soft)[:2]
        np.testing.assert_allclose(soft[i], 1 / (1 + np.exp(row[j] - row[i])), atol=1e-4)


def test_it_repeats_clones_and_keeps_frames():
    X, y = unbalanced()
    sampler = clone(GenerativeMixSampler("gm", alpha=0.5, random_state=2))
    frame = pd.DataFrame(X, columns=[f"feature {i}" for i in range(13)])
    first, y_first = sampler.fit_resample(frame, y)
    second, y_second = clone(sampler).fit_resample(X, y)
    assert list(first.columns) == list(frame.columns)
    assert np.array_equal(first.to_numpy(), second)
    assert np.array_equal(y_first, y_second)
    assert sampler.get_params()["alpha"] == 0.5


def test_a_balanced_table_comes_back_as_it_is():
    X, y = np.random.RandomState(0).randn(20, 3), np.arange(20) % 2
    X_more, y_more = GenerativeMixSampler(random_state=0).fit_resample(X, y)
    assert np.array_equal(X_more, X)
    assert np.array_equal(y_more, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sampling_strategy": "minority"}, "'auto' or a float from 0, got 'minority'"),
        ({"sampling_strategy": -1.0}, "got -1.0"),
        ({"alpha": 0.0}, "positive number, got 0.0"),
    ],
)
def test_options_out_of_range_are_named(params, message):
    X, y = unbalanced()
    with pytest.raises(ValueError, match=message):
        GenerativeMixSampler(**params).fit_resample(X, y)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        GenerativeMixSampler().fit_resample(np.zeros((4, 2)) + np.arange(4)[:, None], np.zeros(4, dtype=int))
