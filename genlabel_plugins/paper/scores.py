"""What a record says of one fitted classifier: accuracy, log-loss, ranking and calibration on the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from genlabel_plugins.densities._temperature import best_temperature
from genlabel_plugins.diagnostics.questions.density_fit import calibration_error, confidence_bins

MEASURES = ("accuracy", "log_loss", "scaled_log_loss", "auc", "calibration", "train_accuracy")
LEAST = float(np.log(np.finfo(np.float32).eps))


class Predictions(NamedTuple):
    """Log-probabilities of one classifier.

    Attributes:
        test: Of the test rows, shape `(T, C)`.
        held_out: Of training rows by fits that did not see them, with their classes, to find a temperature.
        train_accuracy: Share of the training rows that it classifies correctly, if that is of interest.
        chosen: What cross-validation chose, in words.
    """

    test: NDArray[np.float64]
    held_out: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]] = ()
    train_accuracy: float | None = None
    chosen: str = ""


def score(predicted: Predictions, y_test: NDArray[np.int64]) -> dict[str, float | str | None]:
    """Measures of a classifier, by name; what does not apply is None.

    Example:
        >>> certain = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> {name: value for name, value in score(Predictions(certain), np.array([0, 1, 1])).items() if value}
        {'accuracy': 0.6666666666666666, 'log_loss': 0.4149..., 'auc': 1.0, 'calibration': 0.3}
    """
    log_p = np.maximum(predicted.test, LEAST)
    found: dict[str, float | str | None] = {
        "accuracy": float((log_p.argmax(1) == y_test).mean()),
        "log_loss": _log_loss(log_p, y_test),
        "scaled_log_loss": None,
        "auc": float(roc_auc_score(y_test, log_p[:, 1] - log_p[:, 0])) if log_p.shape[1] == 2 else None,
        "calibration": _calibration(log_p, y_test),
        "train_accuracy": predicted.train_accuracy,
        "chosen": predicted.chosen,
    }
    if predicted.held_out:
        held_out = [(torch.from_numpy(np.maximum(p, LEAST)), torch.from_numpy(y)) for p, y in predicted.held_out]
        cooled = torch.from_numpy(log_p / best_temperature(held_out)).log_softmax(1).numpy()
        found["scaled_log_loss"] = _log_loss(np.maximum(cooled, LEAST), y_test)
    return found


def _log_loss(log_p: NDArray[np.float64], target: NDArray[np.int64]) -> float:
    return float(-log_p[np.arange(len(target)), target].mean())


def _calibration(log_p: NDArray[np.float64], target: NDArray[np.int64]) -> float:
    hit = torch.from_numpy(log_p.argmax(1) == target).double()
    return round(calibration_error(confidence_bins(torch.from_numpy(np.exp(log_p.max(1))), hit)), 6)
