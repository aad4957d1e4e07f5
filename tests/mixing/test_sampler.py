"""The sampler against what imbalanced-learn's users expect, and the labels against the fitted densities."""

import numpy as np
import pandas as pd
import polars
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine

from genlabel_plugins import GenerativeMixSampler, GenLabelSampler, make_backend


def unbalanced():
    X, y = load_wine(return_X_y=True)
    kept = np.concatenate([np.arange(59), np.arange(59, 89), np.arange(130, 145)])  # 59, 30 and 15 rows
    names = np.array(["a", "b", "c"])[y[kept]]
    return X[kept], names


def wide_and_rare():
    """A class of ten rows that overlaps one of a thousand; and digits, of which nine classes have eight rows."""
    rng = np.random.RandomState(1)
    y = np.repeat([0, 1], [1000, 10])
    X = rng.randn(1010, 6) + y[:, None] * 2 / np.sqrt(6)
    yield make_backend("gm", covariance_type="tied"), X, y
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == c)[: 8 if c else 80] for c in range(10)])
    yield "kde", X[rows], y[rows]


def test_classes_get_as_many_rows_as_are_asked_and_no_copy_under_another_name():
    for backend, X, y in wide_and_rare():
        sampler = GenerativeMixSampler(backend, random_state=0)
        X_more, y_more = sampler.fit_resample(X, y)
        assert (np.unique(y_more, return_counts=True)[1] == np.unique(y, return_counts=True)[1].max()).all()
        X_new, y_new = X_more[len(X) :], y_more[len(X) :]
        same = ((X_new[:, None] - X) ** 2).sum(2) < 1e-12
        assert not (same & (y_new[:, None] != y)).any()
        assert sampler.attained_.all()
        log_prob = sampler.density_.log_prob(torch.from_numpy(X_new))
        assert (log_prob.argmax(1).numpy() == y_new).all()


def test_a_third_class_between_two_is_minded():
    rng = np.random.RandomState(1)
    center = 2 * rng.randn(30, 4)
    y = np.repeat(np.arange(30), [60] + [20] * 29)
    X = center[y] + rng.randn(len(y), 4)
    right = {}
    for ahead_of in ("pair", "all"):
        X_more, y_more = GenerativeMixSampler(ahead_of=ahead_of, random_state=0).fit_resample(X, y)
        assert np.bincount(y_more).tolist() == [60] * 30
        bayes = ((X_more[len(X) :, None] - center) ** 2).sum(2).argmin(1)
        right[ahead_of] = (bayes == y_more[len(X) :]).mean()
    assert right["pair"] < 0.35
    assert right["all"] > 0.6


def test_many_rows_are_made_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("genlabel_plugins.mixing._table_sampler.MAX_DRAWS", 50)
    X, y = unbalanced()
    _, y_more = GenerativeMixSampler("kde", sampling_strategy={"a": 159, "c": 200}, random_state=0).fit_resample(X, y)
    assert np.unique(y_more, return_counts=True)[1].tolist() == [159, 30, 200]


def test_a_class_that_is_nowhere_ahead_is_named():
    X, y = np.tile([0.0, 1.0], (13, 1)), np.repeat([0, 1], [9, 4])
    with pytest.raises(ValueError, match="class 1 got 0 of 5 new rows"):
        GenerativeMixSampler("gm", random_state=0).fit_resample(X, y)


@pytest.mark.parametrize(
    ("strategy", "made"),
    [  # what imbalanced-learn 0.14 makes of classes of 59, 30 and 15 rows
        ("auto", (0, 29, 44)),
        ("all", (0, 29, 44)),
        ("not majority", (0, 29, 44)),
        ("minority", (0, 0, 44)),
        ("not minority", (0, 29, 0)),
        ({"b": 40, "a": 60}, (1, 10, 0)),
        (["c"], (0, 0, 44)),
        (lambda y: {"c": 2 * int((y == "c").sum())}, (0, 0, 15)),
    ],
)
def test_every_form_of_sampling_strategy(strategy, made):
    X, y = unbalanced()
    _, y_more = GenerativeMixSampler(sampling_strategy=strategy, random_state=0).fit_resample(X, y)
    assert tuple(np.unique(y_more, return_counts=True)[1] - [59, 30, 15]) == made


