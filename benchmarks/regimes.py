"""What each backend makes of untidy rows: held-out accuracy and log-loss, beside scikit-learn's classifiers.

    python benchmarks/regimes.py --output docs/regimes.md

Rows come from scikit-learn or are drawn; backends are fitted in the dtype that the rows come in, with default
parameters, and scikit-learn's classifiers in float64. Three draws or splits each, one for backends that are trained.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_wine, make_moons
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from genlabel_plugins import GenLabel, list_backends, make_backend
from genlabel_plugins.testing import relabeler_checks

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # training rows and classes, test rows and classes

SEEDS = range(3)
VARIANTS = {
    "gm tied": partial(make_backend, "gm", covariance_type="tied"),
    "gm diag": partial(make_backend, "gm", covariance_type="diag"),
    "gm spherical": partial(make_backend, "gm", covariance_type="spherical"),
    "gm bic": partial(make_backend, "gm", n_components="bic"),
}
REFERENCES: dict[str, Callable[[], Any]] = {
    "QDA": QuadraticDiscriminantAnalysis,
    "LDA": LinearDiscriminantAnalysis,
    "5-NN": lambda: KNeighborsClassifier(5),
}


def gaussians(seed: int, n_rows: int, n_features: int, n_classes: int = 4, *, apart: float = 0.6) -> Rows:
    """Classes of covariance one about random centers."""
    rng = np.random.RandomState(seed)
    center = apart * rng.randn(n_classes, n_features)
    target, target_test = np.repeat(np.arange(n_classes), n_rows), np.repeat(np.arange(n_classes), 500)
    # The test rows are drawn first, so that fewer or more training rows leave them alone, and their own beginning.
    x_test = center[target_test] + rng.randn(len(target_test), n_features)
    x = center[target] + np.stack([rng.randn(n_classes, n_features) for _ in range(n_rows)], 1).reshape(-1, n_features)
    return x, target, x_test, target_test


def unlike_covariances(seed: int) -> Rows:
    """Rows as the densities would have them."""
    rng = np.random.RandomState(seed)
    root = np.eye(5) + 0.5 * rng.randn(4, 5, 5)
    x, target, x_test, target_test = gaussians(seed, 200, 5)
    return (
        np.einsum("nij,nj->ni", root[target], x),
        target,
        np.einsum("nij,nj->ni", root[target_test], x_test),
        target_test,
    )


def far_class(seed: int, far: float) -> Rows:
    """Two classes three apart, and a third that is far from both; the test rows are of the two."""
    x, target, x_test, target_test = gaussians(seed, 300, 2, 3, apart=0.0)
    for rows, classes in ((x, target), (x_test, target_test)):
        rows[:, 0] += 3.0 * (classes == 1) + far * (classes == 2)
    return x, target, x_test[target_test < 2], target_test[target_test < 2]


def sentinel(seed: int) -> Rows:
    """One missing value that was written as 999999."""
    x, target, x_test, target_test = gaussians(seed, 100, 5, 3, apart=1.0)
    x[0, 0] = 999_999
    return x, target, x_test, target_test


def unlike_spreads(seed: int) -> Rows:
    """A class of spread 1 about zero, in one of spread 10,000; test rows of spread 100 are of the wide one."""
    rng = np.random.RandomState(seed)
    target = np.repeat([0, 1], 300)
    spread = np.where(target == 0, 1.0, 1e4)[:, None]
    x_test = np.concatenate([rng.randn(300, 2), 100 * rng.randn(300, 2)])
    return rng.randn(600, 2) * spread, target, x_test, target


def near_equal_columns(seed: int) -> Rows:
    """The classes differ in the difference of two columns that are equal up to a thousandth."""
    rng = np.random.RandomState(seed)
    parts = []
    for n_rows in (400, 1000):
        target = np.arange(n_rows) % 2
        level = 10 * rng.randn(n_rows)
        parts += [np.stack([level, level + 0.01 * (6 * target - 3 + rng.randn(n_rows))], 1), target]
    return parts[0], parts[1], parts[2], parts[3]


def wide(seed: int) -> Rows:
    """60 rows of 500 features, of which ten tell the classes apart."""
    rng = np.random.RandomState(seed)
    parts = []
    for n_rows in (60, 600):
        target = np.arange(n_rows) % 2
        x = rng.randn(n_rows, 500)
        x[:, :10] += 0.5 * (2 * target[:, None] - 1)
        parts += [x, target]
    return parts[0], parts[1], parts[2], parts[3]


def sparse_binary(seed: int) -> Rows:
    """Yes and no, mostly no: columns without a yes in a class among its thirty rows."""
    rng = np.random.RandomState(seed)
    rate = rng.beta(0.3, 3.0, (3, 25))
    target, target_test = np.repeat(np.arange(3), 30), np.repeat(np.arange(3), 500)
    draw = [(rng.rand(len(classes), 25) < rate[classes]).astype(np.float64) for classes in (target, target_test)]
    return draw[0], target, draw[1], target_test


def large_integers(seed: int) -> Rows:
    """Times in milliseconds since 1970, as integers."""
    x, target, x_test, target_test = gaussians(seed, 100, 2, 3, apart=3.0)
    whole = [(10 * rows).round().astype(np.int64) + 10**12 for rows in (x, x_test)]
    return whole[0], target, whole[1], target_test


def two_levels(seed: int) -> Rows:
    """A column that sits at 0 or at 3,000, beside two that tell the classes apart."""
    x, target, x_test, target_test = gaussians(seed, 150, 2, 3, apart=1.5)
    rng = np.random.RandomState(seed + 100)
    level = [3000.0 * (rng.rand(len(rows), 1) > 0.5) + rng.randn(len(rows), 1) for rows in (x, x_test)]
    return np.concatenate([x, level[0]], 1), target, np.concatenate([x_test, level[1]], 1), target_test


def twins(seed: int) -> Rows:
    """Each training row five times."""
    x, target, x_test, target_test = gaussians(seed, 100, 5, 3, apart=1.0)
    return np.repeat(x, 5, 0), np.repeat(target, 5), x_test, target_test


def half(data: Any, seed: int, *, standardize: bool, n_rows: int | None = None) -> Rows:
    """Half of a set of scikit-learn's, stratified; of its training half, so many rows of each class, or all."""
    x, target = data(return_X_y=True)
    x, x_test, target, target_test = train_test_split(x, target, train_size=0.5, random_state=seed, stratify=target)
    kept = np.concatenate([np.flatnonzero(target == c)[:n_rows] for c in np.unique(target)])
    x, target = x[kept], target[kept]
    if standardize:
        center, scale = x.mean(0), x.std(0)
        x, x_test = (x - center) / scale, (x_test - center) / scale
    return x, target, x_test, target_test


