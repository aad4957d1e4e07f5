"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from genlabel_plugins._files import write_whole
from genlabel_plugins._version import __version__
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.diagnostics.report import wording
from genlabel_plugins.diagnostics.report._colors import OTHERS, class_colors
from genlabel_plugins.diagnostics.report._pictures import (
    MIXED_ONLY,
    NEUTRAL,
    WITH_CLEAN,
    Picture,
    gamma_pictures,
    projection_pictures,
    region_pictures,
    reliability_picture,
)
from genlabel_plugins.diagnostics.report._snippets import snippets

TEMPLATE = "report.html.jinja"
_LINES = [
    {"name": "no mixing", "color": NEUTRAL},
    {"name": "mixed rows only", "color": MIXED_ONLY},
    {"name": "with the clean batch", "color": WITH_CLEAN},
]


class Report:
    """Renders a diagnosis, also again and again while it grows: a picture is drawn anew only if its data changed.

    Example:
        >>> import torch
        >>> from genlabel_plugins.diagnostics import Diagnosis, LabeledTable
        >>> table = LabeledTable(torch.randn(20, 2), torch.arange(20) % 2, class_names=["<a>", "b"])
        >>> page = Report().render(Diagnosis(table))
        >>> "&lt;a&gt;" in page, "<a>" in page
        (True, False)
    """

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[Any, Any]] = {}

    @staticmethod
    def prepare() -> None:
        """Import what draws and writes, which may take a second.

        Raises:
            ModuleNotFoundError: Without `genlabel-plugins[cli]`.
        """
        for module in ("jinja2", "matplotlib.figure"):
            try:
                import_module(module)
            except ModuleNotFoundError as error:
                package = module.partition(".")[0]
                if error.name not in (package, module):
                    raise
                raise ModuleNotFoundError(f"the report needs {package}: pip install 'genlabel-plugins[cli]'") from error

    def save(self, diagnosis: Diagnosis, path: str | Path) -> None:
        """Write the page in place of an earlier one; whoever reads the file meanwhile sees one or the other, whole.

        Raises:
            OSError: If the file cannot be written.
        """
        write_whole(path, self.render(diagnosis).encode())

    def render(self, diagnosis: Diagnosis) -> str:
        """The page as text.

        Raises:
            ModuleNotFoundError: Without `genlabel-plugins[cli]`.
        """
        self.prepare()
        page: str = _template().render(self._context(diagnosis))
        return page

    def _context(self, diagnosis: Diagnosis) -> dict[str, Any]:
        table, advice = diagnosis.table, diagnosis.recommendation
        notes = dict.fromkeys(f"{fit.backend}: {note}" for fit in diagnosis.fits.values() for note in fit.notes)
        return {
            "version": __version__,
            "name": table.name,
            "target": table.target_name,
            "n_rows": f"{len(table.x):,}",
            "n_rows_read": f"{table.n_rows_read:,}",
            "n_columns": f"{table.x.shape[1]:,}",
            "n_classes": len(table.class_names),
            "class_names": table.class_names,
            "giveaways": table.giveaways,
            "treatments": table.treatments,
            "status": wording.status_words(diagnosis),
            "standing": wording.standing_words(diagnosis),
            "largest": wording.largest_class(table, diagnosis.comparison),
            "recommendation": wording.recommendation_words(advice) if advice else None,
            "classes": wording.class_words(table, class_colors(table)),
            "intrusion": wording.intrusion_words(diagnosis),
            "comparison": self._comparison(diagnosis),
            "fits": [wording.fit_words(fit) for fit in diagnosis.fits.values()],
            "fit_notes": list(notes),
            "reliability": self._reliability(diagnosis),
            "skipped": [{"title": title, "reason": reason} for title, reason in diagnosis.skipped.items()],
            "projection": self._projection(diagnosis),
            "key_entries": _key(table),
            "snippets": snippets(table, advice, next(iter(diagnosis.standings), None)),
        }

    def _reliability(self, diagnosis: Diagnosis) -> Picture | None:
        grows = diagnosis.comparison is None and _is_ahead(diagnosis, "backend")
        return None if grows or not diagnosis.fits else self._once("fits", diagnosis.fits, reliability_picture)

    def _comparison(self, diagnosis: Diagnosis) -> dict[str, Any] | None:
        comparison = diagnosis.comparison
        if comparison is None or not comparison.settings:
            return None
        words = wording.comparison_words(comparison, diagnosis.table)
        grows = _is_ahead(diagnosis, "comparison")
        pictures = [] if grows else self._once("comparison", comparison, gamma_pictures)
        return {**words, "pictures": pictures, "key": _LINES}

    def _projection(self, diagnosis: Diagnosis) -> dict[str, Any] | None:
        projection, table = diagnosis.projection, diagnosis.table
        if projection is None:
            return None
        return {
            "sentence": f"{projection.title}. Mixed rows wear the colors of their labels: a blend of two classes under "
            f"mixup, the classes that the row looks like under GenLabel with {projection.backend}, which moves "
            f"{projection.moved:.0%} of the label on average.",
            "pictures": self._once("projection", projection, lambda projection: projection_pictures(projection, table)),
            "regions": self._once("regions", projection, lambda projection: region_pictures(projection, table)),
        }

    def _once(self, name: str, data: Any, make: Callable[[Any], Any]) -> Any:
        earlier, drawn = self._drawn.get(name, (None, None))
        if earlier is not data:
            drawn = make(data)
            self._drawn[name] = (data, drawn)
        return drawn


def _is_ahead(diagnosis: Diagnosis, what: str) -> bool:
    """Whether more of a kind of step is yet to come, so that what it adds to is not worth drawing."""
    return not diagnosis.interrupted and any(title.startswith(what) for title in diagnosis.missing)


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = resources.files("genlabel_plugins.diagnostics.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source)


def _key(table: LabeledTable) -> list[dict[str, str]]:
    """Classes with a color of their own, and one entry for the others."""
    colors = class_colors(table)
    own = [{"name": name, "color": c} for name, c in zip(table.class_names, colors, strict=True) if c != OTHERS]
    n_others = len(colors) - len(own)
    return [*own, *([{"name": f"{n_others} smaller classes", "color": OTHERS}] if n_others else [])]
