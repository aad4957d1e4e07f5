"""GenLabelClassifierCV against GenLabelClassifier in a loop, and against GridSearchCV."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from dask import distributed
from sklearn.datasets import load_iris, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_sklearn_classifier import Centroids, fitted, through_skops

from genlabel_plugins import GenLabel
from genlabel_plugins.selection import _stacked_training as stacked_training
from genlabel_plugins.selection import search as selection
from genlabel_plugins.selection._table import lexical_order
from genlabel_plugins.selection.search import stratified_splits
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

IRIS = load_iris(return_X_y=True)
WINE = load_wine(return_X_y=True)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=1)
GRID = {"backends": ("gm", "kde"), "gammas": (0.3, 0.9), "learning_rates": (0.1, 0.003), "max_epochs": 10}
SMALL = {"backends": ("gm",), "gammas": (0.5,), "learning_rates": (0.1,), "max_epochs": 5}


def classifier(**options):
    return GenLabelClassifierCV(**SMALL | {"n_repeats": 1, "random_state": 0} | options)


def alone(params, **options):
    """The one classifier that has the parameters of a candidate."""
    label = {"genlabel": "genlabel", "logistic": "logistic", "nearest": "nearest"}.get(params["scheme"], "linear")
    return GenLabelClassifier(
        params["backend"] or "gm",
        gamma=params["gamma"] or 0.0,
        label=label,
        mix=None if params["scheme"] == "vanilla" else "mixup",
        learning_rate=params["learning_rate"],
        random_state=0,
        **options,
    )


@pytest.mark.parametrize("data", [IRIS, WINE], ids=["iris", "wine"])
@pytest.mark.parametrize("shared", [{}, {"head": "mlp", "hidden_layer_sizes": (5,)}, {"keep_clean": False}])
def test_it_is_a_loop_over_classifiers(data, shared):
    X, y = data
    schemes = ("vanilla", "mixup", "logistic", "nearest", "genlabel")
    searches = [
        classifier(**GRID | shared, schemes=schemes, cv=FOLDS, selection="best", scoring=scoring).fit(X, y)
        for scoring in ("accuracy", "neg_log_loss")
    ]
    held_out = np.zeros((2, 3, 16))
    for m, params in enumerate(searches[0].cv_results_["params"]):
        one = alone(params, max_epochs=10, **shared)
        for i, (train, test) in enumerate(FOLDS.split(X, y)):
            one.fit(X[train], y[train])
            held_out[:, i, m] = one.score(X[test], y[test]), -log_loss(y[test], one.predict_proba(X[test]))
    for search, expected in zip(searches, held_out, strict=True):
        scores = np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(3)])
        np.testing.assert_allclose(scores, expected, atol=2e-3 if shared.get("head") == "mlp" else 1e-4)
        winner = search.cv_results_["params"][int(expected.mean(0).argmax())]
        assert search.best_params_ == winner
        assert search.members_ == [(winner, 1.0)]
        expected_p = alone(winner, max_epochs=10, **shared).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(search.predict_proba(X), expected_p, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"head": "mlp", "hidden_layer_sizes": (4,)}, {"mix": "column_cutmix"}])
def test_memory_at_hand_changes_nothing(monkeypatch, options):
    options = SMALL | {"learning_rates": (0.1, 0.01), "cv": FOLDS, "scoring": "neg_log_loss"} | options
    roomy = classifier(**options).fit(*WINE)
    monkeypatch.setattr(selection, "MAX_ELEMENTS", 1)
    monkeypatch.setattr(stacked_training, "CHUNK_ELEMENTS", 1)
    tight = classifier(**options).fit(*WINE)
    for name in ("mean_test_score", "split2_test_score", "weight"):
        np.testing.assert_allclose(tight.cv_results_[name], roomy.cv_results_[name], atol=1e-4)
    np.testing.assert_allclose(tight.predict_proba(WINE[0]), roomy.predict_proba(WINE[0]), atol=1e-4)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_results_are_those_of_grid_search(scoring):
    grid = {"gamma": [0.3, 0.9], "learning_rate": [0.1, 0.003, 1e-5]}
    search = GridSearchCV(GenLabelClassifier(max_epochs=6, random_state=0), grid, cv=FOLDS, scoring=scoring).fit(*IRIS)
    options = {"gammas": (0.3, 0.9), "learning_rates": (0.1, 0.003, 1e-5), "max_epochs": 6, "schemes": ("genlabel",)}
    ours = classifier(**options, cv=FOLDS, scoring=scoring).fit(*IRIS)
    theirs = search.cv_results_
    missing = theirs.keys() - ours.cv_results_.keys()
    assert missing == {f"{part}_{of}_time" for part in ("mean", "std") for of in ("fit", "score")}  # trained at once
    for name in theirs.keys() - missing - {"params"}:
        exact = name.startswith("param_")
        np.testing.assert_allclose(
            np.ma.getdata(ours.cv_results_[name]).astype(float),
            np.ma.getdata(theirs[name]).astype(float),
            rtol=0 if exact else 1e-4,
            atol=0 if exact else 1e-6,
        )
    for a, b in zip(ours.cv_results_["params"], theirs["params"], strict=True):
        assert {name: a[name] for name in b} == b
    assert ours.best_index_ == search.best_index_
    assert ours.best_score_ == pytest.approx(search.best_score_, rel=1e-4)


def test_ties_go_to_the_simplest():
    X, y = IRIS[0][:100], IRIS[1][:100]  # two classes, far apart: all are right on all rows
    search = classifier(max_epochs=20, selection="best").fit(X, y)
    assert search.cv_results_["mean_test_score"].tolist() == [1.0] * 4
    assert search.cv_results_["rank_test_score"].tolist() == [1] * 4
    assert search.best_index_ == 0
    assert search.members_ == [({"scheme": "vanilla", "backend": None, "gamma": None, "learning_rate": 0.1}, 1.0)]
    averaged = classifier(max_epochs=20).fit(X, y)
    assert [weight for _, weight in averaged.members_] == [0.25] * 4


def test_one_standard_error_takes_the_simplest_within():
    for cv in (FOLDS, 3):
        search = classifier(learning_rates=(1e-6, 0.1), cv=cv, selection="one_standard_error").fit(*WINE)
        mean, error = (search.cv_results_[f"{name}_test_score"] for name in ("mean", "standard_error"))
        assert np.isfinite(error).all()
        first = int(np.argmax(mean >= mean.max() - error[mean.argmax()]))
        assert mean[0] < mean.max() - error[mean.argmax()]  # the first does not learn
        assert search.members_ == [(search.best_params_, 1.0)] == [(search.cv_results_["params"][first], 1.0)]


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_the_average_is_of_members_by_their_weights(scoring):
    search = classifier(scoring=scoring, learning_rates=(0.1, 0.01)).fit(*WINE)
    score = search.cv_results_["mean_test_score"]
    weight = np.exp(0.5 * 178 * (score - score.max()))
    weight[weight < selection.LEAST_WEIGHT] = 0
    weight /= weight.sum()
    np.testing.assert_allclose(search.cv_results_["weight"], weight)
    assert sum(share for _, share in search.members_) == pytest.approx(1)
    expected = 0
    for params, share in search.members_:
        if params["scheme"] == "generative":
            one = classifier(schemes=("generative",)).fit(*WINE)
        else:
            one = alone(params, max_epochs=5).fit(*WINE)
        expected = expected + share * one.predict_proba(WINE[0])
    assert len(search.members_) > 1
    np.testing.assert_allclose(search.predict_proba(WINE[0]), expected, atol=1e-4)
    np.testing.assert_allclose(search.predict_proba(WINE[0]).sum(1), 1)


def test_the_generative_classifier_is_the_posterior():
    X, y = WINE[0], np.array(["a", "b", "c"])[WINE[1]]
    kept = np.r_[:100, 130:150]
    for backend in ("gm", "kde"):
        search = classifier(schemes=("generative",), backends=(backend,), selection="best").fit(X[kept], y[kept])
        scaled = StandardScaler().fit(X[kept])
        train, new = (torch.from_numpy(scaled.transform(rows)).float() for rows in (X[kept], X))
        genlabel = GenLabel(backend, priors="empirical").fit(train, torch.from_numpy(WINE[1][kept]))
        np.testing.assert_allclose(search.predict_proba(X), genlabel.posterior(new), atol=1e-4)
        assert search.best_params_["learning_rate"] is None


def test_all_kinds_of_folds():
    X, y = IRIS
    by_splitter, by_list, by_pairs = (
        classifier(cv=cv).fit(X, y) for cv in (FOLDS, list(FOLDS.split(X, y)), FOLDS.split(X, y))
    )
    number = classifier(cv=3, n_repeats=2).fit(X, y)
    seed = int(np.random.RandomState(0).randint(2**31))
    order = lexical_order(np.column_stack([X, y]))
    by_hand = classifier(cv=stratified_splits(y[order], 3, 2, seed)).fit(X[order], y[order])
    assert by_splitter.n_splits_ == by_list.n_splits_ == 3
    assert number.n_splits_ == by_hand.n_splits_ == 6
    for a, b in ((by_splitter, by_list), (by_splitter, by_pairs), (number, by_hand)):
        for name, column in a.cv_results_.items():
            if name.endswith(("_score", "weight")):
                assert np.array_equal(column, b.cv_results_[name]), name
    assert classifier(cv=KFold(3, shuffle=True)).fit(X, y).n_splits_ == 3
    assert classifier(cv=2, n_repeats="auto", max_epochs=1).fit(X, y).n_splits_ == 2 * 10  # of 150 rows
    assert classifier(cv=None, max_epochs=1).fit(X, y, sample_weight=np.full(150, 7)).n_splits_ == 5
    thousand = classifier(cv=2, n_repeats="auto", max_epochs=1).fit(X, y, sample_weight=np.full(150, 7))
    assert thousand.n_splits_ == 2 * 3


def test_the_order_of_rows_and_how_repetitions_are_written_do_not_matter():
    X, y = IRIS
    rng = np.random.default_rng(0)
    weight, order = rng.integers(0, 3, len(y)), rng.permutation(len(y))
    repeated = classifier(cv=3).fit(X.repeat(weight, 0), y.repeat(weight))
    weighted = classifier(cv=3).fit(X[order], y[order], sample_weight=weight[order])
    assert np.array_equal(repeated.cv_results_["mean_test_score"], weighted.cv_results_["mean_test_score"])
    assert np.array_equal(repeated.predict_proba(X), weighted.predict_proba(X))


def test_nested_and_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), classifier(cv=3))
    assert cross_val_score(pipeline, *WINE, cv=3).mean() > 0.9
    search = GridSearchCV(classifier(cv=3), {"selection": ["best", "average"]}, cv=2).fit(*WINE)
    assert search.score(*WINE) > 0.9


def test_it_survives_storage():
    search = classifier(backends=("gm", "kde"), max_epochs=30, head="mlp", hidden_layer_sizes=(8,)).fit(*IRIS)
    assert {params["scheme"] for params, _ in search.members_} >= {"generative", "genlabel"}
    for copy in (pickle.loads(pickle.dumps(search)), through_skops(search)):
        assert np.array_equal(copy.predict_proba(IRIS[0]), search.predict_proba(IRIS[0]))
        assert copy.best_params_ == search.best_params_


@pytest.mark.parametrize("kept", [np.r_[:50, 50:80, 100:103], np.r_[:50, 50:80, 100], np.r_[:100], np.r_[:3, 50:52]])
@pytest.mark.filterwarnings("ignore:.*no more rows than")
def test_small_classes(kept):
    X, y = IRIS[0][kept], IRIS[1][kept]
    search = classifier().fit(X, y)
    assert search.classes_.tolist() == sorted(set(y))
    assert search.n_splits_ == min(5, np.bincount(y).max())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    probability = search.predict_proba(IRIS[0])
    assert probability.shape == (150, len(search.classes_))
    np.testing.assert_allclose(probability.sum(1), 1)
    assert search.score(X, y) > 0.7


def test_weights_are_those_of_repeated_rows():
    X, y = WINE
    count = np.arange(178) % 3
    place = np.arange(178).repeat(count)
    splits = list(FOLDS.split(X, y))
    repeated = [tuple(np.isin(place, part).nonzero()[0] for part in split) for split in splits]
    for scoring in ("accuracy", "neg_log_loss"):
        a = classifier(cv=splits, scoring=scoring).fit(X, y, count)
        b = classifier(cv=repeated, scoring=scoring).fit(X[place], y[place])
        np.testing.assert_allclose(a.cv_results_["mean_test_score"], b.cv_results_["mean_test_score"], rtol=1e-5)
        np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=1e-5)


def test_an_interrupt_is_not_mistaken_for_a_result():
    with pytest.raises(KeyboardInterrupt):
        classifier(schemes=("mixup", "genlabel"), backends=(Centroids(calls=0),)).fit(*IRIS)


def test_a_density_that_knows_its_rows_only_says_so_where_a_fold_lacks_the_last_class():
    X, y = WINE[0][:150], WINE[1][:150].copy()
    y[:], y[75:149], y[149] = 0, 1, 2  # one row, held out by one of the folds
    with pytest.raises(ValueError, match=r"no row of the last of 3 classes.*Centroids.*n_classes"):
        classifier(backends=(Centroids(),)).fit(X, y)


def test_a_bar_shows_progress(capsys):
    classifier(verbose=True).fit(*IRIS)
    assert "candidates, 5 splits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scoring": "auc"}, "scoring must be one of .*'neg_log_loss'.*got 'auc'"),
        ({"selection": "all"}, "selection must be one of .*'one_standard_error'.*got 'all'"),
        ({"schemes": ("cutmix",)}, "scheme must be one of .*'genlabel'.*got 'cutmix'"),
        ({"schemes": ()}, "nothing to choose from: got schemes"),
        ({"backends": ("gmm",)}, "backend must be one of .*'gm'.*got 'gmm'"),
        ({"backends": "gm"}, r"backends must be a sequence, such as \('gm', 'kde'\), got 'gm'"),
        ({"gammas": 0.5}, r"gammas must be a sequence, such as \(0.2, 0.8\), got 0.5"),
        ({"gammas": map(float, "5")}, "gammas must be a sequence, .*got <map"),
        ({"learning_rates": None}, "learning_rates must be a sequence, .*got None"),
        ({"backends": ()}, "nothing to choose from for scheme 'genlabel': .*got .*backends"),
        ({"gammas": (0.5, 2)}, r"gamma must lie in \[0, 1\], got 2"),
        ({"learning_rates": (0,)}, "learning_rate must be a positive number, got 0"),
        ({"cv": 1}, "2 folds .* got 1"),
        ({"cv": "five"}, "cv"),
        ({"n_repeats": 0}, "n_repeats must be .*auto.*got 0"),
        ({"mix": None}, "mix must be one of .*'mixup'.*got None"),
        ({"head": "svm"}, "head must be one of .*'mlp'.*got 'svm'"),
    ],
)
def test_options_out_of_range_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        classifier(**params).fit(*IRIS)


def test_dask_gives_what_one_process_gives():
    search = classifier(cv=3)
    expected = cross_val_score(search, *WINE, cv=3)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        assert np.array_equal(cross_val_score(search, *WINE, cv=3, n_jobs=2), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same():
    here, there = (classifier(device=device, scoring="neg_log_loss").fit(*WINE) for device in (None, "cuda"))
    np.testing.assert_allclose(here.cv_results_["mean_test_score"], there.cv_results_["mean_test_score"], atol=1e-3)
    np.testing.assert_allclose(here.predict_proba(WINE[0]), there.predict_proba(WINE[0]), atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{}, {"head": "mlp", "early_stopping": True}, {"class_weight": "balanced"}])
def test_a_gpu_learns_the_same(options):
    here, there = (fitted(np.linspace(0.5, 1.5, 178), data=WINE, device=device, **options) for device in (None, "cuda"))
    np.testing.assert_allclose(here.predict_proba(WINE[0]), there.predict_proba(WINE[0]), atol=1e-2)
    assert np.array_equal(pickle.loads(pickle.dumps(there)).predict(WINE[0]), there.predict(WINE[0]))
