"""GenLabelClassifier as a user of scikit-learn meets it."""

import pickle
import warnings
from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn_helpers import IRIS, WINE, Centroids, classifier, fitted, through_skops

from genlabel_plugins import make_backend, register_backend, unregister_backend
from genlabel_plugins.densities import _training as training
from genlabel_plugins.selection import _joint_training as joint_training
from genlabel_plugins.selection import search
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True))


@pytest.mark.slow
def test_frames_and_names_of_classes():
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    learnt = classifier().fit(X, names)
    assert learnt.feature_names_in_.tolist() == list(X.columns)
    assert learnt.classes_.tolist() == sorted(set(names))
    assert learnt.score(X, names) > 0.9
    assert same(learnt, fitted())
    np.testing.assert_allclose(np.exp(learnt.predict_log_proba(X)), learnt.predict_proba(X))
    with pytest.raises(ValueError, match="feature names"):
        learnt.predict(X.rename(columns={X.columns[0]: "width"}))
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted().predict(X.to_numpy()[:, :3])


def test_pipelines():
    X, y = IRIS
    scaled = make_pipeline(StandardScaler(), classifier()).fit(X, y)
    np.testing.assert_allclose(scaled.predict_proba(X), fitted().predict_proba(X), atol=1e-4)
    frame = pd.DataFrame({"length": X[:, 2], "kind": np.where(X[:, 3] > 1, "wide", "slim")})
    columns = make_column_transformer((OneHotEncoder(sparse_output=False), ["kind"]), remainder="passthrough")
    assert make_pipeline(columns, classifier("kde")).fit(frame, y).score(frame, y) > 0.8
    with pytest.raises(TypeError, match="Sparse data"):
        make_pipeline(OneHotEncoder(), classifier()).fit(X, y)


def test_grid_search_and_clone():
    grid = {"gamma": [0.0, 0.5], "learning_rate": [1e-5, 0.1], "backend": ["gm", make_backend("kde")]}
    search = GridSearchCV(classifier(max_epochs=5), grid, cv=3).fit(*IRIS)
    assert search.best_params_["learning_rate"] == 0.1
    assert str(clone(search.best_estimator_).get_params()) == str(search.best_estimator_.get_params())
    twice = classifier(max_epochs=5), *(part.repeat(2, 0) for part in IRIS)
    halves = KFold(2).split(np.arange(150))  # of rows in pairs
    folds = [tuple((2 * part[:, None] + [0, 1]).ravel() for part in split) for split in halves]
    weighed = cross_val_score(classifier(max_epochs=5), *IRIS, cv=KFold(2), params={"sample_weight": np.full(150, 2)})
    assert np.array_equal(weighed, cross_val_score(*twice, cv=folds))


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_it_survives_storage(tmp_path, head):
    learnt = fitted(head=head, hidden_layer_sizes=(8,), early_stopping=True)
    joblib.dump(learnt, tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(learnt)), joblib.load(tmp_path / "model"), through_skops(learnt)):
        assert np.array_equal(copy.predict_proba(IRIS[0]), learnt.predict_proba(IRIS[0]))
        assert copy.get_params() == learnt.get_params()


def test_early_stopping_keeps_the_best_epoch():
    options = {"early_stopping": True, "validation_fraction": 0.3, "learning_rate": 0.5, "n_iter_no_change": 5}
    learnt = fitted(data=WINE, max_epochs=100, **options)
    curve = learnt.validation_loss_curve_
    best = int(np.argmin(curve)) + 1
    assert learnt.n_iter_ == len(curve) == len(learnt.loss_curve_) == best + 5 < 100
    assert same(learnt, fitted(data=WINE, max_epochs=best, **options))
    assert not same(learnt, fitted(data=WINE, max_epochs=best + 1, **options | {"early_stopping": False}))
    with pytest.raises(ValueError, match="holds out no row of 9"):
        classifier(early_stopping=True).fit(IRIS[0][::17], IRIS[1][::17])