def test_a_float_is_the_ratio_of_two_classes():
    X, y = unbalanced()
    _, y_more = GenerativeMixSampler(sampling_strategy=0.8, random_state=0).fit_resample(X[:89], y[:89])
    assert np.unique(y_more, return_counts=True)[1].tolist() == [59, 47]
    with pytest.raises(ValueError, match=r"at least 0\.508, the ratio of the two classes, got 0\.3"):
        GenerativeMixSampler(sampling_strategy=0.3).fit_resample(X[:89], y[:89])


def columns_of_all_kinds():
    rng = np.random.RandomState(0)
    y = np.where(np.arange(120) < 15, "rare", "usual")
    return {
        "amount": rng.randn(120) + 2 * (y == "rare"),
        "weight": rng.randn(120).astype(np.float32),
        "member": rng.rand(120) > 0.5,
        "visits": rng.poisson(3, 120).astype(np.int16),
        "city": np.where(rng.rand(120) > 0.5 + 0.3 * (y == "rare"), "Rome", "Oslo"),
    }, y


@pytest.mark.parametrize("backend", ["gm", "kde", "mixed_types"])
def test_columns_of_pandas_keep_their_kind(backend):
    columns, y = columns_of_all_kinds()
    frame = pd.DataFrame(columns, index=np.arange(120)[::-1]).astype({"city": "category"})
    frame["level"] = pd.array(columns["visits"] % 3, dtype="Int64")
    frame["flag"] = pd.array(columns["member"], dtype="boolean")
    labels = pd.Series(y, name="kind", index=frame.index, dtype="category")
    more, labels_more = GenerativeMixSampler(backend, random_state=0).fit_resample(frame, labels)
    assert (more.dtypes == frame.dtypes).all()
    assert labels_more.dtype == labels.dtype
    assert labels_more.name == "kind"
    assert labels_more.value_counts().tolist() == [105, 105]
    assert list(more.index) == list(range(210))
    assert not more.isna().any(axis=None)
    pd.testing.assert_frame_equal(more[:120], frame.reset_index(drop=True))
    assert more["visits"].between(frame["visits"].min(), frame["visits"].max()).all()
    assert (more["city"][120:] == "Oslo").mean() > 0.6  # the city that rare rows mostly have


def test_columns_of_polars_keep_their_kind():
    columns, y = columns_of_all_kinds()
    frame = polars.DataFrame(columns).with_columns(polars.col("city").cast(polars.Categorical))
    more, labels = GenerativeMixSampler(random_state=0).fit_resample(frame, polars.Series("kind", y))
    assert more.schema == frame.schema
    assert more[:120].equals(frame)
    assert labels.dtype == polars.String
    assert labels.value_counts()["count"].to_list() == [105, 105]


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool])
def test_arrays_keep_their_dtype(dtype):
    X, y = np.random.RandomState(0).randint(0, 9 if dtype is not bool else 2, (60, 3)).astype(dtype), np.arange(60) < 12
    X_more, y_more = GenerativeMixSampler(random_state=0).fit_resample(X, y)
    assert X_more.dtype == dtype
    assert np.bincount(y_more).tolist() == [48, 48]


