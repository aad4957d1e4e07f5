"""A plane through the rows, and mixed rows on it under the linear label and GenLabel's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.diagnostics.questions._class_regions import ClassRegions, class_regions
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable
from genlabel_plugins.mixing.mixers import Mixup
from genlabel_plugins.mixing.pairing import flat_rows
from genlabel_plugins.relabeler import GenLabel

MAX_POINTS = 600
ROWS_PER_COLUMN = 5  # below, discriminants part even classes that are alike


@dataclass(frozen=True)
class Projection:
    """Rows and mixed rows in two dimensions.

    Attributes:
        backend: Density that relabels.
        title: What the plane is.
        axes: What the two axes are.
        points: Rows, shape `(n, 2)`.
        target: Their classes, shape `(n,)`.
        mixed: Mixed rows, shape `(n, 2)`.
        y_mix: Linear labels, shape `(n, C)`.
        y_gen: Posteriors, shape `(n, C)`.
        extent: Left, right, lower and upper end.
        regions: What classifiers make of the plane; of tables with two columns only.
    """

    backend: str
    title: str
    axes: tuple[str, str]
    points: Tensor
    target: Tensor
    mixed: Tensor
    y_mix: Tensor
    y_gen: Tensor
    extent: tuple[float, float, float, float]
    regions: tuple[ClassRegions, ...] = ()

    @property
    def moved(self) -> float:
        """Mean total variation between the two labels, in [0, 1]."""
        return float((self.y_gen - self.y_mix).abs().sum(1).mean() / 2)


def make_projection(table: LabeledTable, backend: str, *, seed: int = 0) -> Projection:
    """Mix rows, label them both ways and project everything.

    Args:
        table: Rows and classes. Two columns are shown as they are; of more, the two directions that part the classes
            most, or the principal components where there are two classes or few rows.
        backend: Density that relabels, fitted on all rows.
        seed: Seed of the rows that are drawn and mixed.

    Example:
        >>> projection = make_projection(LabeledTable(torch.randn(60, 5), torch.arange(60) % 3), "gm")
        >>> projection.mixed.shape, projection.y_gen.shape
        (torch.Size([60, 2]), torch.Size([60, 3]))
    """
    generator = torch.Generator().manual_seed(seed)
    x, target = table.standardized(), table.target
    relabeler = GenLabel(make_backend(backend)).fit(x, target)
    rows = torch.randperm(len(x), generator=generator)[:MAX_POINTS]
    mixed = Mixup(len(table.class_names), per_sample=True, generator=generator)(x[rows], target[rows])
    x_mix = flat_rows(mixed.x)
    title, axes, project = _choose_axes(table, x, generator)
    points = project(x[rows])
    low, high = points.amin(0), points.amax(0)
    margin = 0.06 * (high - low)
    (left, lower), (right, upper) = (low - margin).tolist(), (high + margin).tolist()
    extent = (left, right, lower, upper)
    regions: tuple[ClassRegions, ...] = ()
    if x.shape[1] == 2:
        regions = class_regions(x, target, relabeler, **_grid_ends(table, extent), generator=generator)
    return Projection(
        backend=backend,
        title=title,
        axes=axes,
        points=points,
        target=target[rows],
        mixed=project(x_mix),
        y_mix=mixed.y_mix,
        y_gen=relabeler.posterior(x_mix),
        extent=extent,
        regions=regions,
    )


def _choose_axes(
    table: LabeledTable, x: Tensor, generator: torch.Generator
) -> tuple[str, tuple[str, str], Callable[[Tensor], Tensor]]:
    """Title, axes and map of standardized rows, `(n, D) -> (n, 2)`."""
    n_rows, n_columns = x.shape
    if n_columns == 1:
        title = "The only column; heights are drawn at random"

        def spread_out(rows: Tensor) -> Tensor:
            return torch.cat([rows, torch.rand(len(rows), 1, generator=generator)], 1)

        return title, (table.column_names[0], ""), spread_out
    if n_columns == 2:
        mean, scale = table.units()
        axes = (table.column_names[0], table.column_names[1])
        return "The two columns", axes, lambda rows: (rows.double() * scale + mean).float()
    projection: LinearDiscriminantAnalysis | PCA | None = None
    if len(table.class_names) > 2 and n_rows > ROWS_PER_COLUMN * n_columns:
        projection = _discriminants(x, table.target)
    if projection is not None:
        title, axes = "The plane that parts the classes most", ("discriminant 1", "discriminant 2")
    else:
        projection = PCA(2, random_state=0).fit(x.numpy())
        share = projection.explained_variance_ratio_.sum()
        title, axes = f"The two principal components ({share:.0%} of the variance)", ("component 1", "component 2")
    return title, axes, lambda rows: torch.from_numpy(projection.transform(rows.numpy())).float()


def _discriminants(x: Tensor, target: Tensor) -> LinearDiscriminantAnalysis | None:
    """The plane that parts the classes most; None where the means lie on one line."""
    try:
        fitted = LinearDiscriminantAnalysis(n_components=2).fit(x.numpy(), target.numpy())
    except IndexError:  # of scikit-learn, where all rows of a class are the same
        return None
    return fitted if fitted.scalings_.shape[1] > 1 else None


def _grid_ends(table: LabeledTable, extent: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """Lower left and upper right corner of an extent in standardized columns, shape `(2,)` each."""
    mean, scale = table.units()
    left, right, lower, upper = extent
    corners = {"low": (left, lower), "high": (right, upper)}
    return {name: ((mean.new_tensor(corner) - mean) / scale).float() for name, corner in corners.items()}
