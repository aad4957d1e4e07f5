"""Figures of the paper, drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from genlabel_plugins.densities import make_backend
from genlabel_plugins.labels import LogisticLabel
from genlabel_plugins.mixing import Mixup
from genlabel_plugins.paper.data import Rows
from genlabel_plugins.paper.examples import CORNERS, HALF, example_2, example_3, vanilla_2
from genlabel_plugins.paper.networks import Training, fit_network
from genlabel_plugins.paper.runs import TRAININGS
from genlabel_plugins.paper.statistics import by_set
from genlabel_plugins.paper.synthetic import CORNERS as CUBE
from genlabel_plugins.paper.synthetic import SYNTHETIC, cube
from genlabel_plugins.paper.tables import fitting_sets
from genlabel_plugins.relabeler import GenLabel

N_MIXED = 2000
N_SHOWN = 2000  # of the rows, where there are more
N_QUICK = 500  # rows of a trial
COLORS = "tab10"


def subplots(n: int, size: float = 3.0) -> tuple[Any, Any]:
    """A row of panels, drawn without a display."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(size * n, size), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, n))


def figure_1(path: Path, quick: bool) -> None:
    """Three classes on a line: densities, the linear label of a pair of the outer classes, and GenLabel's."""
    del quick
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(3).repeat_interleave(100)
    x = 3.0 * target[:, None] + 0.5 * torch.randn(300, 1, dtype=torch.float64, generator=generator)
    relabeler = GenLabel(make_backend("gm", shrinkage=0.0), gamma=1.0, temperature=1.0).fit(x, target)
    line = torch.linspace(-1.5, 7.5, 300, dtype=torch.float64)[:, None]
    lam = ((6.0 - line) / 6.0).clamp(0, 1)
    linear = torch.cat([lam, torch.zeros_like(lam), 1 - lam], 1)
    figure, axes = subplots(3)
    panels = (
        ("densities", relabeler.log_prob(line).exp()),
        ("linear label", linear),
        ("GenLabel", relabeler.posterior(line)),
    )
    for axis, (title, values) in zip(axes, panels, strict=True):
        axis.plot(line[:, 0], values)
        axis.set_title(title)
    figure.savefig(path, dpi=110)


def figure_2(path: Path, quick: bool) -> None:
    """Example 1: the classifiers of least loss with and without intrusion, and the mixed point that intrudes."""
    del quick
    figure, axes = subplots(1, 4.0)
    x = np.linspace(-1.2, 1.2, 200)
    for margin, name in (
        (3 / 8, "mixup, all pairs: 3/8"),
        (7 / 16, "outer pair once: 7/16"),
        (1 / 2, "no intrusion: 1/2"),
    ):
        axes[0].plot(x, np.minimum(np.abs(x) / (2 * margin), 1), label=name)
    axes[0].scatter([-1, 0, 1], [1, 0, 1], color="black")
    axes[0].scatter([0], [1], marker="x", color="red", label="mix of the outer two")
    axes[0].set_title("share of class 1, by its margin")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def figure_3(path: Path, quick: bool) -> None:
    """Example 2: boundaries of vanilla training, linear and logistic labels."""
    del quick
    ways = {
        "vanilla": vanilla_2(8.0),
        "mixup, linear label": example_2(),
        "mixup, logistic label": example_2(LogisticLabel(1 / (8 * HALF))),
    }
    figure, axes = subplots(len(ways))
    for axis, (title, weight) in zip(axes, ways.items(), strict=True):
        _regions(axis, partial(_likeliest, weight), CORNERS.numpy())
        axis.scatter(*CORNERS.T, c=range(3), cmap=COLORS, vmin=0, vmax=9, edgecolors="black")
        axis.set_title(title)
    figure.savefig(path, dpi=110)


def figure_4(path: Path, quick: bool) -> None:
    """Four-circle: rows, mixed rows by their likeliest class, and boundaries."""
    _mixing_and_boundaries({"Four-circle": 0.1}, path, quick)


