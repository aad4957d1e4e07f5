"""LabeledTable: the rows and classes that a diagnosis is made of, and what was done to get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genlabel_plugins._state import mean_and_spread
from genlabel_plugins.densities._training import shuffle_by_class
from genlabel_plugins.diagnostics.reading._giveaways import find_giveaways

MIN_ROWS_PER_CLASS = 5  # one for each fold


class TableError(ValueError):
    """A table that cannot be diagnosed; the message is one sentence for whoever made the table."""


@dataclass(frozen=True)
class LabeledTable:
    """Numbers and classes, with their names.

    Args:
        x: Rows, shape `(N, D)`, in the units of the columns.
        target: Class indices, shape `(N,)`.
        class_names: Name of each class; by default its index.
        column_names: Name of each column; by default its index.
        cardinality: Number of categories of each categorical column, whose indicators are the last columns of `x`.
        name: Where the rows come from, such as the name of a file.
        target_name: What the classes are called together.
        n_rows_read: Rows before any were left out; by default N.
        treatments: What was done to the rows and columns, a sentence each.
        giveaways: Columns that give the class away, a sentence each; by default those found among the columns of `x`.
        code: How a script reads the file: by pandas where that gives these rows, else by `load_table`.
        groups: Index of the group of each row, shape `(N,)`, where rows of a group are held out together.
        time: Place of each row in time, shape `(N,)`, where later rows are predicted from earlier ones.
        blocks_name: What the groups or times are called.

    Raises:
        TableError: If rows and classes do not fit together, or too few are left.

    Example:
        >>> table = LabeledTable(torch.randn(20, 2), torch.arange(20) % 2)
        >>> table.class_names, table.counts.tolist()
        (('0', '1'), [10, 10])
    """

    x: Tensor
    target: Tensor
    class_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    cardinality: Sequence[int] = ()
    name: str = "table"
    target_name: str = "target"
    n_rows_read: int = 0
    treatments: Sequence[str] = ()
    giveaways: Sequence[str] | None = None
    code: str = "pd.read_csv('table.csv')"
    groups: Tensor | None = None
    time: Tensor | None = None
    blocks_name: str = ""

    def __post_init__(self) -> None:
        """Fill in names and check that a diagnosis is possible."""
        if self.x.ndim != 2 or self.target.shape != self.x.shape[:1] or self.target.is_floating_point():
            raise TableError(
                f"x must have shape (N, D) and target hold N class indices, got {tuple(self.x.shape)} and "
                f"{tuple(self.target.shape)} of {self.target.dtype}"
            )
        if not self.x.shape[1]:
            raise TableError("no column is left to tell the classes apart")
        if self.groups is not None and self.time is not None:
            raise TableError("rows are held out by groups or by time, not by both")
        for name in ("groups", "time"):
            held = getattr(self, name)
            if held is not None and held.shape != self.target.shape:
                raise TableError(f"{name} must have shape {tuple(self.target.shape)}, got {tuple(held.shape)}")
        if not bool(torch.isfinite(self.x).all()):
            raise TableError("x must be finite, got NaN or infinity")
        counts = torch.bincount(self.target)
        defaults = {
            "class_names": [str(c) for c in range(len(counts))],
            "column_names": [str(d) for d in range(self.x.shape[1])],
        }
        for name, default in defaults.items():
            object.__setattr__(self, name, tuple(getattr(self, name) or default))
        object.__setattr__(self, "n_rows_read", self.n_rows_read or len(self.x))
        if len(self.class_names) < 2:
            raise TableError(f"there must be two classes at least, got {len(self.class_names)}")
        if int(counts.min()) < MIN_ROWS_PER_CLASS:
            raise TableError(f"each class must have {MIN_ROWS_PER_CLASS} rows at least, got {int(counts.min())}")
        if self.giveaways is None:
            x, target = self.x.double().numpy(force=True), self.target.numpy(force=True)
            found = find_giveaways(x, target, self.column_names, self.cardinality)
            object.__setattr__(self, "giveaways", tuple(found))

    @property
    def counts(self) -> Tensor:
        """Rows of each class, shape `(C,)`."""
        return torch.bincount(self.target, minlength=len(self.class_names))

    def units(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each column, shape `(D,)` each, float64."""
        return mean_and_spread(self.x.double())

    def standardized(self) -> Tensor:
        """Columns with mean zero and variance one in float32, `(N, D)`; a constant column is zero."""
        mean, scale = self.units()
        # A deviation within the rounding of the mean is none.
        varies = scale > 1e-12 * self.x.abs().amax(0)
        return torch.where(varies, (self.x.double() - mean) / scale, 0.0).float()

    def shrunk_to(self, n_rows: int, seed: int = 0) -> Tensor:
        """Indices of at most `n_rows` rows, drawn class by class, in the order of the table."""
        return draw_rows(self.target, n_rows, seed)


def draw_rows(target: Tensor, n_rows: int, seed: int = 0) -> Tensor:
    """Draw rows in proportion to their class, `(N,) -> (n,)`, in ascending order; small classes keep ten rows.

    Example:
        >>> target = torch.tensor([0] * 90 + [1] * 10)
        >>> torch.bincount(target[draw_rows(target, 20)])
        tensor([18, 10])
    """
    if len(target) <= n_rows:
        return torch.arange(len(target))
    shuffled, rank = shuffle_by_class(target, torch.Generator().manual_seed(seed))
    share = (torch.bincount(target) * n_rows / len(target)).round().long().clamp(min=2 * MIN_ROWS_PER_CLASS)
    return shuffled[rank < share[target[shuffled]]].sort().values


def brief(error: BaseException) -> str:
    r"""What an exception says, on one line.

    Example:
        >>> brief(KeyError()), brief(ValueError("two\nlines"))
        ('KeyError', 'two lines')
    """
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else said[:200] + " ..."
