"""The pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch

from genlabel_plugins.diagnostics.questions.comparison import Comparison, scheme_is
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit
from genlabel_plugins.diagnostics.questions.projection import Projection
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.diagnostics.report._colors import MARKERS, PALETTE, blend_colors, class_colors
from genlabel_plugins.diagnostics.report._drawing import INK, draw

MIXED_ONLY, WITH_CLEAN = "#3f90da", "#e76300"
MIN_BIN_ROWS = 10
NEUTRAL = "#808590"  # seen on white and on black


class Picture(NamedTuple):
    """Inline SVG with a caption, and a description for those who cannot see it."""

    caption: str
    description: str
    svg: str


def projection_pictures(projection: Projection, table: LabeledTable) -> list[Picture]:
    """The rows, and mixed rows under either label."""
    colors = class_colors(table)
    clean = Picture(
        "Training rows",
        f"{len(projection.points)} rows in their class colors. {projection.title}.",
        draw(partial(_rows, projection=projection, colors=colors)),
    )
    labels = (
        ("Linear labels of mixup", projection.y_mix),
        (f"GenLabel's labels, {projection.backend}, gamma 1", projection.y_gen),
    )
    mixed = [
        Picture(
            caption,
            f"{len(projection.mixed)} mixed rows, each in its partners' class colors blended by its label.",
            draw(partial(_mixed, projection=projection, colors=blend_colors(y, colors).numpy())),
        )
        for caption, y in labels
    ]
    return [clean, *mixed]


def region_pictures(projection: Projection, table: LabeledTable) -> list[Picture]:
    """Decision regions of each classifier; none but for two columns."""
    colors = class_colors(table)
    return [
        Picture(
            region.name.capitalize() if region.name[0].islower() else region.name,
            f"The plane in the colors of the classes that the classifier ({region.name}) gives to each point.",
            draw(partial(_regions, projection=projection, posterior=region.posterior, colors=colors)),
        )
        for region in projection.regions
    ]


def gamma_pictures(comparison: Comparison) -> list[Picture]:
    """Accuracy over gamma, a picture for each backend; gamma 0 is mixup, the band is no mixing."""
    backends = dict.fromkeys(s.backend for s in comparison.settings if s.backend and s.scheme == "genlabel")
    ends = _accuracy_ends(comparison)
    return [
        Picture(
            f"Accuracy over gamma, {backend}",
            f"Accuracy of logistic regression over gamma with densities of {backend}, beside no mixing as a band. The "
            "numbers are in the table below.",
            draw(partial(_gamma, comparison=comparison, backend=backend, ends=ends)),
        )
        for backend in backends
    ]


def reliability_picture(fits: Mapping[str, BackendFit]) -> Picture:
    """How often each generative classifier is right over how sure it is."""
    return Picture(
        "How sure, and how often right",
        "Share of held-out rows classified correctly over the certainty stated, a line for each backend; a model that "
        "is as sure as it is right lies on the diagonal.",
        draw(partial(_reliability, fits=fits)),
    )


def _rows(axes: Any, projection: Projection, colors: list[str], size: float = 14) -> None:
    for c, color in enumerate(colors):
        rows = projection.points[projection.target == c].numpy()
        marker = MARKERS[c % len(MARKERS)]
        axes.scatter(*rows.T, s=size, color=color, marker=marker, alpha=0.85, linewidths=0)
    _frame(axes, projection)


def _mixed(axes: Any, projection: Projection, colors: np.ndarray) -> None:
    axes.scatter(*projection.points.numpy().T, s=3, color=NEUTRAL, alpha=0.25, linewidths=0)
    axes.scatter(*projection.mixed.numpy().T, s=14, c=colors, linewidths=0)
    _frame(axes, projection)


def _regions(axes: Any, projection: Projection, posterior: torch.Tensor, colors: list[str]) -> None:
    pale = 1 - 0.55 * (1 - blend_colors(posterior, colors))
    axes.imshow(pale.numpy(), extent=projection.extent, origin="lower", aspect="auto", interpolation="bilinear")
    _rows(axes, projection, colors, size=7)


def _frame(axes: Any, projection: Projection) -> None:
    left, right, lower, upper = projection.extent
    names = [name if len(name) <= 30 else name[:29] + "…" for name in projection.axes]
    axes.set(xlim=(left, right), ylim=(lower, upper), xlabel=names[0], ylabel=names[1])
    axes.locator_params(nbins=5)


def _accuracy_ends(comparison: Comparison) -> tuple[float, float]:
    """Least and greatest accuracy in percent that any of the pictures shows, with a margin."""
    shown = [setting for setting in comparison.distinct_settings() if setting.scheme != "density"]
    found = [comparison.estimate(comparison.best(setting.__eq__)) for setting in shown]
    low, high = (100 * end for end in (min(e.mean - e.error for e in found), max(e.mean + e.error for e in found)))
    margin = 0.05 * max(high - low, 1.0)
    return low - margin, high + margin


def _gamma(axes: Any, comparison: Comparison, backend: str, ends: tuple[float, float]) -> None:
    mean, error = comparison.estimate(comparison.best(scheme_is("none")))
    axes.axhspan(100 * (mean - error), 100 * (mean + error), color=NEUTRAL, alpha=0.2, linewidth=0)
    axes.axhline(100 * mean, color=NEUTRAL, linewidth=1.5)
    for keep_clean, color, shift in ((False, MIXED_ONLY, -0.01), (True, WITH_CLEAN, 0.01)):
        settings = [
            setting
            for setting in comparison.distinct_settings()
            if (setting.scheme, setting.backend) == ("genlabel", backend) or setting.scheme == "mixup"
            if setting.keep_clean == keep_clean
        ]
        if settings:
            best = [comparison.estimate(comparison.best(setting.__eq__)) for setting in settings]
            axes.errorbar(
                [(setting.gamma or 0.0) + shift for setting in settings],
                [100 * estimate.mean for estimate in best],
                [100 * estimate.error for estimate in best],
                color=color,
                marker="o" if keep_clean else "s",
                markersize=4,
                linewidth=1.8,
                elinewidth=0.9,
            )
    axes.set(xlabel="gamma (0 is mixup)", ylabel="held-out accuracy, %", ylim=ends)


def _reliability(axes: Any, fits: Mapping[str, BackendFit]) -> None:
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1, linestyle=":")
    for color, (name, fit) in zip(cycle(PALETTE), fits.items(), strict=False):
        bins = [b for b in fit.bins if b.n_rows >= MIN_BIN_ROWS]
        axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], "o-", markersize=4, color=color, label=name)
    axes.set(xlabel="certainty stated", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, labelcolor=INK, loc="best")