def figure_5(path: Path, quick: bool) -> None:
    """Example 3: direction of least loss against the norm of the weights."""
    norms = np.geomspace(1, 300, 6 if quick else 25)
    figure, axes = subplots(1, 4.0)
    for scheme in ("vanilla", "mixup", "GenLabel"):
        axes[0].plot(norms, [example_3(float(norm), scheme) for norm in norms], label=scheme)
    axes[0].axhline(0.25, color="black", linestyle=":", label="largest margin")
    axes[0].set(xscale="log", xlabel="norm of the weights", ylabel="direction / pi")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def figure_6(path: Path, summary: pd.DataFrame) -> None:
    """What GenLabel (CV) gains over mixup, over the sets that a density fits."""
    figure, axes = subplots(2)
    for axis, alpha in zip(axes, (1, 2), strict=True):
        experiment = f"logistic regression, alpha {alpha}"
        runs = summary[(summary.experiment == experiment) & summary.set.isin(fitting_sets(summary, experiment))]
        table = by_set(runs, ("mixup", "GenLabel (CV)"), "accuracy") if len(runs) else pd.DataFrame()
        gain = 100 * (table["GenLabel (CV)"] - table["mixup"]) if len(table) else []
        axis.hist(gain, bins=30)
        axis.set(title=f"alpha {alpha}, {len(table)} sets", xlabel="points over mixup")
    figure.savefig(path, dpi=110)


def figure_7(path: Path, quick: bool) -> None:
    """Moons, Four-circle and 9 Gaussians as in Figure 4; the cube with true and with estimated means below it."""
    _mixing_and_boundaries({"Moon": None, "Four-circle": 0.1, "9-class Gaussian": None}, path, quick)


@cache
def cube_line(n_seeds: int = 5) -> str:
    """How often GenLabel's likeliest class of a mixed row of the cube is that of the cube it lies in."""
    hits: dict[str, list[float]] = {"the true means": [], "estimated means": [], "linear labels": []}
    for seed in range(n_seeds):
        x, target = (torch.from_numpy(part) for part in cube(seed))
        mixed = Mixup(8, per_sample=True, generator=torch.Generator().manual_seed(seed))(x, target)
        assert isinstance(mixed.x, Tensor)
        truth = torch.cdist(mixed.x, torch.from_numpy(CUBE)).argmin(1)
        gm = GenLabel(make_backend("gm", covariance_type="full", shrinkage=0.0), gamma=1.0, temperature=1.0)
        found = {
            "the true means": (-torch.cdist(mixed.x, torch.from_numpy(CUBE)).square() / (2 / 3)).softmax(1),
            "estimated means": gm.fit(x, target).posterior(mixed.x),
            "linear labels": mixed.y_mix,
        }
        for name, y in found.items():
            hits[name].append(100 * float((y.argmax(1) == truth).double().mean()))
    parts = [f"{np.mean(each):.1f} ± {np.std(each, ddof=1):.1f} % with {name}" for name, each in hits.items()]
    return f"3D cube: the likeliest class of a mixed row is that of the cube it lies in for {', '.join(parts)}."


def figure_epochs(path: Path, records: pd.DataFrame, points: Sequence[int]) -> None:
    """Test accuracy against epochs: the mean over the small sets, and the digits."""
    runs = records[records.experiment.str.startswith("epochs")]
    figure, axes = subplots(2, 4.0)
    for axis, (title, some) in zip(
        axes, (("small real sets", runs[runs.set != "digits"]), ("300 digits", runs[runs.set == "digits"])), strict=True
    ):
        for scheme, of_scheme in some.groupby("scheme", sort=False):
            curves = np.array([each for each in of_scheme.curve if len(each) == max(map(len, some.curve))])
            axis.plot(points[: curves.shape[1]], 100 * curves.mean(0), marker=".", label=scheme)
        axis.set(xscale="log", xlabel="epochs", ylabel="test accuracy, %", title=title)
        axis.legend()
    figure.savefig(path, dpi=110)


