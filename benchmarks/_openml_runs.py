"""The runs of `openml_suite`: importable, since workers cannot unpickle what a script defines."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genlabel_plugins.diagnostics.questions.density_fit import calibration_error, confidence_bins
from genlabel_plugins.selection import candidate_grid, cross_validate, select
from genlabel_plugins.selection._stacked_training import TrainingOptions, train_stacked
from genlabel_plugins.selection._table import Table
from genlabel_plugins.selection.search import CrossValidation, generative_log_p, network_log_p, repeats_for
from genlabel_sklearn import GenLabelClassifierCV

SCORINGS = ("accuracy", "neg_log_loss")
MIXING = ("vanilla", "mixup", "genlabel")
REFERENCE = "scikit-learn's LogisticRegression()"


class Way(NamedTuple):
    """A choice among the candidates, in the options of `GenLabelClassifierCV`."""

    schemes: tuple[str, ...]
    keep_clean: bool = True
    n_repeats: int | Literal["auto"] = "auto"
    selection: str = "average"
    backends: tuple[str, ...] = ("gm", "kde")


WAYS = {
    "no mixing": Way(("vanilla",), n_repeats=1, selection="best"),
    "mixup": Way(("mixup",), keep_clean=False, n_repeats=1, selection="best"),
    "generative classifier (gm)": Way(("generative",), n_repeats=1, selection="best", backends=("gm",)),
    "GenLabel (CV) of the paper": Way(("mixup", "genlabel"), keep_clean=False, n_repeats=1, selection="best"),
    "+ no mixing competes": Way(MIXING, keep_clean=False, n_repeats=1, selection="best"),
    "+ clean batch kept": Way(MIXING, n_repeats=1, selection="best"),
    "+ repeats, 3 to 10": Way(MIXING, selection="best"),
    "+ one standard error": Way(MIXING, selection="one_standard_error"),
    "+ averaging instead": Way(MIXING),
    "+ the density competes: the default": Way((*MIXING, "generative")),
    "the same without the clean batch": Way((*MIXING, "generative"), keep_clean=False),
    "no mixing, averaged": Way(("vanilla",)),
    "no mixing and the density, averaged": Way(("vanilla", "generative")),
}


def load(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    frame = pd.read_csv(data / "tabular" / f"{name}.csv.gz")
    return frame.drop(columns="class").to_numpy(float), frame["class"].to_numpy()


def run(data: Path, name: str, seed: int, check: bool) -> dict[str, Any]:
    """Test scores of every way by both scorings."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of densities of small classes
    X, y = load(data, name)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    schemes = (*MIXING, "generative")
    candidates = list(
        dict.fromkeys([c for keep in (False, True) for c in candidate_grid(schemes=schemes, keep_clean=keep)])
    )
    x, target, n_classes = torch.from_numpy(X), torch.from_numpy(y), int(y.max()) + 1
    training = int(np.random.RandomState(seed).randint(2**31))  # as GenLabelClassifierCV draws it
    n_repeats = repeats_for(len(x))
    cv = cross_validate(x, target, candidates, n_repeats=n_repeats, seed=training)
    trained = [c for c in candidates if c.is_trained]
    generative = [c for c in candidates if not c.is_trained]
    table = Table.of(x, target)
    networks = train_stacked([table], trained, n_classes, TrainingOptions(), seed=training)
    rows = table.standardise(torch.from_numpy(X_test))
    log_p = [network_log_p(networks, 0, rows), generative_log_p(table, rows, generative, n_classes, training)]
    columns = dict(zip([*trained, *generative], torch.cat(log_p, 2).exp().unbind(2), strict=True))
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y).predict_proba(X_test)
    found: dict[str, Any] = {f"{REFERENCE}|{scoring}": scores(reference, y_test) for scoring in SCORINGS}
    found |= {"set": name, "seed": seed}
    for title, way in WAYS.items():
        members = candidate_grid(schemes=way.schemes, backends=way.backends, keep_clean=way.keep_clean)
        places = [candidates.index(c) for c in members]
        n_splits = len(cv.accuracy) if way.n_repeats == "auto" else len(cv.accuracy) // n_repeats
        part = CrossValidation(
            members, cv.accuracy[:n_splits, places], cv.log_loss[:n_splits, places], cv.n_folds, cv.n_rows
        )
        for scoring in SCORINGS:
            weight = select(part, scoring, way.selection)
            probability = np.sum([w * columns[c].numpy() for c, w in zip(members, weight.tolist(), strict=True)], 0)
            found[f"{title}|{scoring}"] = scores(probability, y_test)
            if check:
                estimator = GenLabelClassifierCV(**way._asdict(), scoring=scoring, random_state=seed).fit(X, y)
                np.testing.assert_allclose(estimator.predict_proba(X_test), probability, atol=1e-3)
    return found


def run_fixed(data: Path, name: str, seed: int) -> list[tuple[str, bool, float, float]]:
    """Test accuracy and log-loss of every scheme and gamma at one learning rate, without any choice."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y = load(data, name)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    grids = [candidate_grid(schemes=MIXING, learning_rates=(0.1,), keep_clean=keep) for keep in (False, True)]
    candidates = list(dict.fromkeys([candidate for grid in grids for candidate in grid]))
    table, n_classes = Table.of(torch.from_numpy(X), torch.from_numpy(y)), int(y.max()) + 1
    networks = train_stacked([table], candidates, n_classes, TrainingOptions(), seed=seed)
    probability = network_log_p(networks, 0, table.standardise(torch.from_numpy(X_test))).exp().numpy()
    found = []
    for m, candidate in enumerate(candidates):
        way = candidate.scheme if candidate.backend is None else f"{candidate.backend}, gamma {candidate.gamma:g}"
        found.append((way, candidate.keep_clean, *scores(probability[:, :, m], y_test)[:2]))
    return found


def scores(probability: np.ndarray, target: np.ndarray) -> list[float]:
    """Accuracy, log-loss and expected calibration error."""
    hit = probability.argmax(1) == target
    likelihood = probability[np.arange(len(target)), target].clip(np.finfo(np.float32).eps, 1)
    bins = confidence_bins(torch.from_numpy(probability.max(1)), torch.from_numpy(hit).double())
    return [float(hit.mean()), float(-np.log(likelihood).mean()), calibration_error(bins)]