def test_the_loss_curve_falls():
    learnt = fitted(scheme="none")
    assert learnt.n_iter_ == len(learnt.loss_curve_) == 20
    assert learnt.validation_loss_curve_ is None
    assert learnt.loss_curve_[-1] < 0.2 < learnt.loss_curve_[0] < np.log(3)


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_warm_start_goes_on(head):
    learnt = classifier(head=head, hidden_layer_sizes=(8,), warm_start=True, learning_rate=0.01, scheme="none")
    first = learnt.fit(*IRIS).loss_curve_
    second = learnt.fit(*IRIS).loss_curve_
    assert abs(second[0] - first[-1]) < 0.05 < first[0] - first[-1]
    assert second[-1] < first[-1]
    with pytest.raises(ValueError, match=r"2 features.*4 features"):
        deepcopy(learnt).fit(IRIS[0][:, :2], IRIS[1])
    with pytest.raises(ValueError, match=r"classes \[.*0.*1.*2.*got .*\[.*0.*1"):
        deepcopy(learnt).fit(IRIS[0][:100], IRIS[1][:100])
    with pytest.raises(ValueError, match="layers"):
        deepcopy(learnt).set_params(head="mlp", hidden_layer_sizes=(5,)).fit(*IRIS)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_weights_repeat_rows_and_order_does_not_matter(early_stopping):
    X, y = WINE
    rng = np.random.default_rng(0)
    count, order = rng.integers(0, 4, len(y)), rng.permutation(len(y))
    options = {"early_stopping": early_stopping, "validation_fraction": 0.2, "n_iter_no_change": 3}
    repeated = fitted(data=(X.repeat(count, 0), y.repeat(count)), **options)
    assert same(fitted(count, data=WINE, **options), repeated)
    assert same(fitted(count[order], data=(X[order], y[order]), **options), repeated)
    relative = fitted(count + 0.5, data=WINE, **options)
    assert same(fitted((count + 0.5)[order], data=(X[order], y[order]), **options), relative)
    assert not same(relative, fitted(data=WINE, **options))


def test_rows_of_no_weight_do_not_say_what_columns_are():
    X, y = WINE
    components = PCA().fit_transform(StandardScaler().fit_transform(X))
    weight = np.ones(len(y) + 1)
    weight[-1] = 0
    far, target = np.vstack([components, np.full(13, 1e4)]), np.append(y, 0)
    with_it = GenLabelClassifier(scheme="none").fit(far, target, weight)
    without = GenLabelClassifier(scheme="none").fit(components, y)
    assert same(with_it, without)
    with pytest.warns(UserWarning, match="1000 standard deviations"):
        with_it.predict(far[-1:])


def test_a_fit_that_fails_leaves_nothing_that_answers():
    class Fails(Centroids):
        def fit(self, x, target):
            raise RuntimeError("no fit")

    search = GenLabelClassifierCV(n_repeats=1, schemes=("density",))
    for model, failing in (
        (GenLabelClassifier(), {"backend": Fails()}),
        (GenLabelClassifier(scheme="density"), {"backend": Fails()}),
        (search, {"backends": (Fails(),)}),
    ):
        for learnt in (model, deepcopy(model).fit(*IRIS)):
            with pytest.raises(RuntimeError, match="no fit"):
                learnt.set_params(**failing).fit(IRIS[0][:100], IRIS[1][:100])
            with pytest.raises(NotFittedError):
                learnt.predict(IRIS[0])


def test_weights_pull_towards_what_they_weigh():
    data = make_classification(300, flip_y=0.3, random_state=0)
    weight = np.where(data[1] == 1, 2.5, 0.5)
    rate = {name: learnt.predict_proba(data[0])[:, 1].mean() for name, learnt in {
        "plain": fitted(data=data),
        "rows": fitted(weight, data=data),
        "class": fitted(data=data, class_weight={0: 0.5, 1: 2.5}),
        "both": fitted(weight, data=data, class_weight={0: 5.0, 1: 1.0}),
    }.items()}  # fmt: skip
    assert rate["plain"] == pytest.approx(0.5, abs=0.05)
    assert rate["rows"] > 0.6
    assert rate["class"] > 0.6
    assert rate["both"] == pytest.approx(0.5, abs=0.08)


