"""Generative mixing of whole tables, off-line, in the manner of imbalanced-learn."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_X_y
from torch import Tensor

from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.mixing.generative import RatioSearch
from genlabel_plugins.mixing.pairing import draw_beta


class GenerativeMixSampler(BaseEstimator):  # type: ignore[misc]
    """Add rows to a table by generative mixing: `fit_resample(X, y)`.

    A new row lies between a row of its class and one of another class, where the class densities have the ratio
    lam; lam is drawn from Beta(alpha, alpha) and its larger side goes to the row's class. A hard label is the more
    likely class there, so a class may gain a few rows less than were drawn for it.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`, of which a copy is fitted.
        sampling_strategy: `"auto"` draws for each class what it lacks of the largest; a float draws that many
            rows for each row of the table, classes in proportion.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        soft_labels: Return labels `(N, C)` in the order of `classes_` instead of class names.
        random_state: Seed, or a `RandomState`.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        density_: The fitted density.
        attained_: Which of the new rows attained their lam.
        n_features_in_: Number of features.

    Raises:
        ValueError: In `fit_resample`, on an option out of range or fewer than two classes.

    Example:
        >>> X = np.random.RandomState(0).randn(30, 2)
        >>> y = np.array(["rare"] * 6 + ["usual"] * 24)
        >>> X_more, y_more = GenerativeMixSampler(random_state=0).fit_resample(X, y)
        >>> X_more.shape
        (48, 2)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(
        self,
        backend: Any = "gm",
        *,
        sampling_strategy: Literal["auto"] | float = "auto",
        alpha: float = 1.0,
        soft_labels: bool = False,
        random_state: Any = None,
    ) -> None:
        self.backend = backend
        self.sampling_strategy = sampling_strategy
        self.alpha = alpha
        self.soft_labels = soft_labels
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        """The table followed by the new rows, and their labels.

        Args:
            X: Table, shape `(N, D)`; a DataFrame comes back as one.
            y: Class names, shape `(N,)`.
        """
        if self.sampling_strategy != "auto" and (isinstance(self.sampling_strategy, str) or self.sampling_strategy < 0):
            raise ValueError(f"sampling_strategy must be 'auto' or a float from 0, got {self.sampling_strategy!r}")
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")
        columns = getattr(X, "columns", None)
        rows, names = check_X_y(X, y, dtype=[np.float64, np.float32])
        check_classification_targets(names)
        self.classes_, indices = np.unique(names, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got {self.classes_.tolist()}")
        self.n_features_in_ = rows.shape[1]
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        x, target = torch.from_numpy(rows), torch.from_numpy(indices)
        density = make_backend(copy.deepcopy(self.backend))
        self.density_ = density.fit(x, target)
        x_new, y_new = self._new_rows(x, target, generator)
        table: Any = np.concatenate([rows, x_new.numpy()])
        if columns is not None:
            table = type(X)(table, columns=columns)
        if self.soft_labels:
            return table, np.concatenate([np.eye(len(self.classes_), dtype=rows.dtype)[indices], y_new.numpy()])
        return table, np.concatenate([names, self.classes_[y_new.argmax(1).numpy()]])

    def _new_rows(self, x: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count = target.bincount()
        if self.sampling_strategy == "auto":
            lacking = count.max() - count
        else:
            lacking = (count * self.sampling_strategy).round().long()
        first, second = [], []
        for c, n_new in enumerate(lacking.tolist()):
            own, other = (target == c).nonzero().squeeze(1), (target != c).nonzero().squeeze(1)
            first.append(own[torch.randint(len(own), (n_new,), generator=generator)])
            second.append(other[torch.randint(len(other), (n_new,), generator=generator)])
        i, j = torch.cat(first), torch.cat(second)
        lam = draw_beta(torch.full((len(i),), float(self.alpha)), generator).to(x.dtype)
        mixed = RatioSearch(self.density_)(x[i], x[j], target[i], target[j], torch.maximum(lam, 1 - lam))
        self.attained_ = mixed.attained.numpy()
        return mixed.x_mix, mixed.y
