"""What the two classifiers share: checks of input and options, fitting, and prediction."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from genlabel_plugins._checks import check_number, check_stop_mixing
from genlabel_plugins.densities._components import looks_like_components
from genlabel_plugins.mixing import MIXERS
from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.selection._candidate_batches import can_span, density_classifier, fit_relabelers
from genlabel_plugins.selection._early_stopping import LEAST_HELD_OUT, HeldOut, table_and_held_out
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._solved_regressions import solve_candidates
from genlabel_plugins.selection._training_table import TrainingTable, arrange
from genlabel_plugins.selection.candidates import Candidate
from genlabel_sklearn.stored_models import Array, DensityClassifier, Model, Networks

MIXES = tuple(sorted(MIXERS.keys() - {"cutmix"}))  # cutmix is for images
FAR = 1000  # standard deviations outside the training rows from which on a prediction means nothing
HEADS = ("logistic", "mlp")
LEARNING_RATE = 0.003  # of a network with hidden layers


class Problem(NamedTuple):
    """What `fit` was given, as tensors."""

    x: Tensor  # (N, D), float64
    target: Tensor  # (N,)
    weight: Tensor | None  # (N,)
    class_weight: Tensor | None  # (C,)
    seed: int
    standardize: bool


class NetworkClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of the classifiers; a subclass says in `_models` what it has fitted."""

    classes_: NDArray[Any]

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
        _check_dense(X)
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
        rows = torch.tensor(X, device=device), torch.from_numpy(target).to(device)
        weights = None if weight is None else torch.tensor(weight, device=device)
        learnt, *_ = arrange(*rows, weights)  # rows of no weight have no say
        standardize = not looks_like_components(learnt) if self.standardize == "auto" else self.standardize
        self._note_reach(learnt.numpy(force=True), standardize=standardize)
        return Problem(*rows, weights, class_weight, seed, standardize)

    def _options(self) -> TrainingOptions:
        """Options of training, all checked.

        Raises:
            ValueError: On an option out of range, naming the value and the choices.
        """
        for head in self._heads():
            if head not in HEADS:
                raise ValueError(f"head must be one of {HEADS}, got {head!r}")
        has_network = "mlp" in self._heads()
        if self.mix not in MIXES:
            raise ValueError(f"mix must be one of {MIXES}, got {self.mix!r}")
        for name in ("alpha", "max_epochs", "batch_size"):
            check_positive(name, getattr(self, name), whole=name != "alpha")
        if not (isinstance(self.weight_decay, Real) and 0 <= float(self.weight_decay) < math.inf):
            raise ValueError(f"weight_decay must be a number from 0, got {self.weight_decay!r}")
        for name in ("keep_clean", "leave_parents_out", "early_stopping", "standardize", "warm_start", "verbose"):
            value, choices = getattr(self, name, False), "True or False"
            if name in ("early_stopping", "standardize"):
                value, choices = (False if isinstance(value, str) and value == "auto" else value), "'auto', " + choices
            if not isinstance(value, bool | np.bool_):
                raise ValueError(f"{name} must be {choices}, got {value!r}")
        check_positive("n_iter_no_change", self.n_iter_no_change, whole=True)
        if not (isinstance(self.validation_fraction, Real) and 0 < float(self.validation_fraction) < 1):
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {self.validation_fraction!r}")
        GenLabel(priors=self.priors)
        check_stop_mixing(self.stop_mixing)
        check_number("cross_fit", self.cross_fit, 3, none=True, whole=True)
        self._device()
        return TrainingOptions(
            mix=self.mix,
            alpha=float(self.alpha),
            batch_size=int(self.batch_size),
            priors=self.priors,
            leave_parents_out=bool(self.leave_parents_out),
            cross_fit=self.cross_fit,
            hidden=self._hidden() if has_network else (),
            max_epochs=int(self.max_epochs),
            stop_mixing=self.stop_mixing,
            weight_decay=float(self.weight_decay),
            decays=has_network,
            validation_fraction=self._validation_fraction(),
            patience=int(self.n_iter_no_change),
        )

    def _heads(self) -> tuple[str, ...]:
        """Kinds of classifier that are fitted."""
        return (self.head,)

    def _validation_fraction(self) -> float | None:
        stops = "mlp" in self._heads() if self.early_stopping == "auto" else self.early_stopping
        return float(self.validation_fraction) if stops else None

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

    def _table(
        self, problem: Problem, candidates: Sequence[Candidate], options: TrainingOptions, *, stops: bool = False
    ) -> tuple[TrainingTable, HeldOut | None]:
        """The rows that candidates are fitted to, and those held out to tell when to stop."""
        x, target, weight = arrange(problem.x, problem.target, problem.weight)
        table, held_out = table_and_held_out(
            x,
            target,
            weight,
            problem.class_weight,
            fraction=options.validation_fraction if stops else None,
            seed=problem.seed,
            least=LEAST_HELD_OUT if self.early_stopping == "auto" else 1,
            standardize=problem.standardize,
            in_span=can_span(candidates, options),
        )
        if stops and self.early_stopping is True and held_out is None:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds out no row of {len(target)}: "
                "raise it or set early_stopping=False"
            )
        return table, held_out

    def _fit_at_once(
        self, problem: Problem, table: TrainingTable, candidates: Sequence[Candidate], options: TrainingOptions
    ) -> tuple[Networks | None, list[DensityClassifier]]:
        """Networks of the candidates that are solved, and the densities that are classifiers."""
        n_classes = len(self.classes_)
        backends = [candidate.backend for candidate in candidates]
        relabelers = fit_relabelers(table, backends, n_classes, options.priors, problem.seed, **options.left_out)
        solved = [candidate for candidate in candidates if candidate.kind == "solved"]
        networks = None
        if solved:
            found = solve_candidates([table], solved, n_classes, options, [relabelers], seed=problem.seed)
            networks = Networks.of([found.network(0, m) for m in range(len(solved))], table)
        densities = [
            DensityClassifier(c.backend, density_classifier(relabelers[c.backend], table, n_classes), table)
            for c in candidates
            if c.kind == "density"
        ]
        return networks, densities

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the latest `fit` has come to its end."""
        return not {"coefs_", "_density", "_fitted"}.isdisjoint(vars(self))

    @abstractmethod
    def _models(self) -> list[tuple[Array, Model]]:
        """What was fitted, with the weights `(M,)` of its members."""

    def _note_reach(self, X: Array, *, standardize: bool) -> None:
        """Note where the rows lie and how far outside a prediction still means something."""
        spread = X.std(0)
        unit = (
            np.where(spread > 0, spread, np.abs(X[0]) + (X[0] == 0))
            if standardize
            else np.full_like(spread, spread.max())
        )
        self._range = np.stack([X.min(0), X.max(0), FAR * unit])

    def _warn_of_far_rows(self, X: Array) -> None:
        low, high, far = self._range
        if ((low - far <= X) & (high + far >= X)).all():
            return
        beyond = np.maximum(low - X, X - high) - far  # (B, D)
        row, column = np.unravel_index((beyond / np.where(far > 0, far, 1.0)).argmax(), X.shape)
        name = getattr(self, "feature_names_in_", range(X.shape[1]))[column]
        n_more = int((beyond > 0).any(0).sum()) - 1
        warnings.warn(
            f"column {name!r}{f' and {n_more} more' if n_more else ''} of new rows lies over {FAR} standard deviations "
            f"outside what was learnt, at {X[row, column]:g} where training rows lie between {low[column]:g} and "
            f"{high[column]:g}: check its unit and the steps before",
            stacklevel=4,
        )

    def _log_probability(self, X: Any) -> Array:
        check_is_fitted(self)
        _check_dense(X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        self._warn_of_far_rows(X)
        parts = [(weight, model.log_probability(X)) for weight, model in self._models()]
        if len(parts) == 1 and len(parts[0][0]) == 1:
            log_probability: Array = parts[0][1][0]
            return log_probability
        with np.errstate(divide="ignore"):
            mean: Array = np.log(sum(np.tensordot(weight, np.exp(log_p), 1) for weight, log_p in parts))
        return np.minimum(mean, 0.0)

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities, `(B, D) -> (B, C)`, in the order of `classes_`."""
        probability: Array = np.exp(self._log_probability(X))
        probability /= probability.sum(1, keepdims=True)
        return probability

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the class probabilities, `(B, D) -> (B, C)`."""
        return self._log_probability(X)

    def decision_function(self, X: Any) -> Array:
        """Log-odds of the second of two classes, `(B, D) -> (B,)`, else log-probabilities, `(B, D) -> (B, C)`."""
        log_p = np.maximum(self._log_probability(X), math.log(np.finfo(np.float64).tiny))
        return log_p if log_p.shape[1] > 2 else log_p[:, 1] - log_p[:, 0]

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable classes, `(B, D) -> (B,)`."""
        log_probability = self._log_probability(X)
        classes: NDArray[Any] = self.classes_[log_probability.argmax(1)]
        return classes


def check_positive(name: str, value: Any, *, whole: bool) -> None:
    """Raise `ValueError` unless the value of an option is a positive number."""
    if not (isinstance(value, Integral if whole else Real) and 0 < float(value) < math.inf):
        raise ValueError(f"{name} must be a positive {'whole number' if whole else 'number'}, got {value!r}")


def _check_dense(X: Any) -> None:
    if issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but rows are mixed densely: let the step before make dense rows, as "
            "OneHotEncoder(sparse_output=False) does, or pass X.toarray()"
        )
