"""A diagnosis as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from genlabel_plugins.diagnostics.questions.comparison import Comparison
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis
from genlabel_plugins.diagnostics.report._intrusion_pairs import pairs_of


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
    known: dict[str, Any] = {
        "file": table.name,
        "target": table.target_name,
        "n_rows": len(table.x),
        "n_rows_read": table.n_rows_read,
        "columns": list(table.column_names),
        "classes": dict(zip(table.class_names, table.counts.tolist(), strict=True)),
        "giveaways": list(table.giveaways or ()),
        "treatments": list(table.treatments),
        "complete": not diagnosis.missing,
        "interrupted": diagnosis.interrupted,
        "missing": list(diagnosis.missing),
        "skipped": dict(diagnosis.skipped),
        "seconds": round(diagnosis.seconds, 3),
        "recommendation": None
        if advice is None
        else {**vars(advice), "setting": advice.setting._asdict(), "reasons": list(advice.reasons)},
        "intrusion": None
        if intrusion is None
        else {
            "overall": float(intrusion.overall),
            "pairs": [
                {"classes": list(pair.names), "rate": pair.rate, "n_mixed": pair.n_mixed}
                for pair in pairs_of(intrusion, table.class_names)
            ],
        },
        "backends": {
            name: {**vars(fit), "is_trusted": fit.is_trusted, "bins": [vars(b) for b in fit.bins]}
            for name, fit in diagnosis.fits.items()
        },
        "comparison": None if diagnosis.comparison is None else _comparison(diagnosis.comparison),
    }
    return json.dumps(_finite(known), indent=2)


def _comparison(comparison: Comparison) -> dict[str, Any]:
    settings = []
    for setting in comparison.distinct_settings():
        m = comparison.best(setting.__eq__)
        mean, error = comparison.estimate(m)
        settings.append(
            {
                **setting._asdict(),
                "learning_rate": comparison.learning_rates[m],
                "accuracy": mean,
                "standard_error": error,
                "log_loss": float(comparison.log_loss[:, m].double().mean()),
            }
        )
    return {
        "n_rows": comparison.n_rows,
        "n_folds": comparison.n_folds,
        "n_repeats": comparison.n_repeats,
        "settings": settings,
    }


def _finite(value: Any) -> Any:
    """The same with null for what is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
