"""What a cross-validation found, in the form of `GridSearchCV`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from genlabel_plugins.selection import Candidate
from genlabel_plugins.selection.choice import CrossValidation


def cv_results(cv: CrossValidation, scoring: str, weight: Tensor) -> dict[str, Any]:
    """Results in the form of `GridSearchCV`, one entry a candidate, which names its head where several compete."""
    params = [_params(candidate) for candidate in cv.candidates]
    if {"solved", "trained"} <= {candidate.kind for candidate in cv.candidates}:
        for candidate, entry in zip(cv.candidates, params, strict=True):
            entry["head"] = "mlp" if candidate.kind == "trained" else "logistic"
    score = cv.score(scoring).numpy()
    mean = cv.mean(scoring).numpy()
    results: dict[str, Any] = {"params": params}
    for name in params[0]:
        column = np.empty(len(params), dtype=object)
        column[:] = [entry[name] for entry in params]
        results[f"param_{name}"] = np.ma.masked_array(column, mask=[value is None for value in column])
    for place, split in enumerate(score):
        results[f"split{place}_test_score"] = split
    results["mean_test_score"] = mean
    results["std_test_score"] = score.std(0)
    results["standard_error_test_score"] = cv.standard_error(scoring).numpy()
    results["rank_test_score"] = 1 + np.array([(mean > own).sum() for own in mean])
    results["weight"] = weight.numpy()
    return results


def _params(candidate: Candidate) -> dict[str, Any]:
    """Parameters of a candidate as `GenLabelClassifier` takes them; None where it has none."""
    return {
        "scheme": candidate.scheme,
        "backend": candidate.backend,
        "gamma": candidate.gamma if candidate.scheme == "genlabel" else None,
        "keep_clean": candidate.keep_clean,
        "C": candidate.C if candidate.kind == "solved" else None,
        "learning_rate": candidate.learning_rate,
    }