FIGURES: dict[str, Callable[[Path, bool], None]] = {
    "fig1": figure_1,
    "fig2": figure_2,
    "fig3": figure_3,
    "fig4": figure_4,
    "fig5": figure_5,
    "fig7": figure_7,
}


def _mixing_and_boundaries(bandwidths: dict[str, float | None], path: Path, quick: bool) -> None:
    """For each set a row of panels; a bandwidth means kernels, as the paper has them for circles."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    titles = ("rows", "mixup's label", "GenLabel's label", "vanilla", "mixup", "GenLabel", "kernel SVM")
    figure = Figure(figsize=(2.2 * len(titles), 2.2 * len(bandwidths)), layout="constrained")
    axes = figure.subplots(len(bandwidths), len(titles), squeeze=False)
    for row, (name, bandwidth) in zip(axes, bandwidths.items(), strict=True):
        x, y = SYNTHETIC[name](0)
        if quick:  # rows stand class by class
            step = max(1, len(y) // N_QUICK)
            x, y = x[::step], y[::step]
        n_classes = int(y.max()) + 1
        rows, target = torch.from_numpy(x), torch.from_numpy(y)
        backend = (
            make_backend("gm", shrinkage=0.0)
            if bandwidth is None
            else make_backend("kde", bandwidth=bandwidth, shrinkage=0.0)
        )
        relabeler = GenLabel(backend, gamma=1.0, temperature=1.0).fit(rows, target)
        generator = torch.Generator().manual_seed(0)
        some = torch.randint(len(rows), (N_MIXED,), generator=generator)
        mixed = Mixup(n_classes, per_sample=True, generator=generator)(rows[some], target[some])
        _points(row[0], x, y)
        assert isinstance(mixed.x, Tensor)
        _points(row[1], mixed.x, mixed.y_mix.argmax(1))
        _points(row[2], mixed.x, relabeler.posterior(mixed.x).argmax(1))
        training = TRAININGS.get(name, Training(learning_rates=(0.01,), gammas=(1.0,)))
        split = Rows(x, y, x[:2], y[:2], n_classes)
        source = "GenLabel (GM)" if bandwidth is None else "GenLabel (KDE)"
        for axis, scheme in zip(row[3:6], ("vanilla", "mixup", source), strict=True):
            done = fit_network(split, scheme, training.quick() if quick else training, seed=0)

            def decide(grid: NDArray[np.float64], done: Any = done) -> Any:
                standard = (torch.from_numpy(grid) - done.mean) / done.scale
                return done.network(standard.float()).argmax(1).numpy()

            _regions(axis, decide, x)
            _points(axis, x, y)
        _regions(row[6], SVC(gamma="scale", C=100.0).fit(x, y).predict, x)
        _points(row[6], x, y)
        row[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    figure.savefig(path, dpi=80)


def _likeliest(weight: Tensor, grid: NDArray[np.float64]) -> Any:
    return (torch.from_numpy(grid) @ weight.T).argmax(1).numpy()


def _points(axis: Any, x: Any, y: Any) -> None:
    x, y = (np.asarray(part)[:: max(1, len(y) // N_SHOWN)] for part in (x, y))  # rows stand class by class
    axis.scatter(*x.T, c=y, cmap=COLORS, vmin=0, vmax=9, s=2)
    axis.set(xticks=[], yticks=[])


@torch.no_grad()
def _regions(axis: Any, decide: Callable[[NDArray[np.float64]], Any], x: NDArray[np.float64]) -> None:
    low, high = x.min(0), x.max(0)
    reach = 0.15 * (high - low)
    ticks = [np.linspace(a - r, b + r, 150) for a, b, r in zip(low, high, reach, strict=True)]
    grid = np.stack(np.meshgrid(*ticks), -1).reshape(-1, 2)
    axis.pcolormesh(*ticks, decide(grid).reshape(150, 150), cmap=COLORS, vmin=0, vmax=9, alpha=0.3, shading="nearest")
    axis.set(xticks=[], yticks=[])
