"""Runs the cross-validation of all models, repeat by repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from genlabel_plugins.diagnostics.questions._folds import N_FOLDS, block_splits, make_splits
from genlabel_plugins.diagnostics.questions._held_out import (
    CLASS_SHARES,
    FOREST,
    LOGISTIC,
    SEARCH,
    candidate_probabilities,
    class_shares,
    scores,
    sklearn_probabilities,
    stacked_probabilities,
    yardsticks,
)
from genlabel_plugins.diagnostics.questions._interrupts import OutOfTimeError
from genlabel_plugins.diagnostics.questions.comparison import Comparison, setting_of
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.selection import Candidate, candidate_grid
from genlabel_plugins.selection.search import Split

GAMMAS, COARSE_GAMMAS = (0.2, 0.4, 0.6, 0.8, 1.0), (0.5, 1.0)
CS, COARSE_CS = (0.001, 0.01, 0.1, 1.0, 10.0), (0.01, 0.1, 1.0)
SEARCHED = ("gm", "kde")  # by GenLabelClassifierCV
MIN_ROWS = 500  # to which a large table is shrunk at most
MAX_WORK = 1_600_000  # a few seconds a repeat on one core
LEAST_FOLDS = 3  # that candidates must have been scored on
ALL_ELSE = "all that mixes, the densities alone, GenLabelClassifierCV and the random forest"


def next_repeat(
    table: LabeledTable,
    done: Comparison | None,
    backends: Sequence[str],
    *,
    densities: Sequence[str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Cross-validate all models once more, on new folds.

    Args:
        table: Rows and classes; to bound the time, of large tables a sample is used, for many classes a coarse grid.
        done: Repeats so far.
        backends: Densities that GenLabel is tried with.
        densities: Densities that classify alone; by default the same.
        seed: Seed of the first repeat.

    Returns:
        All repeats; of the first, what was done by a deadline, if one passed once its yardsticks were scored.

    Raises:
        OutOfTimeError: If a deadline passed before, or in a later repeat.
    """
    if done is not None and done.left_out:
        raise OutOfTimeError
    rows = table.shrunk_to(affordable_rows(table.x.shape[1], len(table.class_names)), seed)
    fold_seed = seed + (done.n_repeats if done else 0)
    splits, method = make_splits(table, rows, fold_seed)
    candidates = _candidates(table, len(rows), backends, densities or backends)
    # A forest takes as long as all others.
    fresh = _cross_validated(table, rows, splits, candidates, seed=fold_seed, has_forest=done is None)
    if done is None:
        return replace(fresh, method=method)
    if fresh.left_out:
        raise OutOfTimeError
    return replace(_joined(done, fresh), method=method)


def compare_yardsticks(table: LabeledTable, seed: int = 0) -> Comparison:
    """Cross-validate logistic regression and the shares of the classes alone, as the first repeat does."""
    rows = table.shrunk_to(affordable_rows(table.x.shape[1], len(table.class_names)), seed)
    splits, method = make_splits(table, rows, seed)
    found = _cross_validated(table, rows, splits, [], seed=seed, has_forest=False)
    return replace(found, method=method, left_out=ALL_ELSE)


def compare_in_blocks(
    table: LabeledTable, backends: Sequence[str], *, densities: Sequence[str] | None = None, seed: int = 0
) -> Comparison:
    """Cross-validate all models on blocks of consecutive rows.

    Raises:
        OutOfTimeError: If a deadline passed before all was done.
    """
    rows = table.shrunk_to(affordable_rows(table.x.shape[1], len(table.class_names)), seed)
    candidates = _candidates(table, len(rows), backends, densities or backends)
    splits = block_splits(table.target[rows])
    found = _cross_validated(table, rows, splits, candidates, seed=seed, has_forest=True)
    if found.left_out:
        raise OutOfTimeError
    return replace(found, method=f"Cross-validation in {N_FOLDS} blocks of consecutive rows")


def work(n_rows: int, n_columns: int, n_classes: int) -> float:
    """Time of a repeat in arbitrary units, as measured; kernel densities make it quadratic in the rows."""
    return n_rows * (1 + n_rows / 2000) * (n_classes + 2) * (n_columns + 60)