def moons(seed: int) -> Rows:
    """Two curved classes."""
    return *make_moons(300, noise=0.15, random_state=seed), *make_moons(2000, noise=0.15, random_state=seed + 100)


REGIMES: dict[str, Callable[[int], Rows]] = {
    "Gaussian classes of unlike covariances, 200 rows each, 5 features": unlike_covariances,
    "4 classes of 20 rows, 20 features": partial(gaussians, n_rows=20, n_features=20),
    "the same, one more row a class": partial(gaussians, n_rows=21, n_features=20),
    "the same, 60 rows a class": partial(gaussians, n_rows=60, n_features=20),
    "60 rows, 500 features": wide,
    "two classes, a third 10 away": partial(far_class, far=10.0),
    "two classes, a third 10,000 away": partial(far_class, far=1e4),
    "one 999999 in a column": sentinel,
    "spreads of 1 and 10,000": unlike_spreads,
    "difference of two near-equal columns": near_equal_columns,
    "sparse yes and no, 30 rows a class": sparse_binary,
    "integers near 10^12": large_integers,
    "a column at 0 or 3,000": two_levels,
    "each row five times": twins,
    "two moons": moons,
    "wine, half, raw units": partial(half, load_wine, standardize=False),
    "wine, half, standardized": partial(half, load_wine, standardize=True),
    "breast cancer, 30 rows a class": partial(half, load_breast_cancer, standardize=True, n_rows=30),
}


