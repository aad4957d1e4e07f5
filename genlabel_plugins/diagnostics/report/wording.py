"""A diagnosis in display-ready words and figures, for the page and the terminal alike."""

from __future__ import annotations

import math
from typing import Any

from genlabel_plugins.diagnostics.questions._held_out import CLASS_SHARES, FOREST, LOGISTIC, SEARCH
from genlabel_plugins.diagnostics.questions.comparison import Comparison, Estimate, Setting
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis
from genlabel_plugins.diagnostics.questions.recommendation import NOTHING, Recommendation, probability_text
from genlabel_plugins.diagnostics.questions.standings import AHEAD, LEARNT, Standing, standings
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.diagnostics.report._intrusion_pairs import intrusion_sentence, pairs_of

WHAT = {
    CLASS_SHARES: "no column is looked at",
    LOGISTIC: "scikit-learn's defaults, behind StandardScaler",
    FOREST: "scikit-learn's defaults",
    SEARCH: "chooses and averages no mixing, mixup, GenLabel and densities",
}
EFFECTS = {
    "helpful": "mixing helps",
    "harmful": "mixing harms",
    "useless": "mixing is useless here: within 1 point of no mixing",
    "unclear": "mixing may help or harm: until more rows tell, do without",
    "nothing": "there is nothing that mixing could help with",
}
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


def comparison_words(comparison: Comparison, table: LabeledTable) -> dict[str, Any]:
    """Accuracy and log-loss of every setting at its best penalty."""
    settings = [setting for setting in comparison.distinct_settings() if setting.scheme != "density"]
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
        text = nats(comparison.estimate(chosen[setting], "log_loss")) if setting in chosen else ""
        return {"text": text, "is_best": False}

    rows = []
    kinds = dict.fromkeys(setting._replace(keep_clean=False) for setting in settings)
    for setting in sorted(kinds, key=lambda setting: setting.backend or ""):
        pair = (setting, setting._replace(keep_clean=True))
        name = str(setting).removeprefix("GenLabel ")
        rows.append({"name": name, "cells": [*map(accuracy, pair), *map(loss, pair)]})
    n_penalties = len({C for C, setting in zip(comparison.Cs, comparison.settings, strict=True) if setting in chosen})
    return {
        "sentence": "Held-out accuracy of logistic regression trained each way. Higher is better; differences within "
        "the standard errors (±) may be chance.",
        "largest": largest_class(table, comparison),
        "method": f"{method_words(comparison, table)}. Each setting stands at the best of {n_penalties} penalties. "
        f"The best of {len(settings)} settings owes some of its accuracy to chance: the recommendation scores each "
        "choice on rows that it was not made on.",
        "rows": rows,
    }


def method_words(comparison: Comparison, table: LabeledTable) -> str:
    """How rows were held out."""
    repeats = f", {comparison.n_repeats} repeat{'s' if comparison.n_repeats > 1 else ''}" * (comparison.n_folds > 1)
    sample = f" of a sample of {comparison.n_rows:,} rows" if comparison.n_rows < len(table.x) else ""
    method = comparison.method or f"Cross-validation in {comparison.n_folds} folds"
    return f"{method}{repeats}{sample}; standard errors allow for training rows that folds share"


def largest_class(table: LabeledTable, comparison: Comparison | None = None) -> str:
    """The share of the largest class, which a score must beat; in time, of rows after those in which it is the largest.

    Example:
        >>> import torch
        >>> largest_class(LabeledTable(torch.randn(20, 2), torch.arange(20) // 12))
        'largest class 60.0 %'
    """
    if table.time is not None and comparison is not None and CLASS_SHARES in comparison.others:
        accuracy = comparison.mean_of(comparison.others[CLASS_SHARES][:, 0]).mean
        return f"largest class so far {percent(accuracy)}"
    return f"largest class {percent(float(table.counts.max() / table.counts.sum()))}"


def nats(estimate: Estimate) -> str:
    """A log-loss with its standard error.

    Example:
        >>> nats(Estimate(0.4567, 0.0123))
        '0.457 ± 0.012'
    """
    return f"{estimate.mean:.3f} ± {estimate.error:.3f}"