def test_columns_that_cannot_be_mixed_are_named():
    columns, y = columns_of_all_kinds()
    frame = pd.DataFrame(columns)
    for column, values, message in (
        ("amount", np.nan, "missing values, got some in column 'amount'"),
        ("since", pd.Timestamp("2020-01-01"), r"got Datetime\(.*\) in column 'since'"),
        ("weight", np.inf, "weight contains infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            GenerativeMixSampler().fit_resample(frame.assign(**{column: values}), y)


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
    half_more = {"a": 59 + 30, "b": 30 + 15, "c": 15 + 8}
    sampler = GenerativeMixSampler("gm", sampling_strategy=half_more, soft_labels=True, random_state=1)
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
        ({"sampling_strategy": "minorities"}, "'minority', .*, class names, a mapping .*, got 'minorities'"),
        ({"sampling_strategy": -1.0}, "got -1.0"),
        ({"sampling_strategy": None}, "got None"),
        ({"sampling_strategy": float("nan")}, "got nan"),
        ({"sampling_strategy": 0.5}, "for two classes a float up to 1, got 0.5"),
        ({"sampling_strategy": {"b": 20}}, "class 'b' has 30, got 20"),
        ({"sampling_strategy": {"d": 20}}, r"classes of y, \['a', 'b', 'c'\], got \['d'\]"),
        ({"sampling_strategy": ["c", "d"]}, r"got \['d'\]"),
        ({"ahead_of": "both"}, "'all' or 'pair', got 'both'"),
        ({"alpha": 0.0}, "positive number, got 0.0"),
        ({"alpha": "1"}, "alpha must be a number, got the str '1'"),
    ],
)
def test_options_out_of_range_are_named(params, message):
    X, y = unbalanced()
    with pytest.raises(ValueError, match=message):
        GenerativeMixSampler(**params).fit_resample(X, y)


def test_a_sparse_table_is_refused_in_scikit_learns_words():
    X, y = unbalanced()
    with pytest.raises(TypeError, match="Sparse data was passed"):
        GenerativeMixSampler().fit_resample(scipy.sparse.csr_matrix(X), y)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        GenerativeMixSampler().fit_resample(np.zeros((4, 2)) + np.arange(4)[:, None], np.zeros(4, dtype=int))


def test_lists_one_hot_rows_and_frames_of_labels_come_back_as_such():
    X, y = unbalanced()
    expected, y_expected = GenLabelSampler(random_state=0).fit_resample(X, y)
    names, codes = np.unique(y_expected, return_inverse=True)
    table, labels = GenLabelSampler(random_state=0).fit_resample(X.tolist(), y.tolist())
    assert isinstance(table, list)
    assert (table, labels) == (expected.tolist(), y_expected.tolist())
    _, one_hot = GenLabelSampler(random_state=0).fit_resample(X, np.eye(3, dtype=int)[codes[: len(y)]])
    assert np.array_equal(one_hot, np.eye(3)[codes])
    _, frame = GenLabelSampler(random_state=0).fit_resample(X, pd.DataFrame({"kind": y}))
    assert frame["kind"].tolist() == y_expected.tolist()
    assert names.tolist() == ["a", "b", "c"]


def test_soft_labels_are_in_the_precision_of_an_array():
    X, y = unbalanced()
    for given, wanted in (
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (int, np.float64),
    ):
        _, soft = GenLabelSampler(soft_labels=True, random_state=0).fit_resample(X.astype(given), y)
        assert soft.dtype == wanted
        np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)


def test_rows_of_genlabel_lie_where_lam_says_but_for_values_that_are_rounded():
    X, y = unbalanced()
    for values, holds in ((X, True), (X.round().astype(int), False)):
        sampler = GenLabelSampler(random_state=0)
        sampler.fit_resample(values, y)
        assert sampler.attained_.all() == holds


def test_sparse_columns_of_pandas_stay_sparse():
    X, y = unbalanced()
    dtype = pd.SparseDtype(float, 0)
    frame = pd.DataFrame(X.round(), columns=[str(i) for i in range(13)], dtype=dtype).assign(color=y)
    more, _ = GenLabelSampler(random_state=0).fit_resample(frame, y)
    assert (more.dtypes == frame.dtypes).all()
    assert len(more) == 3 * 59


@pytest.mark.parametrize("sampler", [GenLabelSampler, GenerativeMixSampler])
def test_a_switch_given_as_text_is_refused(sampler):
    with pytest.raises(ValueError, match="soft_labels must be True or False, got 'false'"):
        sampler(soft_labels="false").fit_resample(*load_wine(return_X_y=True))
