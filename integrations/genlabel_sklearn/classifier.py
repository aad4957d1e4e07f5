"""GenLabelClassifier: a small network trained on mixed rows with GenLabel's labels."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Literal, Self

import torch
from torch import Tensor

from genlabel_plugins.densities._training import hold_out
from genlabel_plugins.selection import Candidate, Scheme
from genlabel_plugins.selection._stacked import StackedNetworks
from genlabel_plugins.selection._stacked_training import train_stacked
from genlabel_plugins.selection._table import Table, arrange
from genlabel_sklearn.base import LEARNING_RATES, MIXES, NetworkClassifier
from genlabel_sklearn.members import Array, Network

SCHEMES: dict[str, Scheme] = {"genlabel": "genlabel", "linear": "mixup", "logistic": "logistic", "nearest": "nearest"}


class GenLabelClassifier(NetworkClassifier):
    r"""Logistic regression, or a network with hidden layers, trained on mixed rows with GenLabel's labels.

    Rows are standardised inside, so that units do not matter. Whole-numbered `sample_weight`, up to a mean of 100,
    repeats rows, or leaves them out; other weights say how often training visits a row relative to the rest. What is
    learnt does not depend on the order of the rows.

    Args:
        backend: Density of the classes, a registered name or an object with `fit` and `log_prob`.
        gamma: Trust in the posterior, in [0, 1]; 0 is mixup.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        label: What a mixed row is called: `"genlabel"`, `"linear"` (mixup), `"logistic"` or `"nearest"`.
        mix: `"mixup"`, `"column_cutmix"`, or None to train on the rows as they are.
        keep_clean: Average the loss on mixed rows with the loss on clean ones.
        head: `"logistic"` or `"mlp"`.
        hidden_layer_sizes: Widths of the hidden layers of `"mlp"`.
        learning_rate: Step size of Adam; None is 0.1 for `"logistic"` and 0.003 for `"mlp"`.
        weight_decay: Weight of the squared parameters in the loss.
        batch_size: Rows in a batch at most.
        max_epochs: Passes over the rows.
        priors: `"uniform"` (the paper), `"empirical"` or one number per class, for the posterior.
        class_weight: None, `"balanced"` or a dict: how often training visits each class relative to its rows.
        early_stopping: Hold rows out, stop when their log-loss no longer falls, and keep the best network.
        validation_fraction: Fraction of each class to hold out.
        n_iter_no_change: Epochs without a lower held-out log-loss after which to stop.
        random_state: Seed, or a `RandomState`.
        device: Device of the training, such as `"cuda"`; None is the CPU.
        warm_start: Go on from the network of the previous `fit`.
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        coefs_: Weights of the layers, shapes `(in, out)`, in the units of the data.
        intercepts_: Biases of the layers, shapes `(out,)`.
        n_iter_: Epochs that were trained.
        loss_curve_: Mean training loss of each epoch.
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

    _mixes = (*MIXES, None)
    coefs_: list[Array]
    intercepts_: list[Array]

    def __init__(
        self,
        backend: Any = "gm",
        *,
        gamma: float = 0.5,
        alpha: float = 1.0,
        label: Literal["genlabel", "linear", "logistic", "nearest"] = "genlabel",
        mix: Literal["mixup", "column_cutmix"] | None = "mixup",
        keep_clean: bool = True,
        head: Literal["logistic", "mlp"] = "logistic",
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        learning_rate: float | None = None,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        max_epochs: int = 100,
        priors: Any = "uniform",
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = None,
        device: str | None = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.backend = backend
        self.gamma = gamma
        self.alpha = alpha
        self.label = label
        self.mix = mix
        self.keep_clean = keep_clean
        self.head = head
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.priors = priors
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
        earlier = self._network() if self.warm_start and hasattr(self, "coefs_") else None
        if earlier is not None and earlier.sizes[1:-1] != options.hidden:
            raise ValueError(f"warm_start needs the hidden layers {earlier.sizes[1:-1]}, got {options.hidden}")
        problem = self._problem(X, y, sample_weight, goes_on=earlier is not None)
        x, target, weight = arrange(problem.x, problem.target, problem.weight)
        rows, held_out = torch.arange(len(x)), None
        if self.early_stopping:
            rows, held_out = self._hold_out(target, problem.seed)
        table = Table.of(x[rows], target[rows], None if weight is None else weight[rows], problem.class_weight)
        networks = None
        if earlier is not None:
            networks = StackedNetworks(earlier.sizes, 1, [torch.Generator()])
            networks.set_network(0, 0, *earlier.on(table))
            networks = networks.to(table.x.device)
        if not (isinstance(self.n_iter_no_change, Integral) and self.n_iter_no_change > 0):
            raise ValueError(f"n_iter_no_change must be a positive whole number, got {self.n_iter_no_change!r}")
        progress = _Progress(int(self.n_iter_no_change))
        if held_out is not None:
            judges = torch.ones_like(x[:, 0]) if weight is None else weight
            progress.watch(table.standardise(x[held_out]), target[held_out], judges[held_out])
        networks = train_stacked(
            [table],
            [candidate],
            len(self.classes_),
            options,
            seed=problem.seed,
            networks=networks,
            on_epoch=progress,
            interruptible=True,
            verbose=bool(self.verbose),
        )
        network = Network.of(*(progress.best or networks.network(0, 0)), table)
        self.coefs_, self.intercepts_ = network.coefs, network.intercepts
        self.loss_curve_ = torch.stack(progress.losses).tolist() if progress.losses else []
        self.validation_loss_curve_ = progress.held_out_losses if self.early_stopping else None
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _candidate(self) -> Candidate:
        if self.label not in SCHEMES:
            raise ValueError(f"label must be one of {tuple(SCHEMES)}, got {self.label!r}")
        scheme = SCHEMES[self.label] if self.mix is not None else "vanilla"
        relabelled = scheme == "genlabel"
        if relabelled and self.backend is None:
            raise ValueError("backend must be a registered name or an object with fit and log_prob, got None")
        rate = LEARNING_RATES.get(self.head, 0.1) if self.learning_rate is None else self.learning_rate
        return Candidate(
            scheme=scheme,
            backend=self.backend if relabelled else None,
            gamma=self.gamma if relabelled else 0.0,
            keep_clean=bool(self.keep_clean) and self.mix is not None,
            learning_rate=rate,
        )

    def _hold_out(self, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        if not (isinstance(self.validation_fraction, Real) and 0 < float(self.validation_fraction) < 1):
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {self.validation_fraction!r}")
        rows, held_out = hold_out(target, self.validation_fraction, torch.Generator().manual_seed(seed))
        if not len(held_out):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds out no row of {len(target)}: "
                "raise it or set early_stopping=False"
            )
        return rows, held_out

    @property
    def coef_(self) -> Array:
        """Weights of logistic regression, shape `(C, D)`, for feature selection."""
        if self.head != "logistic":
            raise AttributeError("coef_ belongs to head='logistic': use coefs_")
        coef: Array = self.coefs_[0].T
        return coef

    def _network(self) -> Network:
        return Network(self.coefs_, self.intercepts_)

    def _probability(self, X: Array) -> Array:
        return self._network().predict_proba(X)


class _Progress:
    """Follows a training: losses of each epoch and, where rows are held out, the best network so far."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.losses: list[Tensor] = []
        self.held_out: tuple[Tensor, Tensor, Tensor] | None = None
        self.held_out_losses: list[float] = []
        self.best: tuple[list[Tensor], list[Tensor]] | None = None

    def watch(self, x: Tensor, target: Tensor, weight: Tensor) -> None:
        """Hold out rows, which count by their weights."""
        self.held_out = x, target, weight / weight.sum()

    @torch.no_grad()
    def __call__(self, networks: StackedNetworks, losses: Tensor) -> bool:
        """Note an epoch; whether to stop."""
        self.losses.append(losses.mean())
        if self.held_out is None:
            return False
        x, target, weight = self.held_out
        logits = networks(x[None])[0, :, :, 0]
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        self.held_out_losses.append(float(loss.double() @ weight))
        best = self.held_out_losses.index(min(self.held_out_losses))
        since = len(self.held_out_losses) - 1 - best
        if not since:
            self.best = networks.network(0, 0)
        return since >= self.patience
