"""Compares no mixing, mixup and GenLabel by cross-validation, and tells real differences from chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

Scheme = Literal["none", "mixup", "genlabel"]
SCHEME_NAMES: dict[str, str] = {"none": "no mixing", "mixup": "mixup", "genlabel": "GenLabel"}


class Setting(NamedTuple):
    """How a classifier is trained, apart from the learning rate.

    Attributes:
        scheme: `"none"` (no mixing), `"mixup"` or `"genlabel"`.
        backend: Density of GenLabel.
        gamma: Trust of GenLabel in the posterior.
        keep_clean: Whether the loss of the clean batch is added to that of the mixed one.
    """

    scheme: str
    backend: str | None
    gamma: float | None
    keep_clean: bool

    def __str__(self) -> str:
        name = SCHEME_NAMES[self.scheme]
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
        settings: Setting of each of the M candidates; two candidates of one setting differ in learning rate.
        learning_rates: Learning rate of each candidate.
        accuracy: Held-out accuracy, shape `(S, M)`; the S splits are in the order of the repeats.
        log_loss: Held-out log-loss, shape `(S, M)`.
        n_folds: Folds of each repeat; S is `n_folds` times the number of repeats.
        n_rows: Rows that were split.
    """

    settings: Sequence[Setting]
    learning_rates: Sequence[float]
    accuracy: Tensor
    log_loss: Tensor
    n_folds: int
    n_rows: int

    @property
    def n_repeats(self) -> int:
        """Number of repeats; each splits the rows anew."""
        return len(self.accuracy) // self.n_folds

    def distinct_settings(self) -> list[Setting]:
        """Each setting once, in the order of the candidates."""
        return list(dict.fromkeys(self.settings))

    def columns(self, wanted: Callable[[Setting], bool]) -> Tensor:
        """Indices of the candidates whose setting is wanted."""
        return torch.tensor([m for m, setting in enumerate(self.settings) if wanted(setting)])

    def best(self, wanted: Callable[[Setting], bool]) -> int:
        """Index of the wanted candidate with the highest mean accuracy; of equals, the one with the least log-loss."""
        columns = self.columns(wanted)
        return int(columns[_choose(self.accuracy[:, columns], self.log_loss[:, columns])])

    def estimate(self, candidate: int) -> Estimate:
        """Mean accuracy of one candidate."""
        return self._estimate(self.accuracy[:, candidate])

    def chosen_elsewhere(self, wanted: Callable[[Setting], bool]) -> Tensor:
        """Accuracy in each split, shape `(S,)`, of the candidate that is best on the other folds of the same repeat.

        The best of many candidates owes part of its accuracy to chance. A candidate chosen on other rows does not.

        Reference:
            Tibshirani and Tibshirani, A Bias Correction for the Minimum Error Rate in Cross-Validation, 2009.
        """
        columns = self.columns(wanted)
        accuracy, log_loss = self.accuracy[:, columns], self.log_loss[:, columns]
        scores = []
        for split in range(len(accuracy)):
            first = split - split % self.n_folds
            others = [s for s in range(first, first + self.n_folds) if s != split]
            scores.append(accuracy[split, _choose(accuracy[others], log_loss[others])])
        return torch.stack(scores)

    def honest_estimate(self, wanted: Callable[[Setting], bool]) -> Estimate:
        """Accuracy that a user gets who chooses the best wanted candidate on some rows and uses it on others."""
        return self._estimate(self.chosen_elsewhere(wanted))

    def probability_better(self, wanted: Callable[[Setting], bool], than: Callable[[Setting], bool]) -> float:
        """Probability that the best wanted candidate is more accurate than the best of the others.

        The correlated t-test gives it, from the differences within splits. It is one half if all differences are zero.

        Reference:
            Nadeau and Bengio, Inference for the Generalization Error, 2003; Benavoli et al., Time for a Change: a
            Tutorial for Comparing Multiple Classifiers Through Bayesian Analysis, JMLR 2017, section 3.1.
        """
        mean, error = self._estimate(self.chosen_elsewhere(wanted) - self.chosen_elsewhere(than))
        if error == 0:
            return 0.5 if mean == 0 else float(mean > 0)
        return float(student.cdf(mean / error, df=len(self.accuracy) - 1))

    def _estimate(self, values: Tensor) -> Estimate:
        """Mean over splits; the standard error allows for training rows that splits share."""
        n_splits = len(values)
        variance = values.double().var() * (1 / n_splits + 1 / (self.n_folds - 1))
        return Estimate(float(values.double().mean()), float(variance.sqrt()))


def scheme_is(*schemes: str) -> Callable[[Setting], bool]:
    """Make a function that wants the settings of these schemes.

    Example:
        >>> scheme_is("mixup")(Setting("mixup", None, None, False))
        True
    """
    return lambda setting: setting.scheme in schemes


def setting_of(candidate: Any) -> Setting:
    """Setting of a candidate of `genlabel_plugins.selection.search`."""
    is_genlabel = candidate.scheme == "genlabel"
    return Setting(
        candidate.scheme,
        str(candidate.backend) if is_genlabel else None,
        float(candidate.gamma) if is_genlabel else None,
        bool(candidate.keep_clean) and candidate.scheme != "none",
    )


def _choose(accuracy: Tensor, log_loss: Tensor) -> int:
    """Index of the highest mean accuracy, `(S, M), (S, M) -> int`; of equals, the one with the least log-loss."""
    mean = accuracy.double().mean(0)
    best = mean >= mean.max() - 1e-9
    return int(log_loss.double().mean(0).nan_to_num(nan=torch.inf).masked_fill(~best, torch.inf).argmin())