def score(make: Callable[[], Any], rows: Rows) -> tuple[float, float]:
    """Accuracy and log-loss on the test rows; NaN where the fit is refused, and for the votes of neighbors."""
    x, target, x_test, target_test = rows
    try:
        model = make()
        if hasattr(model, "predict_proba"):
            p = model.fit(x.astype(np.float64), target).predict_proba(x_test.astype(np.float64))
            log_p = (
                np.full_like(p, np.nan) if isinstance(model, KNeighborsClassifier) else np.log(np.maximum(p, 1e-300))
            )
            best = p.argmax(1)
        else:
            genlabel = GenLabel(model).fit(tensor(x), torch.from_numpy(target))
            log_p = genlabel.log_prob(tensor(x_test)).double().log_softmax(1).numpy()
            best = log_p.argmax(1)
    except (ValueError, np.linalg.LinAlgError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return np.nan, np.nan
    return float((best == target_test).mean()), float(-log_p[np.arange(len(x_test)), target_test].mean())


def tensor(rows: np.ndarray) -> torch.Tensor:
    """Floats as float32, as in training; integers as they are."""
    return torch.from_numpy(rows.astype(np.float32) if rows.dtype == np.float64 else rows)


def cell(scores: list[tuple[float, float]]) -> str:
    """Accuracy in percent, and the log-loss in brackets."""
    accuracy, log_loss = np.mean(scores, 0)
    if np.isnan(accuracy):
        return "refused"
    if np.isnan(log_loss):
        return f"{100 * accuracy:.1f}"
    return f"{100 * accuracy:.1f} ({log_loss:.2f})" if log_loss < 100 else f"{100 * accuracy:.1f} ({log_loss:.1e})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in list_backends() if name != "mixed_types"]
    names = [*names[: names.index("gm") + 1], *VARIANTS, *names[names.index("gm") + 1 :]]
    parser.add_argument("--backends", nargs="+", default=names, choices=names)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--output", type=Path, help="also write the table as a Markdown page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of small classes, here and in scikit-learn
    makers = {name: VARIANTS.get(name, partial(make_backend, name)) for name in options.backends} | REFERENCES
    table: dict[str, list[str]] = {}
    for title in options.regimes:
        draws = [REGIMES[title](seed) for seed in SEEDS]
        table[title] = [
            cell([score(make, rows) for rows in draws[: None if getattr(make(), "exact", True) else 1]])
            for make in makers.values()
        ]
        print(title, dict(zip(makers, table[title], strict=True)), flush=True)
        if options.output:  # after each regime: trained backends take minutes
            options.output.write_text(page(table, list(makers)))


PAGE = """# What the backends make of untidy rows

Held-out accuracy of the generative classifier in percent, and its log-loss in brackets (knowing nothing, it is 0.69 for
two classes, 1.10 for three, 1.39 for four), mean of three draws or splits, and the first of them for backends that are
trained (`flow`, `gan`, `vae`); default parameters, rows in float32, integers as they are. Beside them scikit-learn's
classifiers in float64, which refuse some of these tables.

{table}

    python benchmarks/regimes.py --output docs/regimes.md

## What is claimed

`genlabel_plugins.testing` holds every backend, built in or yours, to these regimes, unless it declines one in the open,
by its name in `declines`:

{claims}

{declined}
"""


def page(table: dict[str, list[str]], names: list[str]) -> str:
    """The Markdown page."""
    rows = [["rows", *names], ["---"] * (1 + len(names)), *([title, *cells] for title, cells in table.items())]
    declined = []
    for name in names:
        density = None if name in REFERENCES else VARIANTS.get(name, partial(make_backend, name))()
        if density is not None and density.declines:
            declined.append(f"`{name}` declines {', '.join(f'`{regime}`' for regime in sorted(density.declines))}.")
    return PAGE.format(
        table="\n".join(f"| {' | '.join(cells)} |" for cells in rows),
        claims="\n".join(f"- {check.__doc__}" for check in regime_checks()),
        declined="\n".join(declined) or "None of the above declines any.",
    )


def regime_checks() -> list[Callable[..., None]]:
    """The checks that a backend may decline: their docstrings begin with the name."""
    return [
        check for check in relabeler_checks() if f"`{check.__name__.removeprefix('check_')}`" in (check.__doc__ or "")
    ]


if __name__ == "__main__":
    main()
