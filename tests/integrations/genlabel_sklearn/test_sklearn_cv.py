"""GenLabelClassifierCV against GenLabelClassifier in a loop, and against GridSearchCV."""

import pickle
import signal
from contextlib import suppress

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn_helpers import Centroids, fitted, through_skops

from genlabel_plugins import GenLabel
from genlabel_plugins._checks import FewRowsWarning
from genlabel_plugins.selection import _joint_training as joint_training
from genlabel_plugins.selection import choice
from genlabel_plugins.selection import search as search_module
from genlabel_plugins.selection._training_table import lexical_order
from genlabel_plugins.selection.search import stratified_splits
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

IRIS = load_iris(return_X_y=True)
WINE = load_wine(return_X_y=True)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=1)
GRID = {"backends": ("gm", "kde"), "gammas": (0.3, 0.9), "learning_rates": (0.1, 0.003), "max_epochs": 10}
SMALL = {"backends": ("gm",), "gammas": (0.5,), "learning_rates": (0.1,), "max_epochs": 5}
SMALL |= {"scoring": "accuracy", "selection": "average", "early_stopping": False}


def classifier(**options):
    return GenLabelClassifierCV(**SMALL | {"n_repeats": 1, "random_state": 0} | options)


def alone(params, **options):
    """The one classifier that has the parameters of a candidate."""
    return GenLabelClassifier(**params, early_stopping=False, random_state=0, **options)


@pytest.mark.slow
@pytest.mark.parametrize("data", [IRIS, WINE], ids=["iris", "wine"])
@pytest.mark.parametrize("shared", [{}, {"head": "mlp", "hidden_layer_sizes": (5,)}, {"keep_clean": True}])
def test_it_is_a_loop_over_classifiers(data, shared):
    X, y = data
    head = {name: value for name, value in shared.items() if name != "keep_clean"}
    schemes = ("none", "mixup", "logistic", "nearest", "genlabel")
    searches = [
        classifier(**GRID | shared, schemes=schemes, cv=FOLDS, selection="best", scoring=scoring).fit(X, y)
        for scoring in ("accuracy", "neg_log_loss")
    ]
    held_out = np.zeros((2, 3, 16))
    for m, params in enumerate(searches[0].cv_results_["params"]):
        one = alone(params, max_epochs=10, **head)
        for i, (train, test) in enumerate(FOLDS.split(X, y)):
            one.fit(X[train], y[train])
            held_out[:, i, m] = one.score(X[test], y[test]), -log_loss(y[test], one.predict_proba(X[test]))
    for search, expected in zip(searches, held_out, strict=True):
        scores = np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(3)])
        np.testing.assert_allclose(scores, expected, atol=2e-3 if shared.get("head") == "mlp" else 1e-4)
        winner = search.cv_results_["params"][int(expected.mean(0).argmax())]
        assert search.best_params_ == winner
        assert search.members_ == [(winner, 1.0)]
        expected_p = alone(winner, max_epochs=10, **head).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(search.predict_proba(X), expected_p, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"head": "mlp", "hidden_layer_sizes": (4,)}, {"mix": "column_cutmix"}])
def test_memory_at_hand_changes_nothing(monkeypatch, options):
    options = SMALL | {"learning_rates": (0.1, 0.01), "cv": FOLDS, "scoring": "neg_log_loss"} | options
    roomy = classifier(**options).fit(*WINE)
    monkeypatch.setattr(search_module, "MAX_ELEMENTS", 1)
    monkeypatch.setattr(joint_training, "CHUNK_ELEMENTS", 1)
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
    assert search.members_ == [(params := search.best_params_, 1.0)]
    expected = {"scheme": "none", "backend": None, "gamma": None, "keep_clean": False, "C": None, "learning_rate": 0.1}
    assert params == expected
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
    weight[weight < choice.LEAST_WEIGHT] = 0
    weight /= weight.sum()
    np.testing.assert_allclose(search.cv_results_["weight"], weight)
    assert sum(share for _, share in search.members_) == pytest.approx(1)
    expected = 0
    for params, share in search.members_:
        one = alone(params, max_epochs=5).fit(*WINE)
        expected = expected + share * one.predict_proba(WINE[0])
    assert len(search.members_) > 1
    np.testing.assert_allclose(search.predict_proba(WINE[0]), expected, atol=1e-4)
    np.testing.assert_allclose(search.predict_proba(WINE[0]).sum(1), 1)


