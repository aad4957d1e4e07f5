"""What the two classifiers share: checks of input and options, and prediction."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from genlabel_plugins.mixing import MIXERS
from genlabel_plugins.selection._mixed_batches import MixOptions
from genlabel_plugins.selection._stacked_training import TrainingOptions
from genlabel_sklearn.members import Array

_KINDS = {Real: "number", Integral: "whole number"}
MIXES = tuple(sorted(MIXERS.keys() - {"cutmix"}))  # cutmix is for images
LEARNING_RATES = {"logistic": 0.1, "mlp": 0.003}  # of each head


class Problem(NamedTuple):
    """What `fit` was given, as tensors."""

    x: Tensor  # (N, D), float64
    target: Tensor  # (N,)
    weight: Tensor | None  # (N,)
    class_weight: Tensor | None  # (C,)
    seed: int


class NetworkClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the classifiers; a subclass says in `_probability` what rows are."""

    classes_: NDArray[Any]
    _mixes: tuple[str | None, ...] = MIXES

    def _problem(self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool = False) -> Problem:
        """Check the input of `fit` and set `classes_`, `n_features_in_` and `feature_names_in_`.

        Args:
            X: Rows, shape `(N, D)`.
            y: Class names, shape `(N,)`.
            sample_weight: Weights of the rows, shape `(N,)`, or None.
            goes_on: Hold features and classes to those of the previous fit instead.

        Raises:
            ValueError: On input or options that nothing can be learnt from.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", reset=not goes_on)
        check_classification_targets(y)
        classes, target = np.unique(y, return_inverse=True)
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        if weight is not None and not (weight >= 0).all():
            raise ValueError(f"sample_weight must not be negative, got {weight.min()}")
        seen = classes if weight is None else np.unique(y[weight > 0])
        if len(seen) < 2:
            raise ValueError(f"y must hold at least two classes in rows of positive weight, got one class: {seen[0]}")
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start needs the classes {self.classes_.tolist()}, got {classes.tolist()}")
        self.classes_ = classes
        class_weight = None
        if self.class_weight is not None:
            if isinstance(self.class_weight, str) and self.class_weight == "balanced":
                total = np.bincount(target, weight)
                found = total.sum() / (len(total) * np.where(total > 0, total, np.inf))
            else:
                found = compute_class_weight(self.class_weight, classes=classes, y=y)
            if not ((found >= 0).all() and (found > 0).any()):
                raise ValueError(f"class_weight must be numbers from 0, not all 0, got {self.class_weight!r}")
            class_weight = torch.from_numpy(np.asarray(found, dtype=np.float64)).to(self._device())
        seed = int(check_random_state(self.random_state).randint(2**31))
        device = self._device()
        return Problem(
            torch.tensor(X, device=device),
            torch.from_numpy(target).to(device),
            None if weight is None else torch.tensor(weight, device=device),
            class_weight,
            seed,
        )

    def _options(self) -> TrainingOptions:
        """Options of training.

        Raises:
            ValueError: On an option out of range, naming the value and the choices.
        """
        if self.head not in LEARNING_RATES:
            raise ValueError(f"head must be one of {tuple(LEARNING_RATES)}, got {self.head!r}")
        if self.mix not in self._mixes:
            raise ValueError(f"mix must be one of {self._mixes}, got {self.mix!r}")
        for name, kind in (("alpha", Real), ("max_epochs", Integral), ("batch_size", Integral)):
            value = getattr(self, name)
            if not (isinstance(value, kind) and 0 < float(value) < math.inf):
                raise ValueError(f"{name} must be a positive {_KINDS[kind]}, got {value!r}")
        if not (isinstance(self.weight_decay, Real) and 0 <= float(self.weight_decay) < math.inf):
            raise ValueError(f"weight_decay must be a number from 0, got {self.weight_decay!r}")
        return TrainingOptions(
            mix=self.mix or MixOptions.mix,
            alpha=float(self.alpha),
            batch_size=int(self.batch_size),
            priors=self.priors,
            hidden=() if self.head == "logistic" else self._hidden(),
            max_epochs=int(self.max_epochs),
            weight_decay=float(self.weight_decay),
        )

    def _device(self) -> torch.device:
        try:
            return torch.device("cpu" if self.device is None else self.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device must be None or a device of torch, got {self.device!r}: {error}") from error

    def _hidden(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        if not (isinstance(sizes, Iterable) and all(isinstance(width, Integral) and int(width) > 0 for width in sizes)):
            raise ValueError(f"hidden_layer_sizes must hold positive whole numbers, got {sizes!r}")
        return tuple(int(width) for width in sizes)

    @abstractmethod
    def _probability(self, X: Array) -> Array:
        """Probabilities of checked rows, `(B, D) -> (B, C)`."""

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities, `(B, D) -> (B, C)`, in the order of `classes_`."""
        check_is_fitted(self)
        return self._probability(validate_data(self, X, dtype=np.float64, reset=False))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the class probabilities, `(B, D) -> (B, C)`."""
        with np.errstate(divide="ignore"):
            log_probability: Array = np.log(self.predict_proba(X))
        return log_probability

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable classes, `(B, D) -> (B,)`."""
        probability = self.predict_proba(X)
        classes: NDArray[Any] = self.classes_[probability.argmax(1)]
        return classes
