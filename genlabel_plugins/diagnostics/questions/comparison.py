"""Compares models by cross-validation, and tells real differences from chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from scipy.stats import t as student
from torch import Tensor

Score = Literal["accuracy", "balanced_accuracy", "log_loss"]
SCORES: tuple[Score, ...] = get_args(Score)
SCHEME_NAMES: dict[str, str] = {"none": "no mixing", "mixup": "mixup", "genlabel": "GenLabel", "density": "densities"}


class Setting(NamedTuple):
    """How a classifier is trained, apart from the strength of its penalty.

    Attributes:
        scheme: `"none"` (no mixing), `"mixup"`, `"genlabel"` or `"density"` (densities classify by themselves).
        backend: Density of GenLabel, or that classifies.
        gamma: Trust of GenLabel in the posterior.
        keep_clean: Whether the loss of the clean batch is added to that of the mixed one.
    """

    scheme: str
    backend: str | None
    gamma: float | None
    keep_clean: bool

    def __str__(self) -> str:
        name = SCHEME_NAMES[self.scheme]
        if self.scheme == "density":
            return f"{name} of {self.backend} alone"
        if self.scheme == "genlabel":
            name = f"{name} {self.backend}, gamma {self.gamma:g}"
        return f"{name} + clean batch" if self.keep_clean else name


class Estimate(NamedTuple):
    """A mean over splits with its standard error."""

    mean: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """A repeated cross-validation: the held-out scores of each candidate in each split.

    Attributes:
        settings: Setting of each of the M candidates; two candidates of one setting differ in `Cs`.
        Cs: Inverse strength of the penalty of each candidate, in the units of scikit-learn's `LogisticRegression`.
        accuracy: Held-out accuracy, shape `(S, M)`; the S splits are in the order of the repeats.
        log_loss: Held-out log-loss, shape `(S, M)`.
        n_folds: Folds of each repeat; S is `n_folds` times the number of repeats.
        n_rows: Rows that were split.
        balanced_accuracy: Mean over classes of the share that is found, shape `(S, M)`; by default the accuracy.
        others: Models that are no candidates, by name: three scores, as `SCORES` names them, in each split, or
            each split of the first repeat, shape `(S, 3)`.
        method: How rows were held out.
        left_out: What time did not allow, in words; empty where all was done. The candidates may be none.
    """

    settings: Sequence[Setting]
    Cs: Sequence[float]
    accuracy: Tensor
    log_loss: Tensor
    n_folds: int
    n_rows: int
    balanced_accuracy: Tensor | None = None
    others: Mapping[str, Tensor] = field(default_factory=dict)
    method: str = ""
    left_out: str = ""

    @property
    def n_repeats(self) -> int:
        """Number of repeats; each splits the rows anew."""
        return len(self.accuracy) // self.n_folds

    def score(self, name: Score) -> Tensor:
        """Scores by name, shape `(S, M)`."""
        if name == "balanced_accuracy" and self.balanced_accuracy is None:
            return self.accuracy
        found: Tensor = getattr(self, name)
        return found

    def distinct_settings(self) -> list[Setting]:
        """Each setting once, in the order of the candidates."""
        return list(dict.fromkeys(self.settings))

    def columns(self, wanted: Callable[[Setting], bool]) -> Tensor:
        """Indices of the candidates whose setting is wanted."""
        return torch.tensor([m for m, setting in enumerate(self.settings) if wanted(setting)])

    def best(self, wanted: Callable[[Setting], bool], by: Score = "accuracy") -> int:
        """Index of the wanted candidate with the best mean score; of equals, the one with the least log-loss."""
        columns = self.columns(wanted)
        return int(columns[_choose(self._gain(by)[:, columns], self.log_loss[:, columns])])

    def estimate(self, candidate: int, score: Score = "accuracy") -> Estimate:
        """Mean score of one candidate."""
        return self.mean_of(self.score(score)[:, candidate])

    def chosen_elsewhere(
        self, wanted: Callable[[Setting], bool], score: Score = "accuracy", by: Score | None = None
    ) -> Tensor:
        """Score in each split, shape `(S,)`, of the candidate that is best on the other folds of the same repeat.

        The best of many candidates owes part of its accuracy to chance. A candidate chosen on other rows does not.

        Args:
            wanted: Which settings to choose from.
            score: What to measure.
            by: What to choose by; by default what is measured.

        Reference:
            Tibshirani and Tibshirani, A Bias Correction for the Minimum Error Rate in Cross-Validation, 2009.
        """
        columns = self.columns(wanted)
        gain, log_loss = self._gain(by or score)[:, columns], self.log_loss[:, columns]
        measured = self.score(score)[:, columns]
        scores = []
        for split in range(len(gain)):
            first = split - split % self.n_folds
            others = [s for s in range(first, first + self.n_folds) if s != split]
            scores.append(measured[split, _choose(gain[others], log_loss[others])])
        return torch.stack(scores)

    def honest_estimate(self, wanted: Callable[[Setting], bool]) -> Estimate:
        """Accuracy that a user gets who chooses the best wanted candidate on some rows and uses it on others."""
        return self.mean_of(self.chosen_elsewhere(wanted))

    def probability_better(
        self, wanted: Callable[[Setting], bool], than: Callable[[Setting], bool], by: Score = "accuracy"
    ) -> float:
        """Probability that the best wanted candidate is better than the best of others, by default more accurate."""
        better, worse = self.chosen_elsewhere(wanted, by), self.chosen_elsewhere(than, by)
        return self.probability_positive(worse - better if by == "log_loss" else better - worse)

    def probability_positive(self, difference: Tensor, margin: float = 0.0) -> float:
        """Probability that a difference exceeds a margin, from its values in each split, shape `(S,)`.

        The correlated t-test gives it. It is one half if all differences are equal to the margin.

        Reference:
            Nadeau and Bengio, Inference for the Generalization Error, 2003; Benavoli et al., Time for a Change: a
            Tutorial for Comparing Multiple Classifiers Through Bayesian Analysis, JMLR 2017, section 3.1.
        """
        mean, error = self.mean_of(difference)
        mean -= margin
        if error == 0:
            return 0.5 if mean == 0 else float(mean > 0)
        return float(student.cdf(mean / error, df=len(difference) - 1))

    def mean_of(self, values: Tensor) -> Estimate:
        """Mean over splits; the standard error allows for training rows that splits share."""
        n_splits = len(values)
        variance = values.double().var() * (1 / n_splits + 1 / (self.n_folds - 1))
        return Estimate(float(values.double().mean()), float(variance.sqrt()))

    def _gain(self, name: Score) -> Tensor:
        """Scores of which the highest is best."""
        return -self.log_loss if name == "log_loss" else self.score(name)


def scheme_is(*schemes: str) -> Callable[[Setting], bool]:
    """Make a function that wants the settings of these schemes.

    Example:
        >>> scheme_is("mixup")(Setting("mixup", None, None, False))
        True
    """
    return lambda setting: setting.scheme in schemes


def setting_of(candidate: Any) -> Setting:
    """Setting of a candidate of `genlabel_plugins.selection.search`."""
    return Setting(
        candidate.scheme,
        str(candidate.backend) if candidate.scheme in ("genlabel", "density") else None,
        float(candidate.gamma) if candidate.scheme == "genlabel" else None,
        bool(candidate.keep_clean) and candidate.scheme != "none",
    )


def _choose(accuracy: Tensor, log_loss: Tensor) -> int:
    """Index of the highest mean accuracy, `(S, M), (S, M) -> int`; of equals, the one with the least log-loss."""
    mean = accuracy.double().mean(0)
    best = mean >= mean.max() - 1e-9
    return int(log_loss.double().mean(0).nan_to_num(nan=torch.inf).masked_fill(~best, torch.inf).argmin())
