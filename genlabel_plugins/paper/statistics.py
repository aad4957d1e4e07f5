"""How schemes stand over many sets: shares, ranks, signed-rank tests and Elo, all from mean scores over seeds."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

ON_PAR = 5e-4  # of means over seeds: 0.05 points, or hundredths of a nat
LOWER_IS_BETTER = ("log_loss", "scaled_log_loss", "calibration")


def by_set(summary: pd.DataFrame, schemes: Sequence[str], measure: str) -> pd.DataFrame:
    """Scores of which the highest is best, sets by schemes; sets that lack a scheme are left out."""
    table = summary.pivot_table(index="set", columns="scheme", values=measure, dropna=False)
    table = table.reindex(columns=list(schemes)).dropna()
    return -table if measure in LOWER_IS_BETTER else table


def shares(table: pd.DataFrame, scheme: str, baseline: str) -> tuple[float, float, float]:
    """Per cent of the sets on which a scheme is higher, on par and lower.

    Example:
        >>> shares(pd.DataFrame({"a": [0.9, 0.5, 0.5, 0.4], "b": [0.8, 0.5, 0.6, 0.5]}), "a", "b")
        (25.0, 25.0, 50.0)
    """
    difference = table[scheme] - table[baseline]
    parts = (difference > ON_PAR, difference.abs() <= ON_PAR, difference < -ON_PAR)
    higher, par, lower = (100 * float(part.mean()) for part in parts)
    return higher, par, lower


def signed_rank(table: pd.DataFrame, scheme: str, baseline: str) -> float:
    """The p of Wilcoxon's signed-rank test over sets."""
    difference = table[scheme] - table[baseline]
    return 1.0 if len(difference) == 0 or not difference.any() else float(wilcoxon(difference).pvalue)


def mean_ranks(table: pd.DataFrame) -> pd.Series:
    """Mean rank of each scheme over sets, 1 for the best; ties share.

    Example:
        >>> mean_ranks(pd.DataFrame({"a": [0.9, 0.5], "b": [0.8, 0.5]})).to_dict()
        {'a': 1.25, 'b': 1.75}
    """
    return table.rank(axis=1, ascending=False).mean()


def elo(table: pd.DataFrame, anchor: str) -> pd.DataFrame:
    """Elo of each scheme by `bencheval`, 1000 for the anchor, with the widths of 95 % bootstrap intervals over sets."""
    from bencheval.evaluator import BenchmarkEvaluator  # noqa: PLC0415

    long = (table.max(axis=None) - table).stack().rename("metric_error").reset_index()
    evaluator = BenchmarkEvaluator(method_col="scheme", task_col="set", error_col="metric_error")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002 - the bootstrap may draw from it
        try:
            return evaluator.compute_elo(long, calibration_framework=anchor, calibration_elo=1000)
        finally:
            np.random.set_state(state)  # noqa: NPY002