def test_balanced_classes_count_alike():
    X, y = make_classification(600, weights=[0.9], flip_y=0.2, class_sep=0.5, random_state=0)
    plain, balanced = (fitted(data=(X, y), class_weight=weight) for weight in (None, "balanced"))
    assert balanced.predict(X)[y == 1].mean() > plain.predict(X)[y == 1].mean() + 0.2
    by_hand = dict(enumerate(len(y) / (2 * np.bincount(y))))
    assert same(balanced, fitted(data=(X, y), class_weight=by_hand))


def test_without_trust_it_is_mixup_and_without_mixing_labels_do_not_matter():
    assert same(fitted(gamma=0), fitted(scheme="mixup"))
    assert not same(fitted(gamma=0.5), fitted(scheme="mixup"))
    plain = fitted(scheme="none")
    for options in ({"mix": "column_cutmix"}, {"gamma": 1.0}, {"backend": "kde"}, {"backend": None, "gamma": None}):
        assert same(plain, fitted(scheme="none", **{"keep_clean": False} | options))
    assert not same(plain, fitted(scheme="mixup"))


@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
@pytest.mark.parametrize("scheme", ["genlabel", "mixup", "logistic", "nearest"])
@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_every_label_learns(scheme, mix, head):
    assert fitted(data=WINE, scheme=scheme, mix=mix, head=head, hidden_layer_sizes=[16]).score(*WINE) > 0.9


@pytest.mark.parametrize("backend", ["gm", "kde", "nn", make_backend("gm", covariance_type="diag"), Centroids()])
def test_every_backend_learns_and_is_left_as_it_was(backend):
    learnt = fitted(backend=backend, gamma=1.0, keep_clean=False)
    assert learnt.score(*IRIS) > 0.85
    assert not hasattr(backend, "mean")
    assert getattr(backend, "offset_", None) is None
    assert not same(learnt, fitted(scheme="mixup", keep_clean=False))


def test_a_registered_backend_learns():
    register_backend("centroids-of-a-test")(Centroids)
    try:
        assert same(fitted(backend="centroids-of-a-test"), fitted(backend=Centroids()))
    finally:
        unregister_backend("centroids-of-a-test")


def test_the_seed_decides():
    options = {"head": "mlp", "hidden_layer_sizes": (4,), "max_epochs": 3}
    assert same(fitted(random_state=3, **options), fitted(random_state=np.random.RandomState(3), **options))
    assert not same(fitted(random_state=3, **options), fitted(random_state=4, **options))
    before = torch.get_rng_state()
    fitted(random_state=None, **options)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bar_shows_progress(capsys):
    fitted(verbose=True)
    assert "train" in capsys.readouterr().err
    fitted()
    assert capsys.readouterr().err == ""


