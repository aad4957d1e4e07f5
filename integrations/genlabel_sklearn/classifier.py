"""GenLabelClassifier: a small network trained on mixed rows with GenLabel's labels."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch

from genlabel_plugins.selection._early_stopping import EarlyStopping, HeldOut
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate, Scheme
from genlabel_sklearn.base import LEARNING_RATE, NetworkClassifier, Problem
from genlabel_sklearn.stored_models import Array, Model, Networks


class GenLabelClassifier(NetworkClassifier):
    r"""Logistic regression, or a network with hidden layers, trained on mixed rows with GenLabel's labels.

    A logistic head solves the problem of scikit-learn's `LogisticRegression` on mixed rows, `scheme="none"` on rows as
    they are. Whole-numbered `sample_weight`, up to a mean of 100, repeats rows, or leaves them out; other weights say
    how often training visits a row relative to the rest. What is learnt does not depend on the order of the rows.

    Args:
        backend: Density of the classes, a registered name or an object with `fit` and `log_prob`; None for a scheme
            without.
        scheme: `"none"` trains on the rows as they are. The others mix rows and label them by `"mixup"`, `"genlabel"`,
            `"logistic"` or `"nearest"`. `"density"` trains nothing: the posterior of the densities is the classifier.
        gamma: Trust of `"genlabel"` in the posterior, in [0, 1]; 0 is mixup.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        mix: `"mixup"` or `"column_cutmix"`.
        keep_clean: Average the loss on mixed rows with the loss on clean ones.
        head: `"logistic"` or `"mlp"`.
        C: Inverse strength of the penalty on squared coefficients of a `"logistic"` head, in the units of
            `LogisticRegression`; None for a scheme or a learning rate without.
        hidden_layer_sizes: Widths of the hidden layers of `"mlp"`.
        standardize: `"auto"` divides each column by its standard deviation, unless the columns look like principal
            components: those of a PCA that scaled columns before must not be blown up. Or True or False.
        learning_rate: Step size of Adam; None solves a `"logistic"` head to its minimum, and is 0.003 for `"mlp"`.
        weight_decay: Weight of the squared parameters in the loss of a network that is trained by Adam.
        batch_size: Rows in a batch at most.
        max_epochs: Passes over the rows.
        stop_mixing: Epoch from which on networks that are trained by Adam see rows as they are, or the share of all
            epochs before it.
        priors: `"uniform"` (the paper), `"empirical"` or one number per class, for the posterior.
        leave_parents_out: Label mixed rows as if the densities had not seen the two rows that each is of; for `"kde"`,
            `"nn"` and `"gm"`.
        cross_fit: The same for any density or teacher, by that many folds.
        class_weight: None, `"balanced"` or a dict: how often training visits each class relative to its rows.
        early_stopping: Hold rows out, stop when their log-loss no longer falls, and keep the best network; `"auto"` is
            True for `"mlp"` where ten rows can be held out.
        validation_fraction: Fraction of each class to hold out.
        n_iter_no_change: Epochs without a lower held-out log-loss after which to stop.
        random_state: Seed, or a `RandomState`.
        device: Device of the training, such as `"cuda"`; None is the CPU.
        warm_start: Go on from the network of the previous `fit`.
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        coefs_: Weights of the layers, shapes `(in, out)`, in the units of the data; none of `scheme="density"`.
        intercepts_: Biases of the layers, shapes `(out,)`.
        n_iter_: Epochs that were trained, by Adam.
        loss_curve_: Mean training loss of each epoch, by Adam.
        validation_loss_curve_: Held-out log-loss of each epoch, with `early_stopping`.
        n_features_in_: Number of features.
        feature_names_in_: Names of the columns, for a DataFrame.

    Raises:
        ValueError: In `fit`, on an option out of range or rows that nothing can be learnt from.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> GenLabelClassifier(random_state=0).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
        True

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithm 1.
    """

    _density: Model
    coefs_: list[Array]
    intercepts_: list[Array]

    def __init__(
        self,
        backend: Any = "gm",
        *,
        scheme: Scheme = "genlabel",
        gamma: float | None = 0.5,
        alpha: float = 1.0,
        mix: Literal["mixup", "column_cutmix"] = "mixup",
        keep_clean: bool = False,
        head: Literal["logistic", "mlp"] = "logistic",
        C: float | None = 1.0,
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        standardize: bool | Literal["auto"] = "auto",
        learning_rate: float | None = None,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        max_epochs: int = 100,
        stop_mixing: int | float | None = None,
        priors: Any = "uniform",
        leave_parents_out: bool = False,
        cross_fit: int | None = None,
        class_weight: Any = None,
        early_stopping: bool | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = None,
        device: str | None = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.backend = backend
        self.scheme = scheme
        self.gamma = gamma
        self.alpha = alpha
        self.mix = mix
        self.keep_clean = keep_clean
        self.head = head
        self.C = C
        self.hidden_layer_sizes = hidden_layer_sizes
        self.standardize = standardize
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.stop_mixing = stop_mixing
        self.priors = priors
        self.leave_parents_out = leave_parents_out
        self.cross_fit = cross_fit
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.device = device
        self.warm_start = warm_start
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows `(N, D)` of classes `(N,)`, weighed by `sample_weight`, `(N,)`.

        Ctrl-C ends the training and keeps what is learnt.
        """
        candidate, options = self._candidate(), self._options()
        if self.early_stopping is True and candidate.kind != "trained":
            raise ValueError(
                "early_stopping=True needs a network that is trained step by step: set learning_rate or head='mlp'"
            )
        goes_on = self.warm_start and hasattr(self, "coefs_") and candidate.kind == "trained"
        earlier = self._networks() if goes_on else None
        if earlier is not None and earlier.sizes[1:-1] != options.hidden:
            raise ValueError(f"warm_start needs the hidden layers {earlier.sizes[1:-1]}, got {options.hidden}")
        problem = self._problem(X, y, sample_weight, goes_on=earlier is not None)
        for name in ("_density", "coefs_", "intercepts_", "n_iter_", "loss_curve_", "validation_loss_curve_"):
            if hasattr(self, name):
                delattr(self, name)
        if candidate.kind == "trained":
            table, held_out = self._table(problem, [candidate], options, stops=True)
            start = None
            if earlier is not None:
                start = StackedNetworks(earlier.sizes, 1, [torch.Generator()])
                start.set_network(0, 0, *earlier.on(table))
            self._train(problem, table, held_out, candidate, options, start=start)
        else:
            table, _ = self._table(problem, [candidate], options)
            networks, densities = self._fit_at_once(problem, table, [candidate], options)
            if networks is None:
                (self._density,) = densities
            else:
                self._store(networks)
        return self

    def _candidate(self) -> Candidate:
        """What is trained, in the words of the search."""
        needs_density = self.scheme in ("genlabel", "density")
        if needs_density and self.backend is None:
            raise ValueError("backend must be a registered name or an object with fit and log_prob, got None")
        is_mlp = self.head == "mlp" and self.scheme != "density"
        return Candidate(
            scheme=self.scheme,
            backend=self.backend if needs_density else None,
            gamma=self.gamma if self.scheme == "genlabel" else 0.0,  # type: ignore[arg-type]  # None is refused
            keep_clean=self.keep_clean and self.scheme not in ("none", "density"),
            C=Candidate.C if self.C is None else self.C,
            learning_rate=LEARNING_RATE if is_mlp and self.learning_rate is None else self.learning_rate,
        )

    def _train(
        self,
        problem: Problem,
        table: TrainingTable,
        held_out: HeldOut | None,
        candidate: Candidate,
        options: TrainingOptions,
        *,
        start: StackedNetworks | None,
    ) -> None:
        stopping = EarlyStopping(options.patience, None if held_out is None else [held_out])
        networks = train_jointly(
            [table],
            [candidate],
            len(self.classes_),
            options,
            seed=problem.seed,
            networks=None if start is None else start.to(table.x.device),
            on_epoch=stopping,
            interruptible=True,
            verbose=bool(self.verbose),
        )
        stopping.restore(networks)
        self._store(Networks.of([networks.network(0, 0)], table))
        self.loss_curve_ = [float(loss) for loss in stopping.losses]
        self.validation_loss_curve_ = None if held_out is None else [float(loss) for loss in stopping.held_out_losses]
        self.n_iter_ = len(self.loss_curve_)

    def _store(self, networks: Networks) -> None:
        self.coefs_ = [coef[0] for coef in networks.coefs]
        self.intercepts_ = [intercept[0, 0] for intercept in networks.intercepts]

    @property
    def coef_(self) -> Array:
        """Coefficients of a logistic head as `LogisticRegression` has them, shape `(C, D)`, of two classes `(1, D)`."""
        coef: Array = self._of_logistic("coefs_").T
        return coef if len(coef) > 2 else coef[1:] - coef[:1]

    @property
    def intercept_(self) -> Array:
        """Intercepts of a logistic head as `LogisticRegression` has them, shape `(C,)`, of two classes `(1,)`."""
        intercept = self._of_logistic("intercepts_")
        return intercept if len(intercept) > 2 else intercept[1:] - intercept[:1]

    def _of_logistic(self, name: str) -> Array:
        layers: list[Array] = getattr(self, name)
        if len(layers) > 1:
            raise AttributeError(f"{name[:-2]}_ belongs to head='logistic': use {name}")
        return layers[0]

    def _networks(self) -> Networks:
        return Networks([coef[None] for coef in self.coefs_], [bias[None, None] for bias in self.intercepts_])

    def _models(self) -> list[tuple[Array, Model]]:
        return [(np.ones(1), self._networks() if hasattr(self, "coefs_") else self._density)]
