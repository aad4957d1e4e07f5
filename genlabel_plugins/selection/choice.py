"""The choice between candidates by their cross-validated scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from genlabel_plugins.selection.candidates import Candidate

LEAST_WEIGHT = 1e-3  # candidates that weigh less in an average, relative to the best, are left out
EM_STEPS, SURE, LEAST_STACKED = 100, 0.5, 0.01  # of stacking: steps, trust in the start, least weight
SHRINKAGE = 1 / 3  # share of what single candidates deserve by their own log-loss in the weights of stacking
HEAD_START = 2.0  # nats by which plain logistic regression is taken to explain the rows better, before any is seen
LEAST_GAIN = 0.25  # nats in all by which an average must explain held-out rows better than its best member
LEAST_LOSS = 1e-9  # nats, below which losses are equal
SCORINGS = ("accuracy", "neg_log_loss")
Selection = Literal["stack", "average", "best", "one_standard_error"]


@dataclass(frozen=True)
class CrossValidation:
    """Held-out scores of M candidates in S splits.

    Attributes:
        candidates: The candidates, the simpler ones first.
        accuracy: Share of held-out rows classified correctly, shape `(S, M)`, float64.
        log_loss: Mean negative log-probability of the true class in nats, shape `(S, M)`, float64.
        n_folds: Splits that hold out each row once.
        n_rows: Rows in all.
        others: Scores by other scorers, by name, shape `(S, M)`, of which the highest is best.
        log_likelihood: Log-probability of the true class of each held-out row, split after split, shape `(R, M)`.
        weight: Weights of these rows, by which stacking counts them, shape `(R,)`.
    """

    candidates: list[Candidate]
    accuracy: Tensor
    log_loss: Tensor
    n_folds: int
    n_rows: int
    others: Mapping[str, Tensor] = field(default_factory=dict)
    log_likelihood: Tensor | None = None
    weight: Tensor | None = None

    def score(self, scoring: str) -> Tensor:
        """Scores of which the highest is best, `"accuracy"`, `"neg_log_loss"` or another's, shape `(S, M)`."""
        if scoring in self.others:
            return self.others[scoring]
        check_scoring(scoring, [*SCORINGS, *self.others])
        return self.accuracy if scoring == "accuracy" else -self.log_loss

    def mean(self, scoring: str) -> Tensor:
        """Mean score of each candidate, shape `(M,)`, but for rounding: the same scores in another order are a tie."""
        return self.score(scoring).mean(0).round(decimals=12)

    def standard_error(self, scoring: str) -> Tensor:
        """Standard error of each candidate's mean score, shape `(M,)`; repeats reuse the rows and add nothing to n."""
        score = self.score(scoring)
        if len(score) < 2:
            return torch.zeros_like(score[0])
        return score.std(0) / math.sqrt(min(self.n_folds, len(score)))


def check_scoring(scoring: str, known: Sequence[str] = SCORINGS) -> None:
    """Raise `ValueError` on an unknown scoring, naming those that are known."""
    if scoring not in known:
        raise ValueError(f"scoring must be one of {tuple(known)}, got {scoring!r}")


def check_selection(selection: str) -> None:
    """Raise `ValueError` on an unknown rule of selection, naming those that are known."""
    if selection not in get_args(Selection):
        raise ValueError(f"selection must be one of {get_args(Selection)}, got {selection!r}")