def test_an_interrupt_keeps_what_is_learnt(monkeypatch):
    monkeypatch.setattr(joint_training, "CHUNK_ELEMENTS", 1)  # a step is labelled when its time comes
    with pytest.warns(UserWarning, match="interrupted"):
        learnt = fitted(backend=Centroids(calls=11))  # two batches an epoch
    assert learnt.n_iter_ == len(learnt.loss_curve_) == 5
    assert learnt.score(*IRIS) > 0.8


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head": "linear"}, "head must be one of .'logistic', 'mlp'., got 'linear'"),
        ({"scheme": "soft"}, "scheme must be one of .*'nearest'.*got 'soft'"),
        ({"mix": "cutmix"}, "mix must be one of .*'column_cutmix'.*got 'cutmix'"),
        ({"mix": None}, "mix must be one of .*'column_cutmix'.*got None"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be a positive whole number, got 0"),
        ({"keep_clean": "no"}, "keep_clean must be True or False, got 'no'"),
        ({"early_stopping": 1}, "early_stopping must be 'auto', True or False, got 1"),
        ({"backend": None}, "backend must be .*log_prob, got None"),
        ({"early_stopping": True, "validation_fraction": "x"}, "validation_fraction must lie .*got 'x'"),
        ({"backend": "gmm"}, "backend must be one of .*'gm'.*got 'gmm'"),
        ({"priors": "flat"}, "priors must be 'uniform'.*got 'flat'"),
        ({"priors": [0.5, 0.5]}, "3 numbers, one per class, got 2"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"gamma": "high"}, "got 'high'"),
        ({"alpha": 0}, "alpha must be a positive number, got 0"),
        ({"alpha": np.inf}, "got inf"),
        ({"max_epochs": 0}, "max_epochs must be a positive whole number, got 0"),
        ({"max_epochs": 2.5}, "got 2.5"),
        ({"batch_size": 0.5}, "batch_size must be a positive whole number, got 0.5"),
        ({"batch_size": "auto"}, "got 'auto'"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0, got -1"),
        ({"learning_rate": 0}, "learning_rate must be a positive number, got 0"),
        ({"learning_rate": "adaptive"}, "got 'adaptive'"),
        ({"early_stopping": True, "validation_fraction": 1}, "validation_fraction must lie between 0 and 1, got 1"),
        ({"device": "gpu"}, "device must be .*got 'gpu'.*cuda"),
        ({"class_weight": "even"}, "'balanced'.* or None. Got 'even'"),
        ({"class_weight": {0: -1.0, 1: 1.0, 2: 1.0}}, "class_weight must be numbers from 0, .*got .*-1.0"),
        ({"class_weight": dict.fromkeys(range(3), 0.0)}, "class_weight must be .*got .*0.0"),
        ({"head": "mlp", "hidden_layer_sizes": 5}, "hidden_layer_sizes must hold positive whole numbers, got 5"),
        ({"head": "mlp", "hidden_layer_sizes": (8, 0)}, r"got \(8, 0\)"),
        ({"head": "mlp", "hidden_layer_sizes": "wide"}, "got 'wide'"),
    ],
)
def test_options_out_of_range_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        fitted(**params)


@pytest.mark.parametrize(
    ("X", "y", "weight", "message"),
    [
        (IRIS[0], IRIS[0][:, 0], None, "Unknown label type: continuous"),
        (IRIS[0], IRIS[1] * 0, None, "at least two classes.*got one class: .*0"),
        (IRIS[0], IRIS[1], (IRIS[1] == 1) * 1.0, "at least two classes.*positive weight.*one class: .*1"),
        (np.where(IRIS[0] > 7, np.nan, IRIS[0]), IRIS[1], None, "Input X contains NaN"),
        (IRIS[0], IRIS[1], -np.ones(150), "sample_weight must not be negative, got -1"),
    ],
)
def test_rows_that_teach_nothing_are_refused(X, y, weight, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, y, weight)


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_digits])
@pytest.mark.parametrize("C", [0.1, 1.0])
def test_without_mixing_it_is_logistic_regression(load, C):
    X, y = load(return_X_y=True)
    for standardize, X_theirs in ((True, StandardScaler().fit_transform(X)), (False, X - X.mean(0))):
        theirs = LogisticRegression(C=C, tol=1e-9, max_iter=100_000).fit(X_theirs, y)
        ours = GenLabelClassifier(scheme="none", C=C, standardize=standardize).fit(X, y)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X_theirs), atol=2e-4)
        scale = X.std(0) if standardize else 1
        np.testing.assert_allclose(
            np.squeeze(ours.coef_ * np.where(scale == 0, 1, scale)), np.squeeze(theirs.coef_), atol=1e-3
        )


@pytest.mark.parametrize("backend", ["gm", "kde"])
@pytest.mark.parametrize("steps", [[], [PCA()], [PCA(40)]], ids=["raw", "all", "40"])
def test_densities_of_few_rows_are_as_good_behind_a_pca(steps, backend):
    X, y = load_digits(return_X_y=True)
    X, X_new, y, y_new = train_test_split(X, y, train_size=60, stratify=y, random_state=21)

    def score(model):
        return make_pipeline(StandardScaler(), *steps, model).fit(X, y).score(X_new, y_new)

    # 42 to 58 % where covariances are shrunk to their diagonals along the components of the rows
    assert score(GenLabelClassifier(backend, scheme="density")) > score(LogisticRegression()) - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [60, 100])
