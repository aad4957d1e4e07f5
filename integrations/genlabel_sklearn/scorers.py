"""Scorers: scikit-learn's names of scores, as functions of held-out probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names
from torch import Tensor

from genlabel_plugins.selection.choice import SCORINGS
from genlabel_plugins.selection.search import Scorer
from genlabel_sklearn.stored_models import Array


class _HeldOut(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What a scorer takes for a classifier: it has predicted its rows already."""

    def __init__(self, probability: Array, classes: NDArray[Any]) -> None:
        self.probability = probability
        self.classes_ = classes

    def predict_proba(self, X: Any) -> Array:
        return self.probability

    def predict(self, X: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.classes_[self.probability.argmax(1)]
        return found


def check_scoring(scoring: Any) -> None:
    """Raise `ValueError` on a scoring that is no name of scikit-learn's."""
    if not (isinstance(scoring, str) and scoring in get_scorer_names()):
        raise ValueError(
            f"scoring must be one of {SCORINGS}, 'balanced_accuracy' or another name of a classifier's score in "
            f"sklearn.metrics.get_scorer_names(), got {scoring!r}"
        )


def make_scorers(scoring: str, classes: NDArray[Any], *, is_weighted: bool) -> dict[str, Scorer]:
    """The scorer of that name, unless cross-validation takes that score anyway.

    Args:
        scoring: Name of a score that takes predictions or probabilities.
        classes: Class names, shape `(C,)`.
        is_weighted: Whether held-out rows count by their weights.
    """
    if scoring in SCORINGS:
        return {}
    scorer = get_scorer(scoring)

    def score(probability: Tensor, target: Tensor, weight: Tensor) -> float:
        p = probability.double().numpy(force=True)
        p /= p.sum(1, keepdims=True)  # in the float64 that scikit-learn checks
        options = {"sample_weight": weight.numpy(force=True)} if is_weighted else {}
        try:
            found = float(scorer(_HeldOut(p, classes), p, classes[target.numpy(force=True)], **options))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"scoring={scoring!r} does not score these held-out rows: {error}") from error
        if not np.isfinite(found):
            raise ValueError(f"scoring={scoring!r} is {found} on held-out rows, got classes {np.unique(target.cpu())}")
        return found

    return {scoring: score}