def select(cv: CrossValidation, scoring: str, selection: Selection) -> Tensor:
    r"""Weigh the candidates by their scores; the weights, shape `(M,)`, sum to one.

    `"best"` gives all weight to the candidate of the highest mean score, the simplest of several.
    `"one_standard_error"` gives it to the simplest whose mean is within one standard error of the highest.
    `"average"` weighs all candidates:

    .. math:: w_m \propto \exp\big(\tfrac12 N (s_m - \max s)\big)

    Two errors more on N rows, or two nats more of held-out log-loss, cost a candidate a factor e. `"stack"` averages
    with the weights of least held-out log-loss, whatever the scoring, and takes a third of what each candidate of
    log-loss :math:`\ell_m` deserves by itself, where the size of the losses is unknown as the noise of a regression is:

    .. math:: w_m = \tfrac23 w^{\text{EM}}_m + \tfrac13 v_m, \qquad v_m \propto \pi_m \ell_m^{-N/2}

    100 steps of the EM algorithm lead from :math:`v` to :math:`w^{\text{EM}}`: few rows move the weights little. The
    prior :math:`\pi_m` is e² for logistic regression at C=1, the head start of the incumbent, and 1 for all others.
    Averaging loses less than choosing where N rows cannot tell candidates apart; but unless it explains the held-out
    rows better than its best candidate does, by a quarter of a nat in all, that one is taken alone.

    Args:
        cv: Scores of a cross-validation.
        scoring: `"accuracy"`, `"neg_log_loss"` or the name of another scorer of the cross-validation.
        selection: The rule.

    Raises:
        ValueError: On an unknown name.

    Example:
        >>> from genlabel_plugins.selection import candidate_grid
        >>> accuracy = torch.tensor([[0.8, 0.9, 0.9]]).double()
        >>> candidates = candidate_grid(backends=("gm",), gammas=(0.5,), Cs=(1.0,))
        >>> select(CrossValidation(candidates, accuracy, -accuracy, 5, 40), "accuracy", "average")
        tensor([0.0634, 0.4683, 0.4683], dtype=torch.float64)

    Reference:
        Breiman et al., Classification and Regression Trees, 1984, section 3.4.3; Dalalyan and Tsybakov, Aggregation by
        exponential weighting, Machine Learning 72, 2008; Wolpert, Stacked Generalization, Neural Networks 5, 1992.
    """
    check_selection(selection)
    if selection == "stack":
        return _stack(cv)
    mean = cv.mean(scoring)
    best = int(mean.argmax())
    if selection == "average":
        weight = (0.5 * cv.n_rows * (mean - mean[best])).exp()
        weight = torch.where(weight < LEAST_WEIGHT, 0.0, weight)
        return weight / weight.sum()
    if selection == "one_standard_error":
        within = mean >= mean[best] - cv.standard_error(scoring)[best]
        best = int(within.nonzero()[0])
    return torch.zeros_like(mean).index_fill(0, torch.tensor([best]), 1.0)


def _stack(cv: CrossValidation) -> Tensor:
    """Weights of least held-out log-loss, drawn toward the best candidates; the smallest are left out."""
    if cv.log_likelihood is None or cv.weight is None:
        raise ValueError("selection 'stack' needs the log_likelihood and weight of each held-out row, got None")
    counts = cv.weight > 0
    log_likelihood, share = cv.log_likelihood[counts], cv.weight[counts] / cv.weight.sum()
    likelihood, loss = log_likelihood.exp(), -(share @ log_likelihood)
    trusted = torch.tensor([c.scheme == "none" and c.kind == "solved" and c.C == 1 for c in cv.candidates]).double()
    single = (HEAD_START * trusted - 0.5 * cv.n_rows * loss.clamp(min=LEAST_LOSS).log()).softmax(0)
    weight = SURE * single + (1 - SURE) / len(single)
    for _ in range(EM_STEPS):
        weight = weight * ((share / (likelihood @ weight)) @ likelihood)
    weight = torch.lerp(weight, single, SHRINKAGE)
    weight = torch.where(weight < LEAST_STACKED * weight.max(), 0.0, weight)
    weight = weight / weight.sum()
    best = int(loss.round(decimals=12).argmin())
    gain = cv.n_rows * (share @ ((likelihood @ weight).log() - log_likelihood[:, best]))
    return weight if float(gain) > LEAST_GAIN else torch.zeros_like(weight).index_fill(0, torch.tensor([best]), 1.0)
