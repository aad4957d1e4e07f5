"""Cross-validation and the rules that choose, against formulas and folds written out."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_wine
from sklearn.model_selection import RepeatedStratifiedKFold, ShuffleSplit

from genlabel_plugins import GenLabel
from genlabel_plugins.selection import cross_validate, select
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate, candidate_grid
from genlabel_plugins.selection.choice import LEAST_WEIGHT, CrossValidation
from genlabel_plugins.selection.search import stratified_splits
from genlabel_sklearn.classifier_cv import cv_results

X, Y = (torch.from_numpy(part) for part in load_wine(return_X_y=True))
GRID = candidate_grid(backends=("gm",), gammas=(0.5,), learning_rates=(0.1, 0.001))
RATES = (0.1, 0.01, 0.001, 0.0001)
FEW = TrainingOptions(max_epochs=3)


def results(accuracy, n_folds=5, n_rows=100):
    accuracy = torch.as_tensor(accuracy, dtype=torch.float64)
    candidates = [Candidate(scheme="none", learning_rate=2.0**-m) for m in range(accuracy.shape[1])]
    return CrossValidation(candidates, accuracy, 1 - accuracy, n_folds, n_rows)


def test_an_unknown_backend_is_refused_before_anything_is_fitted():
    with pytest.raises(ValueError, match=r"backend must be one of \[.*'gm'.*\], got 'gmm'"):
        candidate_grid(backends=("gm", "gmm"))


def test_the_grid_is_every_combination_from_simple_to_rich():
    grid = candidate_grid(
        schemes=("density", "none", "mixup", "genlabel"),
        backends=("kde", "gm"),
        gammas=(0.9, 0.1, 0.9),
        learning_rates=RATES,
        keep_clean=True,
    )
    assert len(grid) == len(set(grid)) == 2 + 4 + 4 + 2 * 2 * 4
    order = ["density"] * 2 + ["none"] * 4 + ["mixup"] * 4 + ["genlabel"] * 16
    assert [c.scheme for c in grid] == order
    assert [c.gamma for c in grid[10:]] == [0.1] * 8 + [0.9] * 8
    assert {c.scheme for c in grid if c.keep_clean} == {"mixup", "genlabel"}
    with pytest.raises(ValueError, match=r"nothing to choose from for scheme 'genlabel': got .*gammas \(\)"):
        candidate_grid(gammas=())
    with pytest.raises(TypeError, match="'genlabel' needs a backend"):
        Candidate(scheme="genlabel")


def test_best_is_the_first_of_the_best():
    cv = results([[0.8, 0.9, 0.9, 0.7], [0.7, 0.9, 0.9, 0.9]])
    assert select(cv, "accuracy", "best").tolist() == [0, 1, 0, 0]
    assert select(cv, "neg_log_loss", "best").tolist() == [0, 1, 0, 0]


def test_the_same_scores_in_another_order_are_a_tie():
    rng = np.random.default_rng(0)
    for _ in range(50):
        score = rng.integers(40, 51, 15) / 50
        cv = results(np.stack([score - 0.1, score, rng.permutation(score)], 1))
        assert select(cv, "accuracy", "best").tolist() == [0, 1, 0]
        ranked = cv_results(cv, "accuracy", torch.ones(3))
        assert ranked["rank_test_score"].tolist() == [3, 1, 1]
        np.testing.assert_allclose(ranked["mean_test_score"][1], score.mean(), rtol=1e-11)


def test_one_standard_error_takes_the_simplest_within():
    rng = np.random.default_rng(0)
    score = 0.8 + 0.02 * rng.standard_normal((10, 1)) + np.array([-0.03, -0.004, -0.002, 0.0])
    error = score[:, 3].std(ddof=1) / np.sqrt(5)  # two repeats of five folds
    assert 0.004 < error < 0.03
    cv = results(score)
    np.testing.assert_allclose(cv.standard_error("accuracy")[3], error)
    assert select(cv, "accuracy", "one_standard_error").tolist() == [0, 1, 0, 0]
    assert torch.equal(results([[0.5, 0.6]]).standard_error("accuracy"), torch.zeros(2).double())


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_average_weighs_by_the_formula(scoring):
    cv = results([[0.8, 0.81, 0.6], [0.82, 0.83, 0.7]], n_rows=60)
    mean = cv.score(scoring).numpy().mean(0)
    weight = np.exp(30 * (mean - mean.max()))
    assert weight[0] > LEAST_WEIGHT > 0
    weight[weight < LEAST_WEIGHT] = 0
    np.testing.assert_allclose(select(cv, scoring, "average"), weight / weight.sum())


def test_stacking_finds_the_average_of_least_log_loss():
    rng = np.random.default_rng(0)
    likelihood = np.column_stack([rng.beta(5, 1, 300), rng.beta(1, 1, 300), np.full(300, 0.4), rng.beta(2, 1, 300)])
    weight = rng.uniform(0.5, 2, 300)
    cv = dataclasses.replace(
        results(np.full((1, 4), 0.5)),
        log_loss=torch.from_numpy(-np.log(likelihood).mean(0, keepdims=True)),
        log_likelihood=torch.from_numpy(np.log(likelihood)),
        weight=torch.from_numpy(weight),
    )

    def loss(w):
        return -weight @ np.log(likelihood @ w) / weight.sum()

    stacked = select(cv, "accuracy", "stack")
    sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=sums_to_one, tol=1e-12)
    np.testing.assert_allclose(stacked, best.x, atol=5e-3)
    assert loss(stacked.numpy()) <= min(loss(w) for w in np.eye(4))
    with pytest.raises(ValueError, match="'stack' needs the log_likelihood"):
        select(results([[0.5, 0.6]]), "accuracy", "stack")


def test_stacking_gives_a_third_to_the_best_by_itself():
    likelihood = np.array([[0.9, 0.1, 0.4], [0.1, 0.9, 0.4]] * 2)
    log_loss = -np.log(likelihood).mean(0)  # 1.2, 1.2, 0.9; the average of the former two has 0.7
    cv = dataclasses.replace(
        results(np.full((1, 3), 0.5), n_rows=4),
        log_loss=torch.from_numpy(log_loss[None]),
        log_likelihood=torch.from_numpy(np.log(likelihood)),
        weight=torch.ones(4).double(),
    )
    single = log_loss**-2 / (log_loss**-2).sum()
    np.testing.assert_allclose(select(cv, "accuracy", "stack"), [1 / 3, 1 / 3, 0] + single / 3, atol=1e-8)


def test_stacking_takes_the_best_alone_unless_an_average_gains_a_quarter_of_a_nat():
    alike, unlike = np.array([[0.6, 0.5], [0.6, 0.62]] * 3), np.array([[0.9, 0.2], [0.3, 0.9]] * 3)
    for table, gains in ((alike, False), (unlike, True)):
        log_likelihood = torch.from_numpy(np.log(table))
        cv = dataclasses.replace(
            results(np.full((1, 2), 0.5), n_rows=6),
            log_loss=-log_likelihood.mean(0, keepdim=True),
            log_likelihood=log_likelihood,
            weight=torch.ones(6).double(),
        )
        weight = select(cv, "neg_log_loss", "stack")
        best = int(cv.log_loss[0].argmin())
        assert (float(weight[best]) == 1) is not gains
        gain = np.log(table @ weight.numpy()).sum() - np.log(table[:, best]).sum()
        assert gain > 0.25 if gains else gain == 0


def test_unknown_names_list_the_known():
    cv = results([[0.5, 0.6]])
    with pytest.raises(ValueError, match=r"scoring must be one of .*'neg_log_loss'.*got 'auc'"):
        select(cv, "auc", "best")
    with pytest.raises(ValueError, match=r"selection must be one of .*'average'.*got 'worst'"):
        select(cv, "accuracy", "worst")


def test_held_out_scores_by_hand():
    splits = stratified_splits(Y.numpy(), 3, 1, 0)
    weight = torch.rand(178, generator=torch.Generator().manual_seed(0)) + 0.1
    generative = Candidate(scheme="density", backend="gm")
    cv = cross_validate(X, Y, [generative], splits=splits, weight=weight)
    for (train, test), accuracy, log_loss in zip(splits, cv.accuracy, cv.log_loss, strict=True):
        table = TrainingTable.of(X[train], Y[train], weight[train])
        rows = table.density_rows
        genlabel = GenLabel("gm", priors=table.class_share(3)).fit(table.x[rows], table.target[rows])
        p = genlabel.posterior(table.standardize(X[test])).double().numpy()
        true = Y[test].numpy()
        share = weight[test].numpy() / weight[test].numpy().sum()
        np.testing.assert_allclose(accuracy, share @ (p.argmax(1) == true), rtol=1e-6)
        np.testing.assert_allclose(log_loss, -share @ np.log(np.maximum(p[range(len(true)), true], 1.2e-7)), rtol=1e-5)


@pytest.mark.parametrize(
    ("splitter", "n_folds"),
    [(RepeatedStratifiedKFold(n_splits=4, n_repeats=2, random_state=0), 4), (ShuffleSplit(3, test_size=0.5), 2)],
)
def test_the_standard_error_knows_the_folds_of_any_splitter(splitter, n_folds):
    cv = cross_validate(X, Y, GRID, splits=list(splitter.split(X, Y)), options=FEW)
    expected = cv.accuracy.numpy().std(0, ddof=1) / np.sqrt(n_folds)
    np.testing.assert_allclose(cv.standard_error("accuracy"), expected)


@pytest.mark.filterwarnings("ignore:.*no more rows than")
def test_folds_are_as_many_as_the_largest_class_has_rows():
    few = torch.tensor([0, 1, 2, 59, 60, 130])  # three rows, two and one
    splits = stratified_splits(Y[few].numpy(), 5, 2, 0)
    assert len(splits) == 6
    cv = cross_validate(X[few], Y[few], GRID, n_repeats=2, options=FEW)
    assert cv.n_folds == 3
    assert cv.accuracy.shape == (6, len(GRID))
    assert torch.isfinite(cv.log_loss).all()
    for target, n_folds in ((np.arange(5), 5), (np.zeros(9), 1)):
        with pytest.raises(ValueError, match="2 folds and a class of 2 rows, got"):
            stratified_splits(target, n_folds)


def test_a_split_without_weight_is_refused():
    weight = torch.ones(178)
    splits = stratified_splits(Y.numpy(), 3)
    weight[splits[1][1]] = 0
    with pytest.raises(ValueError, match="split 1 must hold out a row of positive weight, got none of 59"):
        cross_validate(X, Y, GRID, splits=splits, weight=weight, options=FEW)


def test_weights_that_repeat_rows_count_as_rows():
    count = torch.arange(178) % 3
    splits = stratified_splits(Y.numpy(), 3)
    place = torch.arange(178).repeat_interleave(count)
    repeated = [tuple(torch.isin(place, torch.from_numpy(part)).nonzero()[:, 0].numpy() for part in s) for s in splits]
    weighed = cross_validate(X, Y, GRID, splits=splits, weight=count, options=FEW)
    expected = cross_validate(X[place], Y[place], GRID, splits=repeated, options=FEW)
    np.testing.assert_allclose(weighed.accuracy, expected.accuracy)
    np.testing.assert_allclose(weighed.log_loss, expected.log_loss)
    assert weighed.n_rows == expected.n_rows == int(count.sum())