def test_the_generative_classifier_is_the_posterior():
    X, y = WINE[0], np.array(["a", "b", "c"])[WINE[1]]
    kept = np.r_[:100, 130:150]
    for backend in ("gm", "kde"):
        search = classifier(schemes=("density",), backends=(backend,), selection="best").fit(X[kept], y[kept])
        scaled = StandardScaler().fit(X[kept])
        train, new = (torch.from_numpy(scaled.transform(rows)).float() for rows in (X[kept], X))
        genlabel = GenLabel(backend, priors="empirical").fit(train, torch.from_numpy(WINE[1][kept]))
        np.testing.assert_allclose(search.predict_proba(X), genlabel.posterior(new), atol=1e-4)
        assert search.best_params_["learning_rate"] is None


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["balanced_accuracy", "f1_macro", "roc_auc_ovr", "neg_brier_score", "roc_auc"])
def test_scorers_of_scikit_learn(scoring):
    X, y = WINE if scoring != "roc_auc" else (WINE[0][:130], np.array(["b", "a"])[WINE[1][:130]])
    grid = {"gamma": [0.3, 0.9]}
    theirs = GridSearchCV(alone({"learning_rate": 0.1}, max_epochs=5), grid, cv=FOLDS, scoring=scoring).fit(X, y)
    options = {"gammas": (0.3, 0.9), "schemes": ("genlabel",), "selection": "best"}
    ours = classifier(**options, cv=FOLDS, scoring=scoring).fit(X, y)
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-3)
    weight = np.linspace(0.5, 1.5, len(y))
    train, test = next(FOLDS.split(X, y))
    weighed = classifier(**options, cv=[(train, test)], scoring=scoring).fit(X, y, sample_weight=weight)
    one = GenLabelClassifier(**weighed.best_params_, max_epochs=5, random_state=0)
    one.fit(X[train], y[train], sample_weight=weight[train])
    expected = get_scorer(scoring)(one, X[test], y[test], sample_weight=weight[test])
    assert weighed.best_score_ == pytest.approx(expected, rel=1e-3)


def test_scores_that_cannot_be_taken_say_why():
    with pytest.raises(ValueError, match=r"scoring='f1' does not score .*multiclass"):
        classifier(scoring="f1").fit(*IRIS)
    with pytest.raises(ValueError, match=r"'balanced_accuracy'.*get_scorer_names.*got 'precise'"):
        classifier(scoring="precise").fit(*IRIS)


@pytest.mark.slow
def test_the_default_search_is_calibrated_and_as_good_as_logistic_regression():
    X, y = load_breast_cancer(return_X_y=True)
    kept = np.random.RandomState(0).permutation(569)
    learn, test = kept[:200], kept[200:]
    search = GenLabelClassifierCV(random_state=0).fit(X[learn], y[learn])
    theirs = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[learn], y[learn])
    assert search.score(X[test], y[test]) > theirs.score(X[test], y[test]) - 0.02
    ours, base = (log_loss(y[test], m.predict_proba(X[test])) for m in (search, theirs))
    assert ours < 1.1 * base
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = GenLabelClassifier(**search.best_params_, random_state=0).fit(X[learn], y[learn])
    assert ours < 1.05 * log_loss(y[test], best.predict_proba(X[test]))


def test_a_large_table_is_compared_on_a_sample_and_fitted_on_all_rows():
    X, y = make_classification(3000, 6, n_classes=2, weights=[0.99], random_state=0)
    options = {"schemes": ("none",), "learning_rates": None, "Cs": (0.1, 1.0), "selection": "best"}
    search = classifier(**options, max_rows=500).fit(X, y)
    whole = classifier(**options).fit(X, y)
    scores = [one.cv_results_["standard_error_test_score"].mean() for one in (search, whole)]
    assert scores[0] > 1.3 * scores[1]
    one = GenLabelClassifier(**search.best_params_).fit(X, y)
    np.testing.assert_allclose(search.predict_proba(X), one.predict_proba(X))


@pytest.mark.slow
def test_solved_candidates_are_those_of_a_loop():
    X, y = WINE
    options = {"learning_rates": None, "Cs": (0.1, 1.0), "gammas": (0.3, 0.9), "scoring": "neg_log_loss"}
    for keep_clean in (False, True):
        search = classifier(**options, cv=FOLDS, keep_clean=keep_clean).fit(X, y)
        for m, params in enumerate(search.cv_results_["params"]):
            one = GenLabelClassifier(**params, random_state=0)
            held_out = [
                -log_loss(y[test], one.fit(X[train], y[train]).predict_proba(X[test]))
                for train, test in FOLDS.split(X, y)
            ]
            assert search.cv_results_["mean_test_score"][m] == pytest.approx(np.mean(held_out), abs=2e-3), params


