"""A diagnosis in display-ready words and figures, for the page and the terminal alike."""

from __future__ import annotations

import math
from typing import Any

from genlabel_plugins.diagnostics.questions.comparison import Comparison, Estimate, Setting
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis
from genlabel_plugins.diagnostics.questions.recommendation import Recommendation, probability_text
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.diagnostics.report._intrusion_pairs import intrusion_sentence, pairs_of

MAX_MATRIX = 8  # classes for which all pairs are shown
MAX_LISTED = 12


def percent(share: float) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.1234)
        '12.3 %'
    """
    return f"{100 * share:.1f} %"


def with_error(estimate: Estimate) -> str:
    """An accuracy in percent with its standard error.

    Example:
        >>> with_error(Estimate(0.912, 0.011))
        '91.2 ± 1.1'
    """
    return f"{100 * estimate.mean:.1f} ± {100 * estimate.error:.1f}"


def status_words(diagnosis: Diagnosis) -> dict[str, Any] | None:
    """What is missing, if anything."""
    if not diagnosis.missing:
        return None
    title = "Stopped before it was finished" if diagnosis.interrupted else "Still at work, or cut off"
    return {"title": title, "missing": ", ".join(diagnosis.missing), "final": diagnosis.interrupted}


def class_words(table: LabeledTable, colors: list[str]) -> dict[str, Any]:
    """Sizes of the classes, the largest first where there are many."""
    counts = table.counts.tolist()
    shown = list(range(len(counts)))
    if len(counts) > MAX_LISTED:
        shown = sorted(shown, key=lambda c: -counts[c])[:MAX_LISTED]
    rows = [
        {
            "name": table.class_names[c],
            "count": f"{counts[c]:,}",
            "share": f"{counts[c] / sum(counts):.0%}",
            "width": round(100 * counts[c] / max(counts), 1),
            "color": colors[c],
        }
        for c in shown
    ]
    ratio = max(counts) / min(counts)
    balance = "balanced" if ratio < 1.5 else f"uneven, the largest {ratio:.1f} times the smallest"
    hint = ": plain accuracy flatters the large ones" if ratio >= 5 else ""
    more = f"The {MAX_LISTED} largest of {len(counts)} classes." if len(counts) > MAX_LISTED else ""
    return {"sentence": f"{len(counts)} classes, {balance}{hint}.", "rows": rows, "more": more}


def intrusion_words(diagnosis: Diagnosis) -> dict[str, Any] | None:
    """Intrusion as a matrix for few classes, as the worst pairs for many."""
    intrusion, names = diagnosis.intrusion, diagnosis.table.class_names
    if intrusion is None:
        return None
    pairs = pairs_of(intrusion, names)
    words: dict[str, Any] = {
        "sentence": intrusion_sentence(intrusion),
        "n_mixed": f"{int(intrusion.pair_count.triu().sum()):,}",
        "pairs": [
            {"first": p.names[0], "second": p.names[1], "rate": percent(p.rate), "n_mixed": f"{p.n_mixed:,}"}
            for p in pairs[:MAX_LISTED]
        ],
        "more": "",
        "matrix": None,
    }
    if len(names) <= MAX_MATRIX:
        words["matrix"] = [[_cell(rate) for rate in row] for row in intrusion.rate.tolist()]
    elif len(pairs) > MAX_LISTED:
        words["more"] = f"The {MAX_LISTED} worst of {len(pairs):,} pairs."
    return words


def _cell(rate: float) -> dict[str, Any]:
    if math.isnan(rate):  # no pair was drawn
        return {"text": "–", "heat": 0}
    return {"text": percent(rate), "heat": round(min(0.75, 1.5 * rate), 3)}


def fit_words(fit: BackendFit) -> dict[str, Any]:
    """One backend as a row of a table."""
    is_open = fit.may_be_trusted or not fit.is_judged
    return {
        "name": fit.backend,
        "accuracy": with_error(Estimate(fit.accuracy, fit.accuracy_error)),
        "verdict": fit.verdict,
        "tone": "good" if fit.is_trusted else "fair" if is_open else "poor",
        "calibration": fit.calibration,
        "calibration_error": f"{100 * fit.calibration_error:.1f}",
        "log_loss": f"{fit.log_loss:.3f}",
        "temperature": f"{fit.temperature:.2f}" if fit.temperature < 100 else "> 100",
        "held_out": f"{fit.n_held_out:,}",
    }


def comparison_words(comparison: Comparison, rows_used: int) -> dict[str, Any]:
    """Accuracy and log-loss of every setting at its best learning rate."""
    settings = comparison.distinct_settings()
    chosen = {setting: comparison.best(setting.__eq__) for setting in settings}
    means = {setting: comparison.estimate(m).mean for setting, m in chosen.items()}
    best = max(means.values())

    def accuracy(setting: Setting) -> dict[str, Any]:
        if setting not in chosen:
            return {"text": "", "is_best": False}
        return {
            "text": with_error(comparison.estimate(chosen[setting])),
            "is_best": means[setting] >= best - 1e-9,
        }

    def loss(setting: Setting) -> dict[str, Any]:
        text = f"{float(comparison.log_loss[:, chosen[setting]].double().mean()):.3f}" if setting in chosen else ""
        return {"text": text, "is_best": False}

    rows = []
    kinds = dict.fromkeys(setting._replace(keep_clean=False) for setting in settings)
    for setting in sorted(kinds, key=lambda setting: setting.backend or ""):
        pair = (setting, setting._replace(keep_clean=True))
        name = str(setting).removeprefix("GenLabel ")
        rows.append({"name": name, "cells": [*map(accuracy, pair), *map(loss, pair)]})
    repeats = f"{comparison.n_repeats} repeat{'s' if comparison.n_repeats > 1 else ''}"
    sample = f" of a sample of {comparison.n_rows:,} rows" if comparison.n_rows < rows_used else ""
    return {
        "sentence": "Held-out accuracy of logistic regression trained each way. Higher is better; differences within "
        "the standard errors (±) may be chance.",
        "method": f"Cross-validation in {comparison.n_folds} folds, {repeats}{sample}, each setting at the best of "
        f"{len(set(comparison.learning_rates))} learning rates; standard errors allow for training rows that folds "
        "share. "
        f"The best of {len(settings)} settings owes some of its accuracy to chance: the recommendation scores each "
        "choice on rows that it was not made on.",
        "rows": rows,
    }


def recommendation_words(recommendation: Recommendation) -> dict[str, Any]:
    """The recommendation with its probability as text."""
    confidence, _, why = recommendation.confidence.partition(": ")
    return {
        "verdict": recommendation.verdict,
        "confidence": confidence,
        "why": why,
        "probability": probability_text(recommendation.probability),
        "that": "that nothing else is more accurate"
        if recommendation.setting.scheme == "none"
        else "that it is more accurate than anything simpler",
        "reasons": recommendation.reasons,
        "cautions": recommendation.cautions,
    }