@pytest.mark.parametrize("steps", [[], [PCA()], [PCA(40)], [PCA(0.95)]], ids=["raw", "all", "40", "95"])
def test_a_pipeline_that_has_scaled_already_keeps_its_components(n_rows, steps):
    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(1).permutation(len(X))
    learn, test = order[:n_rows], order[n_rows:]
    theirs, ours = (
        make_pipeline(StandardScaler(), *steps, model).fit(X[learn], y[learn])
        for model in (LogisticRegression(max_iter=2000), GenLabelClassifier(scheme="none"))
    )
    assert abs(ours.score(X[test], y[test]) - theirs.score(X[test], y[test])) < 0.003
    genlabel = make_pipeline(StandardScaler(), *steps, GenLabelClassifier(random_state=0)).fit(X[learn], y[learn])
    assert genlabel.score(X[test], y[test]) > theirs.score(X[test], y[test]) - 0.03


def test_rows_far_outside_what_was_learnt_are_named():
    X, y = load_wine(return_X_y=True, as_frame=True)
    learnt = GenLabelClassifier(random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learnt.predict(X)
        learnt.predict(5 * X)
    far = X.copy()
    far.loc[3, "ash"] = -1e6
    with pytest.warns(UserWarning, match=r"'ash' of .* over 1000 .* at -1e\+06 where .* 1.36 and 3.23"):
        learnt.predict(far)
    blown_up = make_pipeline(PCA(), GenLabelClassifier(standardize=True, random_state=0))
    few = np.random.RandomState(0).permutation(1797)[:60]
    digits, digit = load_digits(return_X_y=True)
    with pytest.warns(UserWarning, match=r"column 59 and \d+ more of new rows"):
        blown_up.fit(digits[few], digit[few]).predict(digits)


def test_options_of_another_way_to_fit_are_refused():
    with pytest.raises(ValueError, match=r"early_stopping=True needs a network .* set learning_rate or head='mlp'"):
        GenLabelClassifier(early_stopping=True).fit(*IRIS)
    with pytest.raises(ValueError, match="C must be a positive number, got -1"):
        GenLabelClassifier(C=-1).fit(*IRIS)
    with pytest.raises(TypeError, match=r"OneHotEncoder\(sparse_output=False\).*X.toarray"):
        GenLabelClassifier().fit(csr_matrix(IRIS[0]), IRIS[1])


@pytest.mark.slow
def test_a_long_training_is_announced(monkeypatch):
    monkeypatch.setattr(training, "LONG", 0.01)
    with pytest.warns(UserWarning, match=r"train: the first epoch .* max_epochs=500"):
        fitted(max_epochs=500)
    monkeypatch.setattr(search, "MAX_ELEMENTS", 1)  # one split a turn
    with pytest.warns(UserWarning, match=r"32 candidates, 5 splits: the first turn took"):
        GenLabelClassifierCV(n_repeats=1).fit(*make_classification(100, 5))


def test_networks_with_hidden_layers_stop_early_by_default():
    X, y = make_classification(400, 10, n_informative=6, flip_y=0.2, random_state=0)
    learnt = GenLabelClassifier(head="mlp", scheme="none", random_state=0).fit(X, y)
    curve = learnt.validation_loss_curve_
    assert len(curve) == learnt.n_iter_ == int(np.argmin(curve)) + 11 < 100
    assert GenLabelClassifier(head="mlp", max_epochs=12).fit(X[:50], y[:50]).validation_loss_curve_ is None


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_units_do_not_matter(head):
    X, y = WINE
    X = StandardScaler().fit_transform(X)
    options = {"head": head, "hidden_layer_sizes": (8,)}
    expected = fitted(data=(X, y), **options).predict_proba(X)
    for other in (X + 1e6, X * np.logspace(-8, 8, 13), X * 1e8 - 1e12):
        probability = fitted(data=(other, y), **options).predict_proba(other)
        np.testing.assert_allclose(probability, expected, atol=2e-3)
    constant = np.column_stack([X, np.full(len(X), 0.1), np.full(len(X), -1e9)])
    score = fitted(data=(constant, y), **options).score(constant, y)
    np.testing.assert_allclose(score, np.mean(expected.argmax(1) == y), atol=0.03 if head == "mlp" else 0)