def test_groups_are_held_out_together():
    X, y = WINE
    groups = np.arange(178) % 6
    search = classifier(cv=GroupKFold(3)).fit(X, y, groups=groups)
    expected = classifier(cv=list(GroupKFold(3).split(X, y, groups))).fit(X, y)
    assert np.array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    with pytest.raises(ValueError, match=r"groups need a splitter .*GroupKFold, got cv=3"):
        classifier(cv=3).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        classifier(cv=GroupKFold(3)).fit(X, y)


def test_metadata_is_routed():
    X, y = WINE
    groups, weight = np.arange(178) % 6, np.arange(178) % 3 + 1.0
    with config_context(enable_metadata_routing=True):
        search = classifier(cv=GroupKFold(2)).set_fit_request(groups=True, sample_weight=True)
        params = {"groups": groups, "sample_weight": weight}
        steps = StandardScaler().set_fit_request(sample_weight=False), search.set_score_request(sample_weight=True)
        options = {"cv": GroupKFold(3), "return_estimator": True}
        found = cross_validate(make_pipeline(*steps), X, y, params=params, **options)
    for (train, _), pipeline in zip(GroupKFold(3).split(X, y, groups), found["estimator"], strict=True):
        scaled = StandardScaler().fit_transform(X[train])
        expected = classifier(cv=GroupKFold(2)).fit(scaled, y[train], weight[train], groups=groups[train])
        ours = pipeline[-1].cv_results_["mean_test_score"]
        assert np.array_equal(ours, expected.cv_results_["mean_test_score"])


@pytest.mark.parametrize("scheme", ["none", "mixup", "logistic", "nearest", "genlabel", "density"])
def test_a_classifier_with_the_best_parameters_is_the_best_candidate(scheme):
    search = classifier(schemes=(scheme,), backends=("kde",), keep_clean=True, selection="best").fit(*IRIS)
    one = GenLabelClassifier(**search.best_params_, max_epochs=5, random_state=0).fit(*IRIS)
    np.testing.assert_allclose(search.predict_proba(IRIS[0]), one.predict_proba(IRIS[0]), atol=1e-5)
    assert one.set_params(**search.best_params_).get_params()["scheme"] == scheme


def test_decisions_are_log_odds():
    for X, y in (WINE, (WINE[0][:130], WINE[1][:130])):
        search = classifier().fit(X, y)
        for one in (search, GenLabelClassifier(max_epochs=3).fit(X, y)):
            p = one.predict_proba(X)
            expected = np.log(p) if p.shape[1] > 2 else np.log(p[:, 1]) - np.log(p[:, 0])
            np.testing.assert_allclose(one.decision_function(X), expected, atol=1e-6)


@pytest.mark.slow
def test_nested_and_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), classifier(cv=3))
    assert cross_val_score(pipeline, *WINE, cv=3).mean() > 0.9
    search = GridSearchCV(classifier(cv=3), {"selection": ["best", "average"]}, cv=2).fit(*WINE)
    assert search.score(*WINE) > 0.9


def test_it_survives_storage():
    search = classifier(backends=("gm", "kde"), max_epochs=30, head="mlp", hidden_layer_sizes=(8,)).fit(*IRIS)
    assert {params["scheme"] for params, _ in search.members_} >= {"density", "genlabel"}
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


class Swallowing(Centroids):
    """A density whose training ends on Ctrl-C and keeps what it has, as those of networks do."""

    def fit(self, x, target):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return super().fit(x, target)