def standing_words(diagnosis: Diagnosis) -> dict[str, Any] | None:
    """The best model found, beside others, and a table of all."""
    found, comparison = diagnosis.standings, diagnosis.comparison
    if not found or comparison is None:
        return None
    cut = [f"Of what was to be compared, time did not allow {comparison.left_out}."] if comparison.left_out else []
    best, names = found[0], {each.name: each for each in found}
    is_learnt = best.name != CLASS_SHARES
    beside = [names[name] for name in (LOGISTIC, FOREST, CLASS_SHARES) if name in names and name != best.name]
    scored = "; ".join(f"{each.name}, {_both(each)}" for each in beside)
    sentences = [f"Right on {_both(best)} of held-out rows. Beside it: {scored}."]
    if not is_learnt:
        first = "" if len(found) < 2 or found[1] in beside else f"{found[1].name}, {_both(found[1])}; "
        sentences = [
            f"No model beats always naming the largest class (right on {percent(best.accuracy.mean)} of held-out rows) "
            f"with a probability of {LEARNT}, neither by accuracy nor by log-loss: {first}{scored}."
        ]
    elif best.name == FOREST:
        sentences.append("A random forest at scikit-learn's defaults is better here than anything that mixes rows.")
    elif FOREST in best.rivals:
        sentences.append("It is not told apart from a random forest at scikit-learn's defaults.")
    if is_learnt and diagnosis.blocks is not None:
        inside = {each.name: each for each in standings(diagnosis.blocks)}
        accuracy = with_error(inside[best.name].accuracy)
        sentences.append(f"Neighboring rows resemble each other: in blocks of them it is right on {accuracy} %.")
    others = [name for name in best.rivals if name != FOREST]
    forest = "" if FOREST in names else "; the forest was left out: no time"
    if FOREST in names and comparison.n_repeats > 1:
        forest = "; the forest is scored in the first repeat only"
    chosen = " Of schemes and of GenLabelClassifierCV, what is chosen is chosen on other rows than it is scored on."
    if others and is_learnt:
        sentences.append(f"Not told apart from it with a probability of {AHEAD}: {', '.join(others)}.")
    return {
        "title": f"{best.name[0].upper()}{best.name[1:]}" if is_learnt else NOTHING,
        "sentences": sentences + cut,
        "rows": [
            {
                "name": each.name,
                "what": what_it_is(each),
                "accuracy": with_error(each.accuracy),
                "balanced_accuracy": with_error(each.balanced_accuracy),
                "log_loss": nats(each.log_loss),
            }
            for each in found
        ],
        "largest": largest_class(diagnosis.table, comparison),
        "method": f"{method_words(comparison, diagnosis.table)}{forest}.{chosen * bool(comparison.settings)} "
        "Balanced accuracy is the mean over classes of the share that is found; no true class is taken to be less "
        "likely than 1e-7.",
    }


def _both(standing: Standing) -> str:
    return f"{with_error(standing.accuracy)} % (log-loss {nats(standing.log_loss)})"


def what_it_is(standing: Standing) -> str:
    """How a model is made, in words."""
    if standing.name in WHAT:
        return WHAT[standing.name]
    setting = f"{standing.setting}" if standing.setting and standing.setting.scheme != "density" else ""
    penalty = f"C {standing.C:g}" if standing.C is not None else "each density weighted by the share of its class"
    return f"{setting}, {penalty}" if setting else penalty


def recommendation_words(recommendation: Recommendation) -> dict[str, Any]:
    """The recommendation with its probability as text."""
    confidence, _, why = recommendation.confidence.partition(": ")
    if recommendation.effect not in ("helpful", "harmful"):
        confidence = ""  # the verdict claims nothing of which to be sure
    return {
        "verdict": recommendation.verdict,
        "effect": EFFECTS[recommendation.effect],
        "confidence": confidence,
        "why": why,
        "probability": probability_text(recommendation.probability),
        "that": "that nothing else is more accurate"
        if recommendation.setting.scheme == "none"
        else "that it is more accurate than anything simpler",
        "reasons": recommendation.reasons,
        "cautions": recommendation.cautions,
    }
