"""Runs the cross-validation of all schemes, repeat by repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from genlabel_plugins.diagnostics.questions.comparison import Comparison, setting_of
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.selection import Candidate, candidate_grid, cross_validate

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
    x, target, n_classes = table.x, table.target, len(table.class_names)
    rows = table.shrunk_to(affordable_rows(x.shape[1], n_classes), seed)
    is_coarse = work(len(rows), x.shape[1], n_classes) > 3 * MAX_WORK
    candidates = _candidates(backends, is_coarse)
    n_done = done.n_repeats if done else 0
    fresh = cross_validate(x[rows], target[rows], candidates, n_folds=N_FOLDS, n_classes=n_classes, seed=seed + n_done)
    earlier = [done] if done else []
    return Comparison(
        settings=tuple(setting_of(candidate) for candidate in candidates),
        learning_rates=tuple(candidate.learning_rate or 0.0 for candidate in candidates),
        accuracy=torch.cat([*(repeat.accuracy for repeat in earlier), fresh.accuracy]),
        log_loss=torch.cat([*(repeat.log_loss for repeat in earlier), fresh.log_loss]),
        n_folds=N_FOLDS,
        n_rows=len(rows),
    )


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