@pytest.mark.parametrize("make", [lambda b: classifier(backends=(b,)), GenLabelClassifier])
def test_an_interrupt_that_a_training_swallows_ends_the_fit(make):
    estimator, earlier = make(Swallowing()), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(*IRIS)
    finally:
        signal.signal(signal.SIGINT, earlier)
    with pytest.raises(NotFittedError):
        estimator.predict(IRIS[0])


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
        ({"schemes": "none"}, "schemes must be a sequence, .*got 'none'"),
        ({"schemes": ()}, "nothing to choose from: got schemes"),
        ({"backends": ("gmm",)}, "backend must be one of .*'gm'.*got 'gmm'"),
        ({"backends": "gm"}, r"backends must be a sequence, such as \('gm', 'kde'\), got 'gm'"),
        ({"gammas": 0.5}, r"gammas must be a sequence, such as \(0.2, 0.8\), got 0.5"),
        ({"gammas": map(float, "5")}, "gammas must be a sequence, .*got <map"),
        ({"learning_rates": 0.1}, "learning_rates must be a sequence, .*got 0.1"),
        ({"Cs": None, "learning_rates": None}, "Cs must be a sequence, .*got None"),
        ({"Cs": (0,), "learning_rates": None}, "C must be a positive number, got 0"),
        ({"max_rows": 0}, "max_rows must be a positive whole number, got 0"),
        ({"standardize": "yes"}, "standardize must be 'auto', True or False, got 'yes'"),
        ({"backends": ()}, "nothing to choose from for scheme 'genlabel': .*got .*backends"),
        ({"gammas": (0.5, 2)}, r"gamma must lie in \[0, 1\], got 2"),
        ({"learning_rates": (0,)}, "learning_rate must be a positive number, got 0"),
        ({"cv": 1}, "2 folds .* got 1"),
        ({"cv": "five"}, "cv"),
        ({"n_repeats": 0}, "n_repeats must be .*auto.*got 0"),
        ({"mix": None}, "mix must be one of .*'mixup'.*got None"),
        ({"head": "svm"}, "head must be one of .*'mlp'.*got 'svm'"),
        ({"heads": 3}, r"heads must be None or several of .*'mlp'.*got 3"),
    ],
)
def test_options_out_of_range_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        classifier(**params).fit(*IRIS)


def test_few_rows_are_said_once_a_density_and_not_once_a_fold():
    X, y = make_classification(40, 20, n_informative=5, random_state=0)
    search = GenLabelClassifierCV(schemes=("density",), backends=("gm",), n_repeats=2, random_state=0)
    with pytest.warns(FewRowsWarning, match="2 classes have no more rows than the 20 features") as said:
        search.fit(X, y)
    assert len(said) == 1


@pytest.mark.slow
def test_dask_gives_what_one_process_gives():
    from dask import distributed

    search = classifier(cv=3)
    expected = cross_val_score(search, *WINE, cv=3)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        assert np.array_equal(cross_val_score(search, *WINE, cv=3, n_jobs=2), expected)


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    here, there = (classifier(device=device, scoring="neg_log_loss").fit(*WINE) for device in (None, "cuda"))
    np.testing.assert_allclose(here.cv_results_["mean_test_score"], there.cv_results_["mean_test_score"], atol=1e-3)
    np.testing.assert_allclose(here.predict_proba(WINE[0]), there.predict_proba(WINE[0]), atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"head": "mlp", "early_stopping": True}, {"class_weight": "balanced"}])
def test_a_gpu_learns_the_same(options):
    here, there = (fitted(np.linspace(0.5, 1.5, 178), data=WINE, device=device, **options) for device in (None, "cuda"))
    np.testing.assert_allclose(here.predict_proba(WINE[0]), there.predict_proba(WINE[0]), atol=1e-2)
    assert np.array_equal(pickle.loads(pickle.dumps(there)).predict(WINE[0]), there.predict(WINE[0]))


def test_heads_compete_and_are_those_of_the_classifier():
    X, y = WINE
    options = {"schemes": ("none", "density"), "backends": ("gm",), "Cs": (1.0,), "learning_rates": (0.01,)}
    options |= {"hidden_layer_sizes": (6,), "max_epochs": 5, "early_stopping": False, "n_repeats": 1}
    search = GenLabelClassifierCV(heads=("logistic", "mlp"), random_state=0, **options).fit(X, y)
    kinds = [(entry["head"], entry["scheme"]) for entry in search.cv_results_["params"]]
    assert kinds == [("logistic", "none"), ("logistic", "density"), ("mlp", "none")]
    for place, head in ((0, "logistic"), (2, "mlp")):
        one = GenLabelClassifierCV(head=head, random_state=0, selection="best", **options)
        if head == "logistic":
            one.set_params(learning_rates=None)
        alone = one.set_params(schemes=("none",)).fit(X, y).cv_results_
        np.testing.assert_allclose(alone["mean_test_score"][0], search.cv_results_["mean_test_score"][place], atol=1e-4)
    best = GenLabelClassifier(**search.cv_results_["params"][2], random_state=0, hidden_layer_sizes=(6,))
    assert best.set_params(max_epochs=5, early_stopping=False).fit(X, y).score(X, y) > 0.3
    for heads in ("mlp", (), ("mlp", "tree")):
        with pytest.raises(ValueError, match=r"^heads? must be"):
            GenLabelClassifierCV(heads=heads).fit(X, y)
