"""Selection: cross-validation of many candidates at a time, and the choice between them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import RepeatedStratifiedKFold
from torch import Tensor

from genlabel_plugins.selection._epochs import count_steps
from genlabel_plugins.selection._mixed_batches import fit_relabelers
from genlabel_plugins.selection._stacked import StackedNetworks
from genlabel_plugins.selection._stacked_training import TrainingOptions, train_stacked
from genlabel_plugins.selection._table import Table, arrange, count_rows
from genlabel_plugins.selection.candidates import Candidate, candidate_grid

__all__ = ["Candidate", "CrossValidation", "candidate_grid", "cross_validate", "select", "stratified_splits"]

MAX_ELEMENTS = 2**25  # logits, or parameters with their gradients and moments, that are held at a time
HELD_OUT_ROWS, MOST_REPEATS = 3000, 10
LEAST_WEIGHT = 1e-3  # candidates that weigh less in an average, relative to the best, are left out
Split = tuple[NDArray[np.intp], NDArray[np.intp]]
SCORINGS = ("accuracy", "neg_log_loss")
Selection = Literal["average", "best", "one_standard_error"]


@dataclass(frozen=True)
class CrossValidation:
    """Held-out scores of M candidates in S splits.

    Attributes:
        candidates: The candidates, the simpler ones first.
        accuracy: Share of held-out rows classified correctly, shape `(S, M)`, float64.
        log_loss: Mean negative log-probability of the true class in nats, shape `(S, M)`, float64.
        n_folds: Splits that hold out each row once.
        n_rows: Rows in all.
    """

    candidates: list[Candidate]
    accuracy: Tensor
    log_loss: Tensor
    n_folds: int
    n_rows: int

    def score(self, scoring: str) -> Tensor:
        """Scores of which the highest is best, `"accuracy"` or `"neg_log_loss"`, shape `(S, M)`."""
        check_selection(scoring, "best")
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


def check_selection(scoring: str, selection: str) -> None:
    """Raise `ValueError` on a scoring or a rule of selection that does not exist, naming those that do."""
    if scoring not in SCORINGS:
        raise ValueError(f"scoring must be one of {SCORINGS}, got {scoring!r}")
    if selection not in get_args(Selection):
        raise ValueError(f"selection must be one of {get_args(Selection)}, got {selection!r}")


def repeats_for(n_rows: int) -> int:
    """Repetitions of the folds that hold out 3,000 rows in all, at most 10: few rows leave much to luck.

    Example:
        >>> [repeats_for(n_rows) for n_rows in (100, 1000, 10_000)]
        [10, 3, 1]
    """
    return max(1, min(MOST_REPEATS, math.ceil(HELD_OUT_ROWS / n_rows)))


def stratified_splits(target: NDArray[Any], n_folds: int, n_repeats: int = 1, seed: int = 0) -> list[Split]:
    """Training and held-out rows of a repeated stratified cross-validation.

    There are as many folds as the largest class has rows, if it has fewer than `n_folds`.

    Raises:
        ValueError: If `n_folds` is below 2, or no class has two rows.
    """
    largest = int(np.unique(target, return_counts=True)[1].max())
    if n_folds < 2 or largest < 2:
        raise ValueError(f"cross-validation needs 2 folds and a class of 2 rows, got {n_folds} and {largest}")
    folds = RepeatedStratifiedKFold(n_splits=min(n_folds, largest), n_repeats=n_repeats, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer rows than folds
        return list(folds.split(target, target))


def cross_validate(
    x: Tensor,
    target: Tensor,
    candidates: Sequence[Candidate],
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    splits: Sequence[Split] | None = None,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    n_classes: int | None = None,
    options: TrainingOptions | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> CrossValidation:
    """Train every candidate on every split, as few tensor programs, and score it on the rows held out.

    Memory does not grow with the number of candidates or splits: beyond a few copies of the rows it takes a few hundred
    megabytes at most, since what does not fit takes turns. Ctrl-C is raised.

    Args:
        x: Rows, shape `(N, D)`; each split is standardised by its own training rows.
        target: Class indices, shape `(N,)`.
        candidates: What to train, the simpler ones first.
        n_folds: Folds of a stratified cross-validation.
        n_repeats: Repetitions of it on new folds.
        splits: Pairs of training and held-out row indices, in place of folds.
        weight: Weight of each row, as `Table.of` takes it, shape `(N,)`; held-out rows count by it.
        class_weight: How often training visits each class, as `Table.of` takes it, shape `(C,)`.
        n_classes: Number of classes C; by default the largest index plus one.
        options: What all candidates share.
        seed: Seed of folds and training.
        verbose: Show a progress bar for each turn.

    Example:
        >>> x = torch.arange(20.0)[:, None]
        >>> target = (x[:, 0] > 9.5).long()
        >>> cv = cross_validate(x, target, candidate_grid(backends=("gm",), gammas=(0.5,), learning_rates=(0.1,)))
        >>> cv.accuracy.shape  # splits, candidates
        torch.Size([5, 3])
    """
    options = options or TrainingOptions()
    n_classes = int(target.max()) + 1 if n_classes is None else n_classes
    x = x.double()
    if splits is None:
        x, target, weight = arrange(x, target, weight)  # the order of the rows decides on no fold
        splits = stratified_splits(target.numpy(force=True), n_folds, n_repeats, seed)
    weight = torch.ones(len(x), dtype=torch.float64, device=x.device) if weight is None else weight.double()
    rows = [[torch.as_tensor(part, device=x.device) for part in split] for split in splits]
    for place, (_, test) in enumerate(rows):
        if not bool((weight[test] > 0).any()):
            raise ValueError(f"split {place} must hold out a row of positive weight, got none of {len(test)} rows")
    scores = torch.zeros(2, len(splits), len(candidates), dtype=torch.float64)
    trained = [m for m, candidate in enumerate(candidates) if candidate.is_trained]
    generative = [m for m, candidate in enumerate(candidates) if not candidate.is_trained]
    at_once = _networks_at_once((x.shape[1], *options.hidden, n_classes), options.batch_size)
    sizes = [count_rows(weight[train]) for train, _ in rows]
    for members in _together(sizes, x.shape[1], options.batch_size, at_once // max(1, len(trained))):
        tables = [Table.of(x[rows[i][0]], target[rows[i][0]], weight[rows[i][0]], class_weight) for i in members]
        held_out = [table.standardise(x[rows[i][1]]) for i, table in zip(members, tables, strict=True)]
        width = max(1, at_once // len(members))
        turns = [trained[start : start + width] for start in range(0, len(trained), width)]
        for chosen in [*turns, *([generative] if generative else [])]:
            some = [candidates[m] for m in chosen]
            log_p = _held_out_log_p(tables, held_out, some, n_classes, options=options, seed=seed, verbose=verbose)
            for i, split_log_p in zip(members, log_p, strict=True):
                test = rows[i][1]
                scores[:, i, chosen] = _scores(split_log_p, target[test], weight[test]).cpu()
    n_held_out = sum(len(test) for _, test in rows)
    n_folds = max(1, round(len(rows) * len(x) / n_held_out))
    return CrossValidation(list(candidates), scores[0], -scores[1], n_folds, count_rows(weight))


def select(cv: CrossValidation, scoring: str, selection: Selection) -> Tensor:
    r"""Weights of the candidates in the chosen classifier, summing to one, shape `(M,)`.

    `"best"` takes the candidate of the highest mean score, the simplest of several. `"one_standard_error"` takes the
    simplest whose mean is within one standard error of that. `"average"` weighs all:

    .. math:: w_m \propto \exp\big(\tfrac12 N (s_m - \max s)\big)

    so that of N rows two more in error, or two nats less of held-out log-likelihood, cost a factor e. Between
    candidates that N rows cannot tell apart, averaging loses less than choosing.

    Args:
        cv: Scores of a cross-validation.
        scoring: `"accuracy"` or `"neg_log_loss"`.
        selection: The rule.

    Raises:
        ValueError: On an unknown name.

    Example:
        >>> accuracy = torch.tensor([[0.8, 0.9, 0.9]]).double()
        >>> candidates = candidate_grid(backends=("gm",), gammas=(0.5,), learning_rates=(0.1,))
        >>> select(CrossValidation(candidates, accuracy, -accuracy, 5, 40), "accuracy", "average")
        tensor([0.0634, 0.4683, 0.4683], dtype=torch.float64)

    Reference:
        Breiman et al., Classification and Regression Trees, 1984, section 3.4.3; Dalalyan and Tsybakov, Aggregation by
        exponential weighting, Machine Learning 72, 2008.
    """
    check_selection(scoring, selection)
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


def _networks_at_once(sizes: Sequence[int], batch_size: int) -> int:
    """Networks of these layers that fit in memory, with their gradients, moments and activations."""
    n_parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    n_activations = 2 * batch_size * sum(sizes[1:])
    return max(1, MAX_ELEMENTS // (8 * n_parameters + 6 * n_activations))


def _together(sizes: Sequence[int], n_features: int, batch_size: int, most: int) -> Iterator[list[int]]:
    """Splits that are trained together: with equally many steps, at most so many, and tables that fit in memory."""

    def n_steps(split: int) -> int:
        return count_steps(sizes[split], batch_size)

    for _, group in groupby(sorted(range(len(sizes)), key=n_steps), key=n_steps):
        members = list(group)
        width = max(1, min(most, MAX_ELEMENTS // (4 * n_features * max(sizes[split] for split in members))))
        for first in range(0, len(members), width):
            yield members[first : first + width]


def _held_out_log_p(
    tables: Sequence[Table],
    held_out: Sequence[Tensor],
    candidates: Sequence[Candidate],
    n_classes: int,
    *,
    options: TrainingOptions,
    seed: int,
    verbose: bool,
) -> Iterator[Tensor]:
    """Log-probabilities of held-out rows by all candidates, `(B, C, M)` for each table."""
    if not candidates[0].is_trained:
        for table, x in zip(tables, held_out, strict=True):
            yield generative_log_p(table, x, candidates, n_classes, seed)
        return
    title = f"{len(candidates)} candidates, {len(tables)} splits"
    networks = train_stacked(tables, candidates, n_classes, options, seed=seed, verbose=verbose, description=title)
    for place, x in enumerate(held_out):
        yield network_log_p(networks, place, x)


@torch.no_grad()
def network_log_p(networks: StackedNetworks, place: int, x: Tensor) -> Tensor:
    """Log-probabilities of rows by all networks of one table, `(B, D) -> (B, C, M)`."""
    one = networks.of_table(place)
    rows_at_once = max(1, MAX_ELEMENTS // (4 * networks.n_models * sum(networks.sizes[1:])))
    return torch.cat([one(rows[None])[0].log_softmax(1) for rows in x.split(rows_at_once)])


def generative_log_p(table: Table, x: Tensor, candidates: Sequence[Candidate], n_classes: int, seed: int = 0) -> Tensor:
    """Log-posteriors of rows by class densities, with the class frequencies as priors, `(B, D) -> (B, C, M)`."""
    relabelers = fit_relabelers(table, (c.backend for c in candidates), n_classes, table.class_share(n_classes), seed)
    return torch.stack([relabelers[c.backend].posterior(x).log() for c in candidates], -1)


def _scores(log_p: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Accuracy and mean log-probability of the true class, `(B, C, M), (B,), (B,) -> (2, M)`."""
    log_p = log_p.double().clamp(min=math.log(torch.finfo(torch.float32).eps))
    hit = log_p.argmax(1) == target[:, None]
    log_likelihood = log_p.gather(1, target[:, None, None].expand(-1, 1, log_p.shape[2])).squeeze(1)
    return torch.stack([(weight[:, None] * part).sum(0) / weight.sum() for part in (hit.double(), log_likelihood)])
