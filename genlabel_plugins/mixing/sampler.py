"""Generative mixing of whole tables, off-line, in the manner of imbalanced-learn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_consistent_length, column_or_1d
from torch import Tensor

from genlabel_plugins._checks import check_number
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows
from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.mixing._columns import Columns, read_columns, take_labels
from genlabel_plugins.mixing._sampling_strategy import Strategy, rows_to_make
from genlabel_plugins.mixing.generative import RatioSearch
from genlabel_plugins.mixing.pairing import draw_beta

MIN_DRAWS, MAX_DRAWS = 256, 4096  # pairs of rows at a time
PATIENCE = 100  # pairs drawn for each row asked


class GenerativeMixSampler(BaseEstimator):  # type: ignore[misc]
    """Add rows to a table by generative mixing: `fit_resample(X, y)`.

    A new row lies between a row of its class and one of another class, where the class densities have the ratio
    lam; lam is drawn from Beta(alpha, alpha) and its larger side goes to the row's class. A pair between which no
    point has that ratio is drawn anew, with another lam, so that each class gets as many rows as are asked.

    Columns keep their kind and dtype: integers are rounded, and of booleans, texts and categories one of the two rows'
    is taken, the row's own with its share of the mix; the class must be ahead at what comes of it. The density of
    such columns is that of the backend `mixed_types`.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`, of which a copy is fitted.
        sampling_strategy: What imbalanced-learn takes. `"auto"`, `"not majority"` and `"all"` bring each class to
            the size of the largest, `"minority"` the smallest alone, `"not minority"` all but that; a sequence of
            class names those; a mapping says how many rows each class shall have, those there are included; a float
            is, for two classes, the size of the smaller over that of the larger; a callable takes y and returns a
            mapping.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        ahead_of: `"all"` demands that the row's class is the most likely of all at the new row, `"pair"` more likely
            than the other class of the pair: a third class may then lie between the two.
        soft_labels: Return labels `(N, C)` in the order of `classes_` instead of class names.
        random_state: Seed, or a `RandomState`.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        density_: The fitted density, in float64.
        attained_: Which of the new rows hold the lam drawn for them: all, but for values rounded or taken whole.
        n_features_in_: Number of features.

    Raises:
        ValueError: In `fit_resample`, on an option out of range, fewer than two classes, or a class of which no
            new row is found: its density is nowhere ahead.

    Example:
        >>> X = np.random.RandomState(0).randn(30, 2)
        >>> y = np.array(["rare"] * 6 + ["usual"] * 24)
        >>> X_more, y_more = GenerativeMixSampler(random_state=0).fit_resample(X, y)
        >>> X_more.shape, int((y_more == "rare").sum())
        ((48, 2), 24)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(
        self,
        backend: Any = "gm",
        *,
        sampling_strategy: Strategy | float | Sequence[Any] | Mapping[Any, int] | Callable[[Any], Any] = "auto",
        alpha: float = 1.0,
        ahead_of: Literal["all", "pair"] = "all",
        soft_labels: bool = False,
        random_state: Any = None,
    ) -> None:
        self.backend = backend
        self.sampling_strategy = sampling_strategy
        self.alpha = alpha
        self.ahead_of = ahead_of
        self.soft_labels = soft_labels
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """The table followed by the new rows, and their labels.

        Args:
            X: Table, shape `(N, D)`: an array, or a frame of pandas, polars or another library that narwhals knows.
            y: Class names, shape `(N,)`: an array or a series. Both come back as what they are.
        """
        check_number("alpha", self.alpha, -np.inf)
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")
        if self.ahead_of not in ("all", "pair"):
            raise ValueError(f"ahead_of must be 'all' or 'pair', got {self.ahead_of!r}")
        _check_n_features(self, X, reset=True)
        _check_feature_names(self, X, reset=True)
        columns, names = read_columns(X), column_or_1d(y)
        check_consistent_length(columns.numbers, names)
        check_classification_targets(names)
        self.classes_, first, indices = np.unique(names, return_index=True, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got {self.classes_.tolist()}")
        n_new = rows_to_make(self.sampling_strategy, names)
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        numbers, source, y_new, target, held = self._new_rows(columns, torch.from_numpy(indices), n_new, generator)
        self.attained_ = held.numpy()
        table = columns.extend(numbers.numpy(), source.numpy())
        if self.soft_labels:
            return table, np.concatenate([np.eye(len(self.classes_))[indices], y_new.numpy()])
        return table, take_labels(y, np.concatenate([np.arange(len(names)), first[target.numpy()]]))

    def _new_rows(
        self, columns: Columns, target: Tensor, n_new: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Numbers, rows of the categories, soft labels, classes and where lam holds, in the order of classes."""
        numbers, codes = torch.from_numpy(columns.numbers), torch.from_numpy(columns.codes)
        integer, cardinality = torch.from_numpy(columns.integer), columns.cardinality
        x = encode_rows(numbers, codes, cardinality)
        self.density_ = self._make_density(cardinality).fit(x, target)
        search = RatioSearch(self.density_)
        size = torch.tensor(cardinality, dtype=torch.long)
        place = numbers.shape[1] + size.cumsum(0) - size + codes  # (N, K), of the indicator of each category
        lacking, found = torch.from_numpy(n_new), []
        for _ in range(PATIENCE * (1 + int(n_new.sum()) // MAX_DRAWS)):
            wanted = torch.arange(len(n_new)).repeat_interleave(lacking)
            c = wanted.repeat(-(-MIN_DRAWS // max(1, len(wanted))))[:MAX_DRAWS]
            i, j = _draw_rows(target, c, generator), _draw_rows(target, c, generator, other=True)
            lam = draw_beta(torch.full((len(c),), float(self.alpha)), generator)
            lam = torch.maximum(lam, 1 - lam)
            between, _, attained = search(x[i], x[j], c, target[j], lam)
            own = torch.rand(len(c), len(cardinality), generator=generator) < between.gather(1, place[i])
            source = torch.where(own, i[:, None], j[:, None])
            mixed = torch.where(integer, between[:, : len(integer)].round(), between[:, : len(integer)])
            log_prob = self.density_.log_prob(encode_rows(mixed, codes.gather(0, source), cardinality))
            pair = torch.stack([c, target[j]], 1)
            share = log_prob.gather(1, pair).softmax(1)
            ahead = share[:, 0] > 0.5 if self.ahead_of == "pair" else log_prob.argmax(1) == c
            good = (attained & ahead).nonzero().squeeze(1)
            good = good[_rank(c[good]) < lacking[c[good]]]
            y_new = torch.zeros_like(log_prob).scatter_(1, pair, share)
            held = (share[:, 0] - lam).abs() <= search.tolerance
            found.append([part[good] for part in (mixed, source, y_new, c, held)])
            lacking = lacking - c[good].bincount(minlength=len(lacking))
            if not lacking.any():
                break
        else:
            worst = int(lacking.argmax())
            name, n_made = self.classes_.tolist()[worst], n_new[worst] - int(lacking[worst])
            raise ValueError(
                f"class {name!r} got {n_made} of {n_new[worst]} new rows, since its density is hardly ever ahead: take "
                "another backend or ahead_of='pair'"
            )
        parts = [torch.cat(part) for part in zip(*found, strict=True)]
        order = parts[3].argsort(stable=True)
        return tuple(part[order] for part in parts)

    def _make_density(self, cardinality: Sequence[int]) -> Any:
        backend = copy.deepcopy(self.backend)
        if not cardinality:
            return make_backend(backend)
        continuous = "gm" if backend == "mixed_types" else backend
        return MixedTypes(cardinality=cardinality, continuous=continuous)


def _draw_rows(target: Tensor, c: Tensor, generator: torch.Generator, *, other: bool = False) -> Tensor:
    """A random row of each class `c`, or of any other class, `(N,), (M,) -> (M,)`."""
    order, count = target.argsort(stable=True), target.bincount()
    first, number = (count.cumsum(0) - count)[c], count[c]
    u = torch.rand(len(c), generator=generator, dtype=torch.float64)
    if other:  # past the rows of the class, and around
        return order[(first + number + (u * (len(target) - number)).long()) % len(target)]
    return order[first + (u * number).long()]


def _rank(c: Tensor) -> Tensor:
    """How many earlier entries are equal, `(M,) -> (M,)`."""
    order, count = c.argsort(stable=True), c.bincount()
    rank = torch.arange(len(c)) - (count.cumsum(0) - count)[c[order]]
    return torch.empty_like(c).scatter_(0, order, rank)
