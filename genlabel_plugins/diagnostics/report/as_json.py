"""A diagnosis as JSON: all that the page shows, in the form that `report.schema.json` states."""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

from torch import Tensor

from genlabel_plugins._version import __version__
from genlabel_plugins.diagnostics.questions.comparison import SCORES
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis
from genlabel_plugins.diagnostics.questions.projection import Projection
from genlabel_plugins.diagnostics.questions.recommendation import Recommendation
from genlabel_plugins.diagnostics.questions.standings import Standing, standings
from genlabel_plugins.diagnostics.report import wording
from genlabel_plugins.diagnostics.report._intrusion_pairs import pairs_of
from genlabel_plugins.diagnostics.report._snippets import snippets

SCHEMA, SCHEMA_VERSION = "report.schema.json", 1
DIGITS = 4  # of points and labels in pictures


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `to_json`; its version rises whenever a reader of the last one would go astray.

    Example:
        >>> json_schema()["properties"]["schema_version"]
        {'const': 1}
    """
    text = resources.files("genlabel_plugins.diagnostics.report").joinpath(SCHEMA).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def to_json(diagnosis: Diagnosis) -> str:
    """All that is known, as JSON text; numbers that JSON has no word for are null.

    Example:
        >>> import torch
        >>> from genlabel_plugins.diagnostics import LabeledTable
        >>> text = to_json(Diagnosis(LabeledTable(torch.randn(20, 2), torch.arange(20) % 2), missing=("picture",)))
        >>> json.loads(text)["classes"], json.loads(text)["complete"]
        ({'0': 10, '1': 10}, False)
    """
    table, intrusion, advice = diagnosis.table, diagnosis.intrusion, diagnosis.recommendation
    counts = table.counts.tolist()
    known: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "genlabel": __version__,
        "file": table.name,
        "target": table.target_name,
        "n_rows": len(table.x),
        "n_rows_read": table.n_rows_read,
        "columns": list(table.column_names),
        "classes": dict(zip(table.class_names, counts, strict=True)),
        "largest_class": max(counts) / sum(counts),
        "balance": wording.class_words(table, [""] * len(counts))["sentence"],
        "giveaways": list(table.giveaways or ()),
        "treatments": list(table.treatments),
        "complete": not diagnosis.missing,
        "interrupted": diagnosis.interrupted,
        "missing": list(diagnosis.missing),
        "skipped": dict(diagnosis.skipped),
        "seconds": round(diagnosis.seconds, 3),
        "best": _best(diagnosis),
        "models": [_standing(each) for each in diagnosis.standings],
        "recommendation": None if advice is None else _recommendation(advice),
        "snippets": [snippet._asdict() for snippet in snippets(table, advice, next(iter(diagnosis.standings), None))],
        "intrusion": None
        if intrusion is None
        else {
            "overall": float(intrusion.overall),
            "sentence": (wording.intrusion_words(diagnosis) or {})["sentence"],
            "pairs": [
                {"classes": list(pair.names), "rate": pair.rate, "n_mixed": pair.n_mixed}
                for pair in pairs_of(intrusion, table.class_names)
            ],
        },
        "backends": {
            name: {
                **vars(fit),
                "is_trusted": fit.is_trusted,
                "verdict": fit.verdict,
                "calibration": fit.calibration,
                "bins": [vars(b) for b in fit.bins],
            }
            for name, fit in diagnosis.fits.items()
        },
        "comparison": _comparison(diagnosis),
        "blocks": None
        if diagnosis.blocks is None
        else {
            "method": wording.method_words(diagnosis.blocks, table),
            "models": [_standing(each) for each in standings(diagnosis.blocks)],
        },
        "projection": None if diagnosis.projection is None else _projection(diagnosis.projection),
    }
    return json.dumps(_finite(known), indent=2)


def _best(diagnosis: Diagnosis) -> dict[str, Any] | None:
    words = wording.standing_words(diagnosis)
    return None if words is None else {key: words[key] for key in ("title", "sentences", "method")}


def _standing(standing: Standing) -> dict[str, Any]:
    setting = standing.setting
    return {
        "name": standing.name,
        "what": wording.what_it_is(standing),
        "accuracy": standing.accuracy._asdict(),
        "balanced_accuracy": standing.balanced_accuracy._asdict(),
        "log_loss": standing.log_loss._asdict(),
        "setting": None if setting is None else setting._asdict(),
        "C": standing.C,
        "rivals": list(standing.rivals),
    }


def _recommendation(advice: Recommendation) -> dict[str, Any]:
    words = wording.recommendation_words(advice)
    return {
        **vars(advice),
        "setting": advice.setting._asdict(),
        "effect_in_words": words["effect"],
        "probability_that": words["that"],
    }


def _comparison(diagnosis: Diagnosis) -> dict[str, Any] | None:
    comparison = diagnosis.comparison
    if comparison is None or not comparison.settings:
        return None
    settings = []
    for setting in comparison.distinct_settings():
        if setting.scheme == "density":  # which are among the models
            continue
        m = comparison.best(setting.__eq__)
        scores: dict[str, Any] = {score: comparison.estimate(m, score)._asdict() for score in SCORES}
        settings.append({**setting._asdict(), "C": comparison.Cs[m], **scores})
    return {
        "n_rows": comparison.n_rows,
        "n_folds": comparison.n_folds,
        "n_repeats": comparison.n_repeats,
        "method": wording.comparison_words(comparison, diagnosis.table)["method"],
        "settings": settings,
    }


def _projection(projection: Projection) -> dict[str, Any]:
    return {
        "title": projection.title,
        "axes": list(projection.axes),
        "backend": projection.backend,
        "moved": projection.moved,
        "extent": list(projection.extent),
        "points": _rounded(projection.points),
        "classes": projection.target.tolist(),
        "mixed": _rounded(projection.mixed),
        "y_mix": _rounded(projection.y_mix),
        "y_gen": _rounded(projection.y_gen),
        "regions": {region.name: region.posterior.argmax(-1).tolist() for region in projection.regions},
    }


def _rounded(values: Tensor) -> list[Any]:
    found: list[Any] = values.double().round(decimals=DIGITS).tolist()
    return found


def _finite(value: Any) -> Any:
    """The same with null for what is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
