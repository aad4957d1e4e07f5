"""Cross-validation of many candidates at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import RepeatedStratifiedKFold
from torch import Tensor

from genlabel_plugins.densities._training import progress
from genlabel_plugins.selection._candidate_batches import can_span, policy_of
from genlabel_plugins.selection._candidate_fits import MAX_ELEMENTS, candidate_log_p
from genlabel_plugins.selection._early_stopping import HeldOut, table_and_held_out
from genlabel_plugins.selection._epochs import count_steps
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._solved_regressions import MIXED_ROWS
from genlabel_plugins.selection._training_table import TrainingTable, arrange, count_rows
from genlabel_plugins.selection.candidates import Candidate
from genlabel_plugins.selection.choice import CrossValidation

HELD_OUT_ROWS, MOST_REPEATS = 3000, 10
Split = tuple[NDArray[np.intp], NDArray[np.intp]]
Scorer = Callable[[Tensor, Tensor, Tensor], float]  # probabilities (B, C), target (B,), weight (B,) -> score


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
    scorers: Mapping[str, Scorer] | None = None,
    standardize: bool = True,
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
        weight: Weight of each row, as `TrainingTable.of` takes it, shape `(N,)`; held-out rows count by it.
        class_weight: How often training visits each class, as `TrainingTable.of` takes it, shape `(C,)`.
        n_classes: Number of classes C; by default the largest index plus one.
        options: What all candidates share.
        scorers: Other scores to take besides accuracy and log-loss, by name.
        standardize: Divide each feature by its standard deviation, as `TrainingTable.of` takes it.
        seed: Seed of folds and training.
        verbose: Show a progress bar for each turn.

    Example:
        >>> from genlabel_plugins.selection import candidate_grid
        >>> x = torch.arange(20.0)[:, None]
        >>> target = (x[:, 0] > 9.5).long()
        >>> cv = cross_validate(x, target, candidate_grid(backends=("gm",), gammas=(0.5,), Cs=(1.0,)))
        >>> cv.accuracy.shape  # splits, candidates
        torch.Size([5, 3])
    """
    options = options or TrainingOptions()
    n_classes = int(target.max()) + 1 if n_classes is None else n_classes
    x = x.double()
    is_arranged = splits is None
    if splits is None:
        x, target, weight = arrange(x, target, weight)  # the order of the rows decides on no fold
        splits = stratified_splits(target.numpy(force=True), n_folds, n_repeats, seed)
    relative = weight
    weight = torch.ones_like(x[:, 0]) if weight is None else weight.double()
    rows = [[torch.as_tensor(part, device=x.device) for part in split] for split in splits]
    for place, (_, test) in enumerate(rows):
        if not bool((weight[test] > 0).any()):
            raise ValueError(f"split {place} must hold out a row of positive weight, got none of {len(test)} rows")
    scorers = scorers or {}
    scores = torch.zeros(2 + len(scorers), len(splits), len(candidates), dtype=torch.float64)
    likelihoods = [torch.zeros(len(test), len(candidates), dtype=torch.float64) for _, test in rows]
    in_span = can_span(candidates, options)

    def make_table(split: int, stops: bool) -> tuple[TrainingTable, HeldOut | None]:
        train = rows[split][0]
        part = x[train], target[train], None if relative is None else relative[train]
        return table_and_held_out(
            *(part if is_arranged else arrange(*part)),
            class_weight,
            fraction=options.validation_fraction if stops else None,
            seed=seed,
            standardize=standardize,
            in_span=in_span,
        )

    at_once = _networks_at_once((x.shape[1], *options.hidden, n_classes), options.batch_size)
    sizes = [count_rows(weight[train]) for train, _ in rows]
    trained = [m for m, candidate in enumerate(candidates) if candidate.kind == "trained"]
    others = [m for m, candidate in enumerate(candidates) if candidate.kind != "trained"]
    # Networks that are trained step by step have equally many inputs; spans of the rows of two splits may differ.
    alone = trained and in_span and x.shape[1] > min(sizes)
    most = 1 if alone else at_once // max(1, len(trained), len(others))
    n_policies = len({policy_of(candidates[m]) for m in others})
    most = max(1, min(most, MAX_ELEMENTS // (16 * max(MIXED_ROWS, *sizes) * n_classes * max(1, n_policies))))
    title = f"{len(candidates)} candidates, {len(rows)} splits"
    turns = list(_together(sizes, x.shape[1], options.batch_size, most))
    for turn in progress(range(len(turns)), title, verbose=verbose, unit="turn"):
        members = turns[turn]
        for group in filter(None, (trained, others)):
            fits = candidate_log_p(
                [make_table(split, stops=group is trained) for split in members],
                [x[rows[split][1]] for split in members],
                [candidates[m] for m in group],
                n_classes,
                options,
                seed=seed,
                at_once=max(1, at_once // len(members)),
                verbose=verbose,
            )
            for places, log_p in fits:
                chosen = [group[place] for place in places]
                for i, split_log_p in zip(members, log_p, strict=True):
                    test = rows[i][1]
                    hit, likelihood = _hits_and_likelihoods(split_log_p, target[test])
                    share = weight[test] / weight[test].sum()
                    scores[:2, i, chosen] = torch.stack([share @ hit, share @ likelihood]).cpu()
                    likelihoods[i][:, chosen] = likelihood.cpu()
                    for place, scorer in enumerate(scorers.values(), 2):
                        for m, log_p_m in zip(chosen, split_log_p.unbind(2), strict=True):
                            scores[place, i, m] = scorer(log_p_m.exp(), target[test], weight[test])
    n_held_out = sum(len(test) for _, test in rows)
    # What stacking minimizes counts classes as training does; the scores are those of the rows.
    counts = weight if class_weight is None else weight * class_weight.to(weight)[target]
    return CrossValidation(
        list(candidates),
        scores[0],
        -scores[1],
        n_folds=max(1, round(len(rows) * len(x) / n_held_out)),
        n_rows=count_rows(weight),
        others=dict(zip(scorers, scores[2:], strict=True)),
        log_likelihood=torch.cat(likelihoods),
        weight=torch.cat([counts[test] for _, test in rows]).cpu(),
    )


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


def _hits_and_likelihoods(log_p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the true class is the likeliest, and its log-probability, `(B, C, M), (B,) -> (B, M), (B, M)`."""
    log_p = log_p.double().clamp(min=math.log(torch.finfo(torch.float32).eps))
    hit = log_p.argmax(1) == target[:, None]
    return hit.double(), log_p.gather(1, target[:, None, None].expand(-1, 1, log_p.shape[2])).squeeze(1)
