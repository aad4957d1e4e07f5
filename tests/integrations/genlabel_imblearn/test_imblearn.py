"""The samplers under imbalanced-learn's own checks, in its pipelines and ensembles; labels against slow loops."""

import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
import torch
from imblearn.ensemble import BalancedBaggingClassifier
from imblearn.over_sampling import SMOTE
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.pipeline import Pipeline
from imblearn.utils.estimator_checks import parametrize_with_checks
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import genlabel_plugins
from genlabel_imblearn import GenerativeMixSampler, GenLabelSampler
from genlabel_plugins import make_backend

SAMPLERS = [GenerativeMixSampler(random_state=0), GenLabelSampler(random_state=0)]
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)


def unbalanced(as_frame=False):
    X, y = load_wine(return_X_y=True, as_frame=as_frame)
    kept = np.concatenate([np.arange(59), np.arange(59, 89), np.arange(130, 145)])  # 59, 30 and 15 rows
    return (X.iloc[kept], y.iloc[kept]) if as_frame else (X[kept], y[kept])


@parametrize_with_checks(SAMPLERS)
def test_imbalanced_learns_own_checks(estimator, check):
    check(estimator)


@each_sampler
def test_the_door_gives_what_the_core_gives(sampler):
    assert isinstance(sampler, BaseOverSampler)
    X, y = unbalanced()
    core = getattr(genlabel_plugins, type(sampler).__name__)(random_state=0)
    assert core.get_params().keys() == sampler.get_params().keys()
    for ours, theirs in zip(clone(sampler).fit_resample(X, y), core.fit_resample(X, y), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@each_sampler
def test_the_rows_to_make_are_counted_as_imbalanced_learn_counts_them(sampler):
    X, y = unbalanced()
    sampler, smote = clone(sampler), SMOTE()
    for strategy in ("auto", "minority", {1: 40}):
        sampler.set_params(sampling_strategy=strategy).fit(X, y)
        assert sampler.sampling_strategy_ == dict(
            smote.set_params(sampling_strategy=strategy).fit(X, y).sampling_strategy_
        )
    assert list(sampler.get_feature_names_out(["x"] * 13)) == ["x"] * 13


@each_sampler
def test_in_a_pipeline_it_runs_in_fit_and_not_in_predict(sampler):
    X, y = unbalanced()
    model = Pipeline([("scale", StandardScaler()), ("sample", clone(sampler)), ("classify", LogisticRegression())])
    assert cross_val_score(model, X, y, cv=3, scoring="balanced_accuracy", error_score="raise").mean() > 0.85
    option = "gamma" if "gamma" in sampler.get_params() else "ahead_of"
    values = {"gamma": [0.0, 1.0], "ahead_of": ["all", "pair"]}[option]
    search = GridSearchCV(model, {f"sample__{option}": values}, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_[f"sample__{option}"] in values
    assert search.predict(X).shape == y.shape
    scaled = StandardScaler().fit_transform(X)
    by_hand = LogisticRegression().fit(*clone(sampler).fit_resample(scaled, y))
    np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), by_hand.predict_proba(scaled))


@each_sampler
def test_frames_stay_frames_under_set_output_and_beside_metadata_routing(sampler):
    X, y = unbalanced(as_frame=True)
    model = Pipeline([("scale", StandardScaler()), ("sample", clone(sampler)), ("classify", LogisticRegression())])
    model.set_output(transform="pandas").fit(X, y)
    assert list(model["sample"].feature_names_in_) == list(X.columns)
    assert list(model["classify"].feature_names_in_) == list(X.columns)
    with sklearn.config_context(enable_metadata_routing=True):
        np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), model.predict(X))


@each_sampler
def test_an_ensemble_of_the_host_takes_it(sampler):
    X, y = unbalanced()
    ensemble = BalancedBaggingClassifier(LogisticRegression(max_iter=5000), 2, sampler=clone(sampler), random_state=0)
    assert ensemble.fit(StandardScaler().fit_transform(X), y).n_features_in_ == 13


@each_sampler
def test_mixed_columns_come_back_as_they_are_and_go_on_to_an_encoder(sampler):
    rng = np.random.RandomState(0)
    y = pd.Series(np.where(np.arange(90) < 12, "rare", "usual"), name="kind")
    columns = {
        "amount": rng.randn(90) + (y == "rare"),
        "visits": rng.poisson(3, 90),
        "city": rng.choice(["Rome", "Oslo"], 90),
    }
    frame = pd.DataFrame(columns)
    model = Pipeline(
        [
            ("sample", clone(sampler)),
            ("encode", make_column_transformer((OneHotEncoder(), make_column_selector(dtype_include=object)))),
            ("classify", LogisticRegression()),
        ]
    )
    assert set(model.fit(frame, y).predict(frame)) <= {"rare", "usual"}
    more, labels = model["sample"].fit_resample(polars.from_pandas(frame), polars.Series("kind", y.to_list()))
    assert more.schema == polars.from_pandas(frame).schema
    assert labels.value_counts()["count"].to_list() == [78, 78]


def test_labels_of_genlabel_are_those_of_a_slow_loop():
    X, y = unbalanced()
    sampler = GenLabelSampler(gamma=0.3, soft_labels=True, random_state=0)
    X_more, soft = sampler.fit_resample(X, y)
    np.testing.assert_array_equal(soft[:104], np.eye(3)[y])
    np.testing.assert_array_equal(np.bincount(soft.argmax(1)), [59, 59, 59])
    density = make_backend("gm").fit(torch.from_numpy(X), torch.from_numpy(y))
    n_across = 0
    for x, label in zip(X_more[104:], soft[104:], strict=True):
        y_gen = density.log_prob(torch.from_numpy(x)[None]).softmax(1)[0].numpy()
        y_mix = (label - 0.3 * y_gen) / 0.7
        lam = y_mix.max()
        np.testing.assert_allclose(y_mix.sum(), 1, atol=1e-6)
        assert y_mix.argmax() == label.argmax()
        if lam < 1 - 1e-6:  # of two classes: x is lam of a row of the one and the rest of a row of the other
            n_across += 1
            partner = (x - lam * X[y == label.argmax()]) / (1 - lam)
            nearest = np.abs(partner[:, None] - X).max(2).min()
            assert nearest < 1e-3
    assert n_across > 30


def test_gamma_zero_is_mixup_and_drops_no_row():
    X, y = unbalanced()
    X_more, soft = GenLabelSampler(gamma=0.0, soft_labels=True, random_state=1).fit_resample(X, y)
    again, _ = GenLabelSampler("kde", gamma=0.0, soft_labels=True, random_state=1).fit_resample(X, y)
    np.testing.assert_array_equal(X_more, again)  # densities have no say
    assert ((soft > 0).sum(1) <= 2).all()


def test_a_class_that_is_nowhere_ahead_is_named():
    X, y = np.tile([0.0, 1.0], (13, 1)), np.repeat([0, 1], [9, 4])
    with pytest.raises(ValueError, match=r"class 1 got 0 of 5 new rows, .* or a smaller gamma"):
        GenLabelSampler(gamma=1.0, random_state=0).fit_resample(X, y)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got 2"):
        GenLabelSampler(gamma=2).fit_resample(X, y)


def test_more_than_one_class_a_row_is_refused():
    X, _ = unbalanced()
    with pytest.raises(ValueError, match="multilabel and multioutput targets are not supported"):
        GenLabelSampler().fit_resample(X, np.random.RandomState(0).randint(0, 2, (104, 3)))
