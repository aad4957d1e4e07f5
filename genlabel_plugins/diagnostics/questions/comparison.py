"""Cross-validated accuracy of no mixing, mixup and GenLabel, and which differences are real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

Scheme = Literal["vanilla", "mixup", "genlabel"]
SCHEME_NAMES: dict[str, str] = {"vanilla": "no mixing", "mixup": "mixup", "genlabel": "GenLabel"}


class Setting(NamedTuple):
    """What a training does, apart from its learning rate.

    Attributes:
        scheme: `"vanilla"` (no mixing), `"mixup"` or `"genlabel"`.
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
    """Held-out accuracy and log-loss of every candidate in every split of a repeated cross-validation.

    Attributes:
        settings: Setting of each candidate, M of them; candidates that share one differ in learning rate.
        learning_rates: Learning rate of each candidate.
        accuracy: Shape `(S, M)`, the splits repeat by repeat.
        log_loss: Shape `(S, M)`.
        n_folds: Folds of each repeat; S is a multiple of it.
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
        """How often the rows were split anew."""
        return len(self.accuracy) // self.n_folds

    def distinct_settings(self) -> list[Setting]:
        """Settings in the order of the candidates."""
        return list(dict.fromkeys(self.settings))

    def columns(self, wanted: Callable[[Setting], bool]) -> Tensor:
        """Candidates whose setting is wanted, as indices."""
        return torch.tensor([m for m, setting in enumerate(self.settings) if wanted(setting)])

    def best(self, wanted: Callable[[Setting], bool]) -> int:
        """Index of the best candidate by the mean over all splits; the smaller log-loss decides between equals."""
        columns = self.columns(wanted)
        return int(columns[_choose(self.accuracy[:, columns], self.log_loss[:, columns])])

    def estimate(self, candidate: int) -> Estimate:
        """Accuracy of one candidate."""
        return self._estimate(self.accuracy[:, candidate])

    def chosen_elsewhere(self, wanted: Callable[[Setting], bool]) -> Tensor:
        """Accuracy in each split of the candidate that is best on the other folds of its repeat, shape `(S,)`.

        The best of many candidates owes part of its accuracy to chance. What is chosen without the rows of a split does
        not, on those rows.

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
        """Accuracy of choosing among the wanted candidates and training with the choice."""
        return self._estimate(self.chosen_elsewhere(wanted))

    def probability_better(self, wanted: Callable[[Setting], bool], than: Callable[[Setting], bool]) -> float:
        """Probability that choosing among some candidates is more accurate than choosing among others.

        By the correlated t-test, on differences within splits. Equal in every split: one half.

        Reference:
            Nadeau and Bengio, Inference for the Generalization Error, 2003; Benavoli et al., Time for a Change: a
            Tutorial for Comparing Multiple Classifiers Through Bayesian Analysis, JMLR 2017, section 3.1.
        """
        mean, error = self._estimate(self.chosen_elsewhere(wanted) - self.chosen_elsewhere(than))
        if error == 0:
            return 0.5 if mean == 0 else float(mean > 0)
        return float(student.cdf(mean / error, df=len(self.accuracy) - 1))

    def _estimate(self, values: Tensor) -> Estimate:
        """Mean over splits; their training rows overlap, which the standard error allows for."""
        n_splits = len(values)
        variance = values.double().var() * (1 / n_splits + 1 / (self.n_folds - 1))
        return Estimate(float(values.double().mean()), float(variance.sqrt()))


def scheme_is(*schemes: str) -> Callable[[Setting], bool]:
    """Pick settings by scheme.

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
        bool(candidate.keep_clean) and candidate.scheme != "vanilla",
    )


def _choose(accuracy: Tensor, log_loss: Tensor) -> int:
    """Place of the highest mean accuracy, `(S, M)` twice; of equals the one with the least log-loss."""
    mean = accuracy.double().mean(0)
    best = mean >= mean.max() - 1e-9
    return int(log_loss.double().mean(0).nan_to_num(nan=torch.inf).masked_fill(~best, torch.inf).argmin())
