"""Runs the cross-validation of all schemes, repeat by repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genlabel_plugins.diagnostics.questions.comparison import Comparison, setting_of
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.selection import Candidate, candidate_grid, cross_validate
from genlabel_plugins.selection.search import Split, stratified_splits

GAMMAS, COARSE_GAMMAS = (0.2, 0.4, 0.6, 0.8, 1.0), (0.5, 1.0)
LEARNING_RATES, COARSE_LEARNING_RATES = (0.1, 0.01, 0.001), (0.1, 0.01)
N_FOLDS = 5
MIN_ROWS = 500  # to which a large table is shrunk at most
MAX_WORK = 1_600_000  # about eight seconds a repeat on one core


def next_repeat(table: LabeledTable, done: Comparison | None, backends: Sequence[str], *, seed: int = 0) -> Comparison:
    """Cross-validate all candidates once more, on new folds.

    Args:
        table: Rows and classes; to bound the time, of large tables a sample is used, for many classes a coarse grid.
        done: Repeats so far.
        backends: Densities that GenLabel is tried with.
        seed: Seed of the first repeat.

    Returns:
        All repeats.
    """
    n_classes = len(table.class_names)
    rows = table.shrunk_to(affordable_rows(table.x.shape[1], n_classes), seed)
    x, target = table.x[rows], table.target[rows]
    is_coarse = work(len(rows), x.shape[1], n_classes) > 3 * MAX_WORK
    candidates = _candidates(backends, is_coarse)
    n_done = done.n_repeats if done else 0
    seed += n_done
    splits = twin_splits(x, target, seed)
    fresh = cross_validate(x, target, candidates, n_folds=N_FOLDS, splits=splits, n_classes=n_classes, seed=seed)
    earlier = [done] if done else []
    return Comparison(
        settings=tuple(setting_of(candidate) for candidate in candidates),
        learning_rates=tuple(candidate.learning_rate or 0.0 for candidate in candidates),
        accuracy=torch.cat([*(repeat.accuracy for repeat in earlier), fresh.accuracy]),
        log_loss=torch.cat([*(repeat.log_loss for repeat in earlier), fresh.log_loss]),
        n_folds=fresh.n_folds,
        n_rows=len(rows),
    )


def twin_splits(x: Tensor, target: Tensor, seed: int) -> list[Split] | None:
    """Folds that hold out rows together which are the same; None, which is folds of rows, where all rows differ.

    Example:
        >>> x = torch.arange(20.0)[:, None] // 2
        >>> splits = twin_splits(x, torch.arange(20) // 10, seed=0)
        >>> [len(held_out) for _, held_out in splits], set(x[splits[0][0]].flatten()) & set(x[splits[0][1]].flatten())
        ([4, 4, 4, 4, 4], set())
    """
    _, first, twins = np.unique(x.numpy(force=True), axis=0, return_index=True, return_inverse=True)
    if len(first) == len(x):
        return None
    splits = stratified_splits(target.numpy(force=True)[first], N_FOLDS, seed=seed)
    held_out = [np.isin(twins.ravel(), test) for _, test in splits]
    return [(np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)) for is_held_out in held_out]


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


def _candidates(backends: Sequence[str], is_coarse: bool) -> list[Candidate]:
    """All settings, on mixed rows alone and beside the clean batch."""
    gammas, learning_rates = (COARSE_GAMMAS, COARSE_LEARNING_RATES) if is_coarse else (GAMMAS, LEARNING_RATES)
    grids = [
        candidate_grid(backends=backends, gammas=gammas, learning_rates=learning_rates, keep_clean=keep_clean)
        for keep_clean in ((True,) if is_coarse else (False, True))
    ]
    return list(dict.fromkeys(candidate for grid in grids for candidate in grid))
