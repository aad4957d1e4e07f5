"""The runs of `openml_suite`: importable, since workers cannot unpickle what a script defines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import load
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from genlabel_plugins.diagnostics.questions.density_fit import calibration_error, confidence_bins
from genlabel_plugins.paper.sceptics import SCEPTICS
from genlabel_plugins.selection import candidate_grid
from genlabel_plugins.selection._candidate_fits import network_log_p
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.choice import CrossValidation
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

SCORINGS = ("accuracy", "neg_log_loss")
BASELINES = ("mixup", "no mixing", "density alone (gm)")
MIXING = ("none", "mixup", "genlabel")

PAPER = {
    "schemes": ("mixup", "genlabel"),
    "gammas": (0.2, 0.4, 0.6, 0.8, 1.0),
    "learning_rates": (0.1, 0.01, 0.001, 0.0001),
    "n_repeats": 1,
    "selection": "best",
}
DEFAULT = "the default: no mixing, mixup, GenLabel and densities, stacked"
ONE, AVERAGE = {"n_repeats": 1, "selection": "best"}, {"selection": "average"}
WAYS: dict[str, dict[str, Any]] = {  # options of GenLabelClassifierCV
    "no mixing": {"schemes": ("none",)} | ONE,
    "mixup": {"schemes": ("mixup",)} | ONE,
    "density alone (gm)": {"schemes": ("density",), "backends": ("gm",)} | ONE,
    "GenLabel (CV) of the paper": PAPER,
    "+ solved, with C in place of the learning rate": {"schemes": ("mixup", "genlabel")} | ONE,
    "+ no mixing competes": {"schemes": MIXING} | ONE,
    "+ repeats and averaging": {"schemes": MIXING} | AVERAGE,
    "+ the density competes": AVERAGE,
    "+ the best single one": {"selection": "best"},
    DEFAULT: {"selection": "stack"},
    "the default with the clean batch": {"selection": "stack", "keep_clean": True},
    "no mixing and the density, stacked": {"schemes": ("none", "density"), "selection": "stack"},
}


class SharedSearch(GenLabelClassifierCV):
    """A search that takes what was compared before, in the same folds, for other scorings and fewer candidates."""

    known: list[CrossValidation]

    def _cross_validate(self, problem: Any, candidates: list[Any], options: Any, groups: Any) -> CrossValidation:
        for cv in self.known:
            if set(candidates) <= set(cv.candidates):
                return part_of(cv, candidates, self.n_repeats)
        cv = super()._cross_validate(problem, candidates, options, groups)
        self.known.append(cv)
        return cv


def part_of(cv: CrossValidation, candidates: list[Any], n_repeats: int | str) -> CrossValidation:
    """What was compared of some candidates, in the first repetition of the folds or in all."""
    places = [cv.candidates.index(candidate) for candidate in candidates]
    splits, rows = (slice(cv.n_folds), slice(cv.n_rows)) if n_repeats == 1 else (slice(None), slice(None))
    return replace(
        cv,
        candidates=candidates,
        accuracy=cv.accuracy[splits, places],
        log_loss=cv.log_loss[splits, places],
        log_likelihood=cv.log_likelihood[rows][:, places],
        weight=cv.weight[rows],
    )


def searches(X: np.ndarray, y: np.ndarray, seed: int) -> Callable[..., GenLabelClassifierCV]:
    """Fits searches of other options to the same rows; what the default compares is compared once for all."""
    known: list[CrossValidation] = []

    def fit(**options: Any) -> GenLabelClassifierCV:
        search = SharedSearch(**options, random_state=seed)
        search.known = known
        return search.fit(X, y)

    fit()
    return fit


def split(data: Path | None, name: str, seed: int) -> list[np.ndarray]:
    """Rows to learn from and to test, and their classes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of densities of small classes, and of classes with fewer rows than folds
    X, y = load(data, name)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)