def affordable_rows(n_columns: int, n_classes: int) -> int:
    """Rows for which the work is within bounds.

    Example:
        >>> affordable_rows(20, 3), affordable_rows(50, 10)
        (2000, 850)
    """
    each = MAX_WORK / ((n_classes + 2) * (n_columns + 60))
    return max(MIN_ROWS, round(1000 * (math.sqrt(1 + each / 500) - 1)))


def _cross_validated(
    table: LabeledTable,
    rows: Tensor,
    splits: Sequence[Split],
    candidates: Sequence[Candidate],
    *,
    seed: int,
    has_forest: bool,
) -> Comparison:
    """Scores by split, what needs the least time first: a deadline leaves what was done before."""
    x, target, n_classes = table.x[rows], table.target[rows], len(table.class_names)
    searched = [m for m, candidate in enumerate(candidates) if _is_searched(candidate)]
    targets = [target[test] for _, test in splits]
    makers = yardsticks(seed)

    def by_sklearn(name: str) -> list[Tensor]:
        return [sklearn_probabilities(makers[name], x, target, split, n_classes) for split in splits]

    found = {CLASS_SHARES: [class_shares(target, split, n_classes) for split in splits], LOGISTIC: by_sklearn(LOGISTIC)}
    scored, kept = [], []
    with suppress(OutOfTimeError):  # which comes but once
        for split, labels in zip(splits if candidates else [], targets, strict=False):
            probabilities = candidate_probabilities(x, target, split, candidates, n_classes=n_classes, seed=seed)
            scored.append(scores(probabilities, labels))
            kept.append(probabilities[..., searched])
        if has_forest:
            found[FOREST] = by_sklearn(FOREST)
    left_out = "" if FOREST in found or not has_forest else "the random forest"
    n_folds = len(scored)
    if n_folds < len(splits):
        left_out = f"the random forest, and {len(splits) - n_folds} of {len(splits)} folds of all that mixes"
    if n_folds < LEAST_FOLDS and n_folds < len(splits):
        candidates, searched, n_folds, left_out = [], [], len(splits), ALL_ELSE
        scored = [torch.zeros(3, 0, dtype=torch.float64)] * n_folds
    elif searched:
        found[SEARCH] = stacked_probabilities(kept, targets[:n_folds], [candidates[m] for m in searched])
    accuracy, balanced_accuracy, log_loss = torch.stack(scored, 1)
    return Comparison(
        settings=tuple(setting_of(candidate) for candidate in candidates),
        Cs=tuple(candidate.C for candidate in candidates),
        accuracy=accuracy,
        log_loss=log_loss,
        n_folds=n_folds,
        n_rows=len(rows),
        balanced_accuracy=balanced_accuracy,
        others={
            name: torch.stack([scores(p[..., None], labels)[:, 0] for p, labels in zip(each, targets, strict=False)])
            for name, each in found.items()
        },
        left_out=left_out,
    )


def _joined(done: Comparison, fresh: Comparison) -> Comparison:
    def both(name: str) -> Tensor:
        return torch.cat([getattr(done, name), getattr(fresh, name)])

    return replace(
        fresh,
        accuracy=both("accuracy"),
        log_loss=both("log_loss"),
        balanced_accuracy=both("balanced_accuracy"),
        others={name: torch.cat([each, fresh.others.get(name, each[:0])]) for name, each in done.others.items()},
    )


def _candidates(table: LabeledTable, n_rows: int, backends: Sequence[str], densities: Sequence[str]) -> list[Candidate]:
    """All settings, on mixed rows alone and beside the clean batch, the densities alone first."""
    is_coarse = work(n_rows, table.x.shape[1], len(table.class_names)) > 3 * MAX_WORK
    gammas, Cs = (COARSE_GAMMAS, COARSE_CS) if is_coarse else (GAMMAS, CS)
    alone = candidate_grid(schemes=("density",), backends=densities)
    grids = [
        candidate_grid(backends=backends, gammas=gammas, Cs=Cs, keep_clean=keep_clean)
        for keep_clean in ((True,) if is_coarse else (False, True))
    ]
    return list(dict.fromkeys(candidate for grid in (alone, *grids) for candidate in grid))


def _is_searched(candidate: Candidate) -> bool:
    return candidate.backend in (None, *SEARCHED) and not candidate.keep_clean
