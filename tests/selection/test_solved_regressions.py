"""Solved logistic regressions, against scikit-learn's and against scipy on the same mixed rows."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from genlabel_plugins.densities._components import looks_like_components
from genlabel_plugins.selection import _softmax_regression
from genlabel_plugins.selection._candidate_batches import CandidateBatches, MixOptions, fit_relabelers
from genlabel_plugins.selection._softmax_regression import softmax_regressions
from genlabel_plugins.selection._solved_regressions import solve_candidates
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate, candidate_grid
from genlabel_plugins.selection.search import cross_validate


def table(load=load_wine, kept=slice(None), **options):
    X, y = load(return_X_y=True)
    return TrainingTable.of(torch.from_numpy(X[kept]).double(), torch.from_numpy(y[kept]), **options)


def solved(table, candidates, n_classes=3, options=None, **more):
    relabelers = fit_relabelers(table, [c.backend for c in candidates], n_classes, "uniform", 0)
    return solve_candidates([table], candidates, n_classes, options or MixOptions(), [relabelers], **more)


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_digits])
@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_clean_rows_give_the_coefficients_of_scikit_learn(load, C):
    rows = table(load)
    n_classes = int(rows.target.max()) + 1
    networks = solved(rows, [Candidate(scheme="none", C=C)], n_classes)
    weight, bias = (part[0].numpy().T for part in networks.network(0, 0))
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(rows.x.double().numpy(), rows.target)
    if n_classes == 2:
        np.testing.assert_allclose(weight.sum(0), 0, atol=1e-4)
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-3)
    np.testing.assert_allclose(bias - bias.mean() * (n_classes > 2), theirs.intercept_, atol=1e-3)


@pytest.mark.parametrize("weighing", ["rows", "classes", "both"])
def test_weights_are_those_of_scikit_learn(weighing):
    X, y = (torch.from_numpy(part) for part in load_wine(return_X_y=True))
    weight = torch.rand(len(y), generator=torch.Generator().manual_seed(0)).double() + 0.3
    class_weight = torch.tensor([2.0, 0.5, 1.0]).double()
    rows = TrainingTable.of(
        X, y, None if weighing == "classes" else weight, None if weighing == "rows" else class_weight
    )
    networks = solved(rows, [Candidate(scheme="none", C=0.3)])
    # The table sorts its rows; scikit-learn sees them as they were.
    z = ((X - rows.mean) / rows.scale).numpy()
    share = (weight if weighing != "classes" else 1) * (class_weight[y] if weighing != "rows" else 1)
    theirs = LogisticRegression(C=0.3, tol=1e-10, max_iter=10_000).fit(z, y, sample_weight=share)
    np.testing.assert_allclose(networks.network(0, 0)[0][0].T, theirs.coef_, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("keep_clean", [False, True])
@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
def test_mixed_rows_give_the_minimum_that_scipy_finds(mix, keep_clean):
    rows, options = table(), MixOptions(mix=mix)
    candidates = candidate_grid(
        schemes=("mixup", "logistic", "nearest", "genlabel"), gammas=(0.3, 1.0), Cs=(0.05, 2.0), keep_clean=keep_clean
    )
    networks = solved(rows, candidates, options=options, seed=5)
    bare = candidate_grid(schemes=("mixup", "logistic", "nearest", "genlabel"), gammas=(0.3, 1.0), Cs=(0.05, 2.0))
    batches = CandidateBatches(
        rows, bare, 3, MixOptions(mix=mix, batch_size=178), torch.Generator().manual_seed(5), per_sample=True
    )
    copies = [batches.label(batches.epochs.draw(1), 178) for _ in range(10)]
    x_mix = torch.cat([copy.x[0] for copy in copies]).double().numpy()
    clean = rows.x.double().numpy(), np.eye(3)[rows.target]
    for m in range(0, len(candidates), 3):
        policy = batches.policies.index((bare[m].scheme, bare[m].backend, bare[m].gamma))
        y_mix = torch.cat([copy.y[0, ..., policy] for copy in copies]).double().numpy()

        def loss(w, y_mix=y_mix, C=bare[m].C):
            coef, bias = w[:39].reshape(13, 3), w[39:]
            mixed = -(y_mix * log_softmax(x_mix @ coef + bias, 1)).sum(1).mean()
            kept = -(clean[1] * log_softmax(clean[0] @ coef + bias, 1)).sum(1).mean()
            return ((kept + mixed) / 2 if keep_clean else mixed) + (coef**2).sum() / (2 * C * 178)

        weight, bias = (part[0].numpy() for part in networks.network(0, m))
        ours = np.concatenate([weight.ravel(), bias])
        assert loss(ours) <= minimize(loss, np.zeros(42), options={"maxiter": 300}).fun + 1e-7, candidates[m]


def test_tables_and_candidates_together_are_each_alone():
    tables = [table(kept=slice(n, None)) for n in (0, 1, 2)]
    candidates = candidate_grid(backends=("gm",), gammas=(0.5,), Cs=(0.01, 1.0, 100.0))
    relabelers = [fit_relabelers(rows, ["gm"], 3, "uniform", 0) for rows in tables]
    together = solve_candidates(tables, candidates, 3, MixOptions(), relabelers)
    rough = solve_candidates(tables, candidates, 3, MixOptions(), relabelers, exact=False)
    for f, rows in enumerate(tables):
        for m, candidate in enumerate(candidates):
            alone = solve_candidates([rows], [candidate], 3, MixOptions(), [relabelers[f]])
            np.testing.assert_allclose(together.network(f, m)[0][0], alone.network(0, 0)[0][0], atol=1e-3)
            p, q = (
                net.of_table(f)(rows.x[None].to(net.weights[0])).softmax(2)[0, ..., m].detach()
                for net in (together, rough)
            )
            np.testing.assert_allclose(p, q, atol=0.02)


@pytest.mark.slow
def test_a_table_wider_than_long_is_written_in_its_span():
    few = np.random.default_rng(0).permutation(1797)[:40]
    narrow, wide = (table(load_digits, few, in_span=in_span) for in_span in (True, False))
    assert narrow.x.shape[1] < 40 < wide.x.shape[1] == 64
    candidates = candidate_grid(schemes=("none", "mixup", "genlabel"), backends=("gm",), gammas=(0.5,), Cs=(0.1, 1.0))
    new = torch.from_numpy(load_digits().data)
    for m, candidate in enumerate(candidates):
        if candidate.scheme == "genlabel":
            continue  # floors of a covariance see the features
        p, q = (
            solved(rows, candidates, 10)(rows.standardize(new)[None].double())[0, ..., m].softmax(1).detach()
            for rows in (narrow, wide)
        )
        np.testing.assert_allclose(p, q, atol=1e-5, err_msg=str(candidate))


def test_numbers_that_are_hard_to_descend():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 50, 3, generator=generator).double() * torch.tensor([1e4, 1.0, 1e-4]).double()
    y = torch.eye(2).double()[(x[0, :, 2] > 0).long()][None, ..., None]
    weight = torch.full((1, 50), 0.02).double()
    for penalty in (1e-8, 1e-3, 1e3):
        [(coef, intercept)] = softmax_regressions(x, weight, y, [(torch.tensor([penalty]), torch.tensor([0]))])
        z = torch.einsum("frd,fdck->frck", x, coef) + intercept[:, None]
        p = z.softmax(2)
        gradient = torch.einsum("fr,frd,frck->fdck", weight, x, p - y) + penalty * coef
        size = torch.einsum("fr,frd,frck->fdck", weight, x.abs(), y)
        assert float((gradient.abs() / size).max()) < 1e-4


@pytest.mark.slow
def test_a_weak_penalty_is_solved_to_the_end():
    rows = table(load_digits, slice(400))
    theirs = LogisticRegression(C=1000.0, tol=1e-10, max_iter=500, solver="newton-cholesky")
    expected = theirs.fit(rows.x.double().numpy(), rows.target).coef_.T
    coef = solved(rows, [Candidate(scheme="none", C=1000.0)], 10).weights[0].detach()[0, :, :, 0].numpy()
    np.testing.assert_allclose(
        coef - coef.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=1e-3
    )


def test_components_are_told_from_other_columns():
    X = torch.from_numpy(load_wine().data)
    z = (X - X.mean(0)) / X.std(0)
    components = z @ torch.linalg.svd(z, full_matrices=False)[2].T
    for part in (components, components[::2], components[:, :5], components[:, :5].float(), 1e-6 * components):
        assert looks_like_components(part)
    dummies = torch.rand(100, 4, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.5, 0.4, 0.3, 0.2])
    dummies = dummies.double() - dummies.double().mean(0)
    independent = torch.randn(200, 300, generator=torch.Generator().manual_seed(0)).double()
    independent[:, :10] *= 3  # a few matter more, the others come in no order
    independent -= independent.mean(0)
    few = components[::2, :5]  # may be any five columns that happen to fall
    for part in (X, z, components + 1, components.flip(1), z * torch.logspace(-8, 8, 13), dummies, independent, few):
        assert not looks_like_components(part)


@pytest.mark.parametrize("n_features", [2, 3, 5, 9, 10, 15])
def test_columns_drawn_by_chance_are_not_taken_for_components(n_features):
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(500, 3 * n_features, n_features, generator=generator)
    assert sum(map(looks_like_components, tables)) <= 1


def test_splits_whose_rows_span_fewer_dimensions_are_solved_with_the_others():
    x, target = (torch.from_numpy(part[:30]) for part in load_digits(return_X_y=True))
    x[10:20] = x[:10]  # two of the splits have 19 different rows, one has 10
    splits = [(np.arange(20), np.arange(20, 30)), (np.arange(10, 30), np.arange(10)), (np.arange(5, 30), np.arange(5))]
    candidates = candidate_grid(schemes=("none", "genlabel"), backends=("gm",), gammas=(0.5,), Cs=(0.01, 1.0))
    options = {"n_classes": 10, "n_folds": 2}
    together = cross_validate(x, target, candidates, splits=splits, **options)
    alone = [cross_validate(x, target, candidates, splits=[split], **options).log_loss for split in splits]
    torch.testing.assert_close(together.log_loss, torch.cat(alone), atol=2e-3, rtol=0)


def test_labels_that_sum_to_one_but_for_rounding_have_a_minimum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 55, 54, generator=generator).double()
    y = torch.randn(1, 55, 4, 1, generator=generator).double().mul(9).softmax(2)
    weight, stages = torch.full((1, 55), 1 / 55).double(), [(torch.tensor([0.02]).double(), torch.tensor([0]))]
    wanted, found = (softmax_regressions(x, weight, part, stages, tol=1e-15) for part in (y, y * (1 + 1e-6)))
    for want, have in zip(wanted[0], found[0], strict=True):
        torch.testing.assert_close(have, want, atol=1e-5, rtol=0)


def test_penalties_at_once_are_solved_as_one_after_another_and_as_scikit_learn(monkeypatch):
    x, target = (torch.from_numpy(part) for part in load_iris(return_X_y=True))
    x = ((x - x.mean(0)) / x.std(0, correction=0))[None]
    y, weight = torch.eye(3).double()[target][None, ..., None], torch.full((1, 150), 1 / 150).double()
    Cs = (0.01, 1.0, 100.0)
    penalties, first = 1 / (150 * torch.tensor([Cs]).double()), torch.tensor([0])
    [(at_once, _)] = softmax_regressions(x, weight, y, [(penalties, first.expand(3))], tol=1e-15)
    monkeypatch.setattr(_softmax_regression, "SAFE", 0.0)  # as if exponentials could overflow
    stages = [(penalties[:, [k]], first) for k in range(3)]
    in_turn = torch.cat([coef for coef, _ in softmax_regressions(x, weight, y, stages, tol=1e-15)], 3)
    torch.testing.assert_close(at_once, in_turn, atol=2e-5, rtol=0)
    for k, C in enumerate(Cs):
        theirs = LogisticRegression(C=C, tol=1e-12, max_iter=1000, solver="newton-cholesky").fit(x[0].numpy(), target)
        np.testing.assert_allclose(at_once[0, :, :, k], theirs.coef_.T, atol=1e-4)