def run(data: Path | None, name: str, seed: int, ways: Collection[str] | None = None) -> dict[str, Any]:
    """Test scores of ways, by default all, by both scorings, and of scikit-learn's classifiers at their defaults."""
    X, X_test, y, y_test = split(data, name, seed)
    found: dict[str, Any] = {"set": name, "seed": seed}
    for title, make in SCEPTICS.items():
        probability = make(seed).fit(X, y).predict_proba(X_test)
        found |= {f"{title}|{scoring}": scores(probability, y_test) for scoring in SCORINGS}
    fit = searches(X, y, seed)
    for title in ways or WAYS:
        for scoring in SCORINGS:
            search = fit(**WAYS[title], scoring=scoring)
            found[f"{title}|{scoring}"] = scores(search.predict_proba(X_test), y_test)
    return found


def run_short(data: Path | None, name: str, seed: int) -> dict[str, Any]:
    """The default and what it is held to."""
    return run(data, name, seed, (*BASELINES, DEFAULT))


def run_stacking(data: Path | None, name: str, seed: int) -> dict[str, Any]:
    """Test scores of the default search, and of the single candidate that is best in its cross-validation."""
    X, X_test, y, y_test = split(data, name, seed)
    fit = searches(X, y, seed)
    ways = {selection: fit(selection=selection).predict_proba(X_test) for selection in ("stack", "best")}
    return {"set": name, "seed": seed} | {title: scores(found, y_test) for title, found in ways.items()}


def run_fixed(data: Path | None, name: str, seed: int) -> list[tuple[str, bool, float, float]]:
    """Test accuracy and log-loss of every scheme and gamma at one learning rate, without any choice."""
    X, X_test, y, y_test = split(data, name, seed)
    grids = [candidate_grid(schemes=MIXING, learning_rates=(0.1,), keep_clean=keep) for keep in (False, True)]
    candidates = list(dict.fromkeys([candidate for grid in grids for candidate in grid]))
    table, n_classes = TrainingTable.of(torch.from_numpy(X), torch.from_numpy(y)), int(y.max()) + 1
    networks = train_jointly([table], candidates, n_classes, TrainingOptions(), seed=seed)
    probability = network_log_p(networks, 0, table.standardize(torch.from_numpy(X_test))).exp().numpy()
    found = []
    for m, candidate in enumerate(candidates):
        way = candidate.scheme if candidate.backend is None else f"{candidate.backend}, gamma {candidate.gamma:g}"
        found.append((way, candidate.keep_clean, *scores(probability[:, :, m], y_test)[:2]))
    return found


def run_parity(data: Path | None, name: str) -> list[tuple[str, float, float, float]]:
    """How far `LogisticRegression` at its minimum is, by C: a coefficient of standardized columns, the common loss."""
    torch.set_num_threads(1)
    X, y = load(data, name)
    scaler = StandardScaler().fit(X)
    z = scaler.transform(X)
    found = []
    for C in (0.01, 1.0, 100.0):
        theirs = LogisticRegression(C=C, solver="newton-cg", tol=1e-10, max_iter=100_000).fit(z, y)
        ours = GenLabelClassifier(scheme="none", C=C, standardize=True, random_state=0).fit(X, y)
        coef = ours.coef_ * scaler.scale_
        losses = [
            log_loss(y, model.predict_proba(rows)) + 0.5 * np.square(w).sum() / (C * len(y))
            for model, rows, w in ((ours, X, coef), (theirs, z, theirs.coef_))
        ]
        found.append((name, C, float(abs(coef - theirs.coef_).max()), abs(losses[0] - losses[1])))
    return found


def scores(probability: np.ndarray, target: np.ndarray) -> list[float]:
    """Accuracy, log-loss and expected calibration error."""
    hit = probability.argmax(1) == target
    likelihood = probability[np.arange(len(target)), target].clip(np.finfo(np.float32).eps, 1)
    bins = confidence_bins(torch.from_numpy(probability.max(1)), torch.from_numpy(hit).double())
    return [float(hit.mean()), float(-np.log(likelihood).mean()), calibration_error(bins)]
