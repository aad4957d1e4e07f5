"""How well a backend's generative classifier does on rows that it has not seen, and how far its certainty is true."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from sklearn.metrics import log_loss
from torch import Tensor

from genlabel_plugins.densities._temperature import HOTTEST, best_temperature
from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.diagnostics.questions._folds import make_splits
from genlabel_plugins.diagnostics.reading.labeled_table import MIN_ROWS_PER_CLASS, LabeledTable
from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.scoring import fit_copy, held_out, hits

TRUSTED_ACCURACY = 0.95  # the paper's rule of thumb
MIN_HELD_OUT = 20  # rows from which on the rule of thumb is applied
N_BINS = 15
MAX_TRAINED_ROWS = 1000  # of backends that train a network


@dataclass(frozen=True)
class ConfidenceBin:
    """Held-out rows of about the same certainty: how sure the model was of its class, and how often it was right."""

    confidence: float
    accuracy: float
    n_rows: int


@dataclass(frozen=True)
class BackendFit:
    """Held-out quality of one backend.

    Attributes:
        backend: Its name.
        accuracy: Share of held-out rows whose class is the most likely one.
        accuracy_error: Standard error of that share; above zero where every row is right, too.
        log_loss: Mean of minus the logarithm of the probability given to the true class, in nats.
        calibration_error: Expected calibration error over 15 bins, between 0 and 1.
        temperature: `GenLabel(temperature=...)` with the least held-out log-loss; above 1 for an overconfident model.
        n_held_out: Held-out rows.
        n_folds: Folds, of five, that were used: one where `fit` trains a network.
        seconds: Time taken.
        bins: Certainty against truth.
        notes: What the backend itself warned of.
    """

    backend: str
    accuracy: float
    accuracy_error: float
    log_loss: float
    calibration_error: float
    temperature: float
    n_held_out: int
    n_folds: int
    seconds: float
    bins: tuple[ConfidenceBin, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Whether there are enough held-out rows to say anything."""
        return self.n_held_out >= MIN_HELD_OUT

    @property
    def is_trusted(self) -> bool:
        """Whether the accuracy reaches the paper's 95 %, on enough rows."""
        return self.is_judged and self.accuracy >= TRUSTED_ACCURACY

    @property
    def may_be_trusted(self) -> bool:
        """Whether 95 % lie within two standard errors."""
        return self.is_judged and self.accuracy + 2 * self.accuracy_error >= TRUSTED_ACCURACY

    @property
    def verdict(self) -> str:
        """The rule of thumb in words."""
        if not self.is_judged:
            return "too few held-out rows"
        if self.is_trusted:
            return "fits: 95 % reached"
        if self.may_be_trusted:
            return "may fit: 95 % within two standard errors"
        return "below 95 %: its labels may mislead"

    @property
    def calibration(self) -> str:
        """The calibration in words."""
        if self.calibration_error < 0.03:
            return "as sure as it is right"
        off = f"{100 * self.calibration_error:.0f} points"
        return f"too sure of itself, by {off}" if self.temperature > 1 else f"less sure than it could be, by {off}"


def is_trained(name: str) -> bool:
    """Whether `fit` of a backend trains a network, which takes seconds.

    Example:
        >>> is_trained("gm"), is_trained("vae")
        (False, True)
    """
    return not getattr(make_backend(name), "exact", False)


