"""What samplers of tables share: what they take and give, and new rows drawn until each class has as many as asked."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_consistent_length
from torch import Tensor

from genlabel_plugins._checks import check_number, check_switch
from genlabel_plugins._state import rank_in_class
from genlabel_plugins.densities import CrossFit, FromClassifier
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows
from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.mixing._columns import Columns, class_names, read_columns, take_labels
from genlabel_plugins.mixing._sampling_strategy import Strategy, rows_to_make
from genlabel_plugins.mixing.pairing import draw_beta

MIN_DRAWS, MAX_DRAWS = 256, 4096  # pairs of rows at a time
PATIENCE = 100  # pairs drawn for each row asked

AnyStrategy = Strategy | float | Sequence[Any] | Mapping[Any, int] | Callable[[Any], Any]


class Rows:
    """A table as densities see it, and what is drawn from it.

    Attributes:
        x: Numbers and indicators of categories, shape `(N, D)`, float64.
        target: Class indices, shape `(N,)`.
    """

    def __init__(self, columns: Columns, target: Tensor, generator: torch.Generator) -> None:
        self.target, self.generator = target, generator
        self.cardinality = columns.cardinality
        self._codes, self._integer = torch.from_numpy(columns.codes), torch.from_numpy(columns.integer)
        self.x = encode_rows(torch.from_numpy(columns.numbers), self._codes, self.cardinality)
        size = torch.tensor(self.cardinality, dtype=torch.long)
        self._place = columns.numbers.shape[1] + size.cumsum(0) - size + self._codes  # (N, K), of each indicator

    def draw(self, c: Tensor, *, other: bool = False) -> Tensor:
        """A random row of each class `c`, or of any other class, `(M,) -> (M,)`."""
        order, count = self.target.argsort(stable=True), self.target.bincount()
        first, number = (count.cumsum(0) - count)[c], count[c]
        u = torch.rand(len(c), generator=self.generator, dtype=torch.float64)
        if other:  # past the rows of the class, and around
            return order[(first + number + (u * (len(self.target) - number)).long()) % len(self.target)]
        return order[first + (u * number).long()]

    def draw_share(self, n: int, alpha: float) -> Tensor:
        """Shares of the row of the class, the larger side of `lam ~ Beta(alpha, alpha)`, `(n,)`."""
        lam = draw_beta(torch.full((n,), float(alpha)), self.generator)
        return torch.maximum(lam, 1 - lam)

    def settle(self, between: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a point between rows i and j, `(M, D)`, is in a table: integers are rounded, categories one of the two.

        Returns:
            Numbers `(M, P)`, for each category the row that it is taken from `(M, K)`, and what densities see `(M, D)`.
        """
        own = torch.rand(len(i), len(self.cardinality), generator=self.generator) < between.gather(1, self._place[i])
        source = torch.where(own, i[:, None], j[:, None])
        numbers = between[:, : len(self._integer)]
        numbers = torch.where(self._integer, numbers.round(), numbers)
        return numbers, source, encode_rows(numbers, self._codes.gather(0, source), self.cardinality)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """New rows, of which the good ones are taken."""

    numbers: Tensor  # (M, P)
    source: Tensor  # (M, K)
    y: Tensor  # (M, C), soft labels
    good: Tensor  # (M,)
    attained: Tensor  # (M,), whether the lam drawn holds

    def __getitem__(self, rows: Tensor) -> Proposal:
        return Proposal(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class TableSampler(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the samplers; a subclass fits its densities in `_learn` and makes rows in `_propose`."""

    backend: Any
    sampling_strategy: Any
    alpha: float
    soft_labels: bool
    random_state: Any
    _way_out: str  # what to try where a class gets too few rows

    def fit(self, X: Any, y: Any) -> Self:
        """Check the input and count the rows to make, `sampling_strategy_`; `fit_resample` does so itself."""
        self._read(X, y)
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """The table followed by the new rows, and their labels.

        Args:
            X: Table, shape `(N, D)`: an array, a list, or a frame of pandas, polars or another library that narwhals
                knows.
            y: Class names, shape `(N,)`: an array, a list, a series or a frame of one column; or one-hot rows,
                shape `(N, C)`. Both come back as what they are; soft labels are in the precision of an array X, float32
                at least.
        """
        columns, indices, first, n_new = self._read(X, y)
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        rows = Rows(columns, torch.from_numpy(indices), generator)
        self._learn(rows)
        made, c = self._new_rows(rows, n_new)
        self.attained_ = made.attained.numpy()
        table = columns.extend(made.numbers.numpy(), made.source.numpy())
        if isinstance(X, list):
            table = table.tolist()
        if self.soft_labels:
            soft = np.concatenate([np.eye(len(self.classes_))[indices], made.y.numpy()])
            given = getattr(X, "dtype", soft.dtype)
            return table, soft.astype(np.promote_types(given, np.float32)) if given.kind == "f" else soft
        return table, take_labels(y, np.concatenate([np.arange(len(indices)), first[c.numpy()]]))

    def _check_options(self) -> None:
        check_number("alpha", self.alpha, -np.inf)
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")
        check_switch("soft_labels", self.soft_labels)

    @abstractmethod
    def _learn(self, rows: Rows) -> None:
        """Fit the densities."""

    @abstractmethod
    def _propose(self, rows: Rows, c: Tensor) -> Proposal:
        """A new row for each of the classes `c`, `(M,)`."""

    def _read(self, X: Any, y: Any) -> tuple[Columns, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Columns, class indices `(N,)`, the first row of each class and the rows that it is to get, `(C,)`."""
        self._check_options()
        _check_n_features(self, X, reset=True)
        _check_feature_names(self, X, reset=True)
        columns, names = read_columns(X), class_names(y)
        check_consistent_length(columns.numbers, names)
        check_classification_targets(names)
        self.classes_, first, indices = np.unique(names, return_index=True, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got {self.classes_.tolist()}")
        n_new = rows_to_make(self.sampling_strategy, names)
        self.sampling_strategy_ = {c: n for c, n in zip(self.classes_.tolist(), n_new.tolist(), strict=True) if n}
        return columns, indices, first, n_new

    def _make_density(self, rows: Rows) -> Any:
        backend = copy.deepcopy(self.backend)
        if not rows.cardinality or isinstance(backend, CrossFit | FromClassifier):  # a teacher sees all columns
            return make_backend(backend)
        continuous = "gm" if backend == "mixed_types" else backend
        return MixedTypes(cardinality=rows.cardinality, continuous=continuous)

    def _new_rows(self, rows: Rows, n_new: NDArray[np.int64]) -> tuple[Proposal, Tensor]:
        """Rows as many as asked of each class and their classes, in the order of classes."""
        lacking = torch.from_numpy(n_new)
        found, classes = [], []
        for _ in range(PATIENCE * (1 + int(n_new.sum()) // MAX_DRAWS)):
            wanted = torch.arange(len(n_new)).repeat_interleave(lacking)
            c = wanted.repeat(-(-MIN_DRAWS // max(1, len(wanted))))[:MAX_DRAWS]
            proposal = self._propose(rows, c)
            good = proposal.good.nonzero().squeeze(1)
            good = good[_rank(c[good]) < lacking[c[good]]]
            found.append(proposal[good])
            classes.append(c[good])
            lacking = lacking - c[good].bincount(minlength=len(lacking))
            if not lacking.any():
                break
        else:
            self._give_up(lacking.numpy(), n_new)
        c = torch.cat(classes)
        order = c.argsort(stable=True)
        made = {field.name: torch.cat([getattr(part, field.name) for part in found]) for field in fields(Proposal)}
        return Proposal(**made)[order], c[order]

    def _give_up(self, lacking: NDArray[np.int64], n_new: NDArray[np.int64]) -> NoReturn:
        worst = int(lacking.argmax())
        raise ValueError(
            f"class {self.classes_.tolist()[worst]!r} got {n_new[worst] - lacking[worst]} of {n_new[worst]} new rows, "
            f"since its density is hardly ever ahead: take another backend or {self._way_out}"
        )


def _rank(c: Tensor) -> Tensor:
    """How many earlier entries are equal, `(M,) -> (M,)`."""
    order = c.argsort(stable=True)
    return torch.empty_like(c).scatter_(0, order, rank_in_class(c[order]))
