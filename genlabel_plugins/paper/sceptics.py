"""What a sceptic sets beside every scheme: scikit-learn's classifiers at their defaults."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from genlabel_plugins.paper.data import Rows
from genlabel_plugins.paper.scores import Predictions
from genlabel_plugins.selection.search import stratified_splits

SCEPTICS: dict[str, Callable[[int], BaseEstimator]] = {
    "RandomForest": lambda seed: RandomForestClassifier(random_state=seed),
    "ExtraTrees": lambda seed: ExtraTreesClassifier(random_state=seed),
    # SVC at its defaults gives no probabilities; Platt's sigmoid is fitted to its held-out scores.
    "SVC": lambda seed: make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False, cv=3)),
    "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "LogisticRegression": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
}


def fit_sceptic(rows: Rows, name: str, seed: int, *, quick: bool = False) -> Predictions:
    """Fit one of them, and once more without each of 5 folds (2 for quick) to find its temperature."""
    classifier = SCEPTICS[name](seed)
    held_out = [
        (_log_p(clone(classifier), rows.x[train], rows.y[train], rows.x[test], rows.n_classes), rows.y[test])
        for train, test in stratified_splits(rows.y, 2 if quick else 5, seed=seed)
    ]
    test = _log_p(classifier, rows.x, rows.y, np.concatenate([rows.x_test, rows.x]), rows.n_classes)
    accuracy = float((test[len(rows.x_test) :].argmax(1) == rows.y).mean())
    return Predictions(test[: len(rows.x_test)], held_out, accuracy, "defaults")


def _log_p(classifier: Any, x: Any, y: Any, x_new: Any, n_classes: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds
        classifier.fit(x, y)
        probability = np.zeros((len(x_new), n_classes))
        probability[:, classifier.classes_] = classifier.predict_proba(x_new)
    with np.errstate(divide="ignore"):
        return np.log(probability)