def fit_backend(name: str, table: LabeledTable, *, seed: int = 0) -> BackendFit:
    """Score a backend on held-out rows: all five folds, or one of them where a network is trained.

    Args:
        name: A registered backend, with its default parameters.
        table: Rows and classes.
        seed: Seed of the folds and of training.

    Raises:
        ModuleNotFoundError: If the backend needs a package that is not installed.
        ValueError: If a density cannot be fitted to the table.

    Example:
        >>> x = torch.cat([torch.randn(50, 2), torch.randn(50, 2) + 9])
        >>> fit_backend("gm", LabeledTable(x, torch.arange(100) // 50)).verdict
        'fits: 95 % reached'
    """
    begin = time.perf_counter()
    x, params = _inputs(name, table)
    target = table.target
    trained = is_trained(name)
    rows = table.shrunk_to(MAX_TRAINED_ROWS if trained else len(x), seed)
    x, target = x[rows], target[rows]
    model = GenLabel(make_backend(name, **params))
    folds: Iterable[tuple[Tensor, Tensor]]
    if table.groups is None and table.time is None:
        folds = held_out(model, x, target, MIN_ROWS_PER_CLASS, torch.Generator().manual_seed(seed))
    else:
        splits, _ = make_splits(table, rows, seed)
        n_classes = len(table.class_names)
        folds = ((fit_copy(model, x[a], target[a], n_classes).log_joint(x[b]), target[b]) for a, b in splits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scored = list(islice(folds, 1 if trained else None))
    fit = score(name, scored, seconds=time.perf_counter() - begin)
    notes = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return BackendFit(**{**vars(fit), "notes": tuple(notes)})


def score(name: str, scored: list[tuple[Tensor, Tensor]], seconds: float = 0.0) -> BackendFit:
    """Accuracy and calibration of log-joint densities `(B, C)` with true classes `(B,)`, one pair for each fold.

    Example:
        >>> sure = torch.tensor([[0.0, -50.0]]).expand(10, 2)
        >>> fit = score("mine", [(sure, torch.tensor([0] * 8 + [1] * 2))])
        >>> round(fit.accuracy, 2), round(fit.calibration_error, 2), fit.calibration
        (0.8, 0.2, 'too sure of itself, by 20 points')
    """
    target = torch.cat([labels for _, labels in scored])
    score = torch.cat([score for score, _ in scored]).double()
    silent = ~torch.isfinite(score).any(1, keepdim=True)
    posterior = torch.where(silent, 1 / score.shape[1], score.nan_to_num(nan=-torch.inf).softmax(1))
    confidence = posterior.amax(1)
    hit = hits(score, target).double()
    bins = confidence_bins(confidence, hit)
    adjusted = (float(hit.sum()) + 2) / (len(hit) + 4)  # Agresti and Coull; else no error where every row is right
    return BackendFit(
        backend=name,
        accuracy=float(hit.mean()),
        accuracy_error=(adjusted * (1 - adjusted) / (len(hit) + 4)) ** 0.5,
        log_loss=float(log_loss(target, posterior, labels=range(score.shape[1]))),
        calibration_error=calibration_error(bins),
        temperature=_temperature(scored),
        n_held_out=len(hit),
        n_folds=len(scored),
        seconds=seconds,
        bins=bins,
    )


def _temperature(scored: list[tuple[Tensor, Tensor]]) -> float:
    try:
        return min(best_temperature(scored), HOTTEST)
    except ValueError:  # no row has a density under its class
        return HOTTEST


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """Expected calibration error: how far certainty and truth are apart, on average over rows."""
    return sum(b.n_rows * abs(b.confidence - b.accuracy) for b in bins) / sum(b.n_rows for b in bins)


def confidence_bins(confidence: Tensor, hit: Tensor) -> tuple[ConfidenceBin, ...]:
    """Rows by certainty in 15 bins, `(B,), (B,)`: how sure of its class a classifier is, and whether it is right."""
    place = (confidence * N_BINS).ceil().long().clamp(1, N_BINS) - 1
    return tuple(
        ConfidenceBin(float(confidence[place == b].mean()), float(hit[place == b].mean()), int((place == b).sum()))
        for b in place.unique().tolist()
    )


def _inputs(name: str, table: LabeledTable) -> tuple[Tensor, dict[str, Any]]:
    """Standardized rows and parameters of the backend; indicators stay 0 and 1 where it asks for them."""
    x = table.standardized()
    if name != "mixed_types":
        return x, {}
    if not table.cardinality:
        raise ValueError("it is for text columns, and this table has none")
    start = x.shape[1] - sum(table.cardinality)
    return torch.cat([x[:, :start], table.x[:, start:].float()], 1), {"cardinality": list(table.cardinality)}
