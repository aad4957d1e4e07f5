"""GenLabelClassifierCV: whether to mix, how to label and how fast to learn, chosen by cross-validation."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.model_selection import check_cv

from genlabel_plugins._checks import said_later
from genlabel_plugins.densities._training import hold_out
from genlabel_plugins.selection import Candidate, Scheme, Selection, candidate_grid, cross_validate, select
from genlabel_plugins.selection._candidate_fits import fit_networks
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._training_table import arrange, count_rows
from genlabel_plugins.selection.candidates import CS
from genlabel_plugins.selection.choice import CrossValidation, check_selection
from genlabel_plugins.selection.search import Split, repeats_for
from genlabel_sklearn.base import HEADS, NetworkClassifier, Problem, check_positive
from genlabel_sklearn.cv_results import cv_results
from genlabel_sklearn.scorers import check_scoring, make_scorers
from genlabel_sklearn.stored_models import Array, Model, Networks

LEARNING_RATES = (0.01, 0.001)  # of networks with hidden layers


class GenLabelClassifierCV(NetworkClassifier):
    r"""Cross-validate no mixing, mixup, GenLabel and the densities as classifiers, and fit what does best.

    All candidates of all folds are trained as one tensor program: a hundred of them cost little more than one. Weights,
    the order of rows and standardization are those of `GenLabelClassifier`.

    The defaults average candidates. The paper's GenLabel (CV) is `schemes=("mixup", "genlabel")`,
    `gammas=(0.2, 0.4, 0.6, 0.8, 1.0)`, `learning_rates=(0.1, 0.01, 0.001, 0.0001)`, `n_repeats=1`,
    `scoring="accuracy"`, `selection="best"`.

    Args:
        backends: Densities to choose from, registered names or objects with `fit` and `log_prob`.
        gammas: Trusts in the posterior to choose from.
        Cs: Inverse strengths of the penalty to choose from, in the units of `LogisticRegression`.
        learning_rates: Step sizes of Adam to choose from, in place of `Cs`: networks are trained for some epochs, as in
            the paper. None solves a `"logistic"` head to its minimum, and is (0.01, 0.001) for `"mlp"`.
        schemes: What competes, the simpler first: `"none"` (no mixing), `"mixup"`, `"genlabel"`, `"density"`
            (the posterior itself is the classifier), `"logistic"` or `"nearest"` (other labels of mixed rows).
        cv: Number of stratified folds, None for 5, a splitter, or pairs of row indices.
        n_repeats: Repetitions of the folds, where `cv` is a number or None; `"auto"` takes as many as hold out 3,000
            rows in all, at most 10.
        max_rows: Rows that the cross-validation uses at most, drawn class by class; the choice is fitted to all rows.
        scoring: Name of a score in scikit-learn that takes predictions or probabilities, such as `"accuracy"`,
            `"balanced_accuracy"` or `"neg_log_loss"`.
        selection: `"stack"` averages candidates with the weights of least held-out log-loss, `"average"` weighs them by
            how well they score, `"best"` takes the best, of equals the simplest, and `"one_standard_error"` the
            simplest within one standard error of the best. None is `"stack"` where log-loss is the score, else
            `"average"`.
        keep_clean: Average the loss on mixed rows with the loss on clean ones.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        mix: `"mixup"` or `"column_cutmix"`.
        head: `"logistic"` or `"mlp"`.
        heads: Heads that compete in its place, such as `("logistic", "mlp")`: a logistic head is solved then, by `Cs`,
            and networks are trained by `learning_rates`, which takes most of the time.
        hidden_layer_sizes: Widths of the hidden layers of `"mlp"`.
        standardize: As `GenLabelClassifier` has it.
        weight_decay: Weight of the squared parameters in the loss of networks that are trained by Adam.
        batch_size: Rows in a batch at most.
        max_epochs: Passes over the rows.
        stop_mixing: As `GenLabelClassifier` has it, for networks that are trained by Adam.
        priors: `"uniform"` (the paper), `"empirical"` or one number per class, for GenLabel's posterior.
        leave_parents_out: As `GenLabelClassifier` has it, and so is the option that follows.
        cross_fit: Folds by which any density or teacher leaves the parents out.
        class_weight: None, `"balanced"` or a dict: how often training visits each class relative to its rows.
        early_stopping: As `GenLabelClassifier` has it, and so are the two options that follow.
        validation_fraction: Fraction of each class to hold out.
        n_iter_no_change: Epochs without a lower held-out log-loss after which to stop.
        random_state: Seed, or a `RandomState`.
        device: Device of the training, such as `"cuda"`; None is the CPU.
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        cv_results_: Dict of arrays, as `GridSearchCV` has it, with `standard_error_test_score` and the `weight` of
            each candidate in the classifier, and without times: all are trained together.
        best_params_: Parameters, as `GenLabelClassifier` takes them, of the candidate of the greatest weight, of equals
            the simplest.
        best_index_: Its place in `cv_results_`.
        best_score_: Its mean held-out score.
        n_splits_: Number of splits.
        members_: Parameters and weight of each candidate in the classifier.
        n_features_in_: Number of features.
        feature_names_in_: Names of the columns, for a DataFrame.

    Raises:
        ValueError: In `fit`, on an option out of range or rows that nothing can be learnt from.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> classifier = GenLabelClassifierCV(random_state=0).fit(X[::2], y[::2])
        >>> classifier.score(X[1::2], y[1::2]) > 0.9
        True

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 6.
    """

    _fitted: list[tuple[Array, Model]]

    def __init__(
        self,
        *,
        backends: tuple[Any, ...] = ("gm", "kde"),
        gammas: tuple[float, ...] = (0.5, 1.0),
        Cs: tuple[float, ...] = CS,
        learning_rates: tuple[float, ...] | None = None,
        schemes: tuple[Scheme, ...] = ("none", "mixup", "genlabel", "density"),
        cv: Any = 5,
        n_repeats: int | Literal["auto"] = "auto",
        max_rows: int = 5000,
        scoring: str = "neg_log_loss",
        selection: Selection | None = None,
        keep_clean: bool = False,
        alpha: float = 1.0,
        mix: Literal["mixup", "column_cutmix"] = "mixup",
        head: Literal["logistic", "mlp"] = "logistic",
        heads: tuple[Literal["logistic", "mlp"], ...] | None = None,
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        standardize: bool | Literal["auto"] = "auto",
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
        verbose: bool = False,
    ) -> None:
        self.backends = backends
        self.gammas = gammas
        self.Cs = Cs
        self.learning_rates = learning_rates
        self.schemes = schemes
        self.cv = cv
        self.n_repeats = n_repeats
        self.max_rows = max_rows
        self.scoring = scoring
        self.selection = selection
        self.keep_clean = keep_clean
        self.alpha = alpha
        self.mix = mix
        self.head = head
        self.heads = heads
        self.hidden_layer_sizes = hidden_layer_sizes
        self.standardize = standardize
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
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Cross-validate on rows `(N, D)` of classes `(N,)` and fit the chosen candidates to all of them.

        Held-out rows count by `sample_weight`, `(N,)`, too. A splitter such as `GroupKFold` holds out the rows of a
        group, `(N,)`, together.
        """
        options = self._options()
        if self.n_repeats != "auto" and not (isinstance(self.n_repeats, Integral) and self.n_repeats > 0):
            raise ValueError(f"n_repeats must be 'auto' or a positive whole number, got {self.n_repeats!r}")
        if groups is not None and self._n_folds() is not None:
            raise ValueError(f"groups need a splitter that keeps them together, such as GroupKFold, got cv={self.cv!r}")
        check_positive("max_rows", self.max_rows, whole=True)
        check_scoring(self.scoring)
        selection = self.selection or ("stack" if self.scoring == "neg_log_loss" else "average")
        check_selection(selection)
        candidates = self._candidates()
        problem = self._problem(X, y, sample_weight)
        if hasattr(self, "_fitted"):
            del self._fitted  # should this fit fail, nothing answers for it
        with said_later():
            cv = self._cross_validate(problem, candidates, options, groups)
        weight = select(cv, self.scoring, selection)
        self.n_splits_ = len(cv.accuracy)
        self.cv_results_ = cv_results(cv, self.scoring, weight)
        self.best_index_ = int(self.cv_results_["weight"].argmax())
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        chosen = weight.nonzero().squeeze(1).tolist()
        self.members_ = [(self.cv_results_["params"][m], float(weight[m])) for m in chosen]
        self._fitted = self._fit_members(problem, {candidates[m]: float(weight[m]) for m in chosen}, options)
        return self

    def _cross_validate(
        self, problem: Problem, candidates: list[Candidate], options: TrainingOptions, groups: Any
    ) -> CrossValidation:
        """Compare the candidates, on a sample of many rows."""
        used = self._used(problem)
        n_rows = len(used.x) if used.weight is None else count_rows(used.weight)
        return cross_validate(
            used.x,
            used.target,
            candidates,
            n_folds=self._n_folds() or 0,
            n_repeats=repeats_for(n_rows) if self.n_repeats == "auto" else self.n_repeats,
            splits=self._splits(problem, groups),
            weight=used.weight,
            class_weight=problem.class_weight,
            n_classes=len(self.classes_),
            options=options,
            scorers=make_scorers(self.scoring, self.classes_, is_weighted=problem.weight is not None),
            standardize=problem.standardize,
            seed=problem.seed,
            verbose=self.verbose,
        )

    def _candidates(self) -> list[Candidate]:
        """What competes: every combination for each head, densities alone once."""
        heads, found = self._heads(), []
        for head in heads:
            rates = LEARNING_RATES if head == "mlp" and self.learning_rates is None else self.learning_rates
            schemes = self.schemes
            if head != heads[0]:
                schemes = tuple(scheme for scheme in schemes if scheme != "density")
            if head != heads[0] and not schemes:
                continue
            found += candidate_grid(
                schemes=schemes,
                backends=self.backends,
                gammas=self.gammas,
                Cs=self.Cs,
                learning_rates=rates if head == "mlp" or len(heads) == 1 else None,
                keep_clean=self.keep_clean,
            )
        return found

    def _heads(self) -> tuple[str, ...]:
        if self.heads is None:
            return super()._heads()
        if not isinstance(self.heads, list | tuple) or not self.heads:
            raise ValueError(f"heads must be None or several of {HEADS}, got {self.heads!r}")
        return tuple(dict.fromkeys(self.heads))

    def _used(self, problem: Problem) -> Problem:
        """The rows that candidates are compared on: all, or a sample in which each class keeps its share."""
        if len(problem.x) <= self.max_rows or self._n_folds() is None:
            return problem
        x, target, weight = arrange(problem.x, problem.target, problem.weight)
        kept, _ = hold_out(target, 1 - self.max_rows / len(x), torch.Generator().manual_seed(problem.seed))
        rows = kept.sort().values
        return problem._replace(x=x[rows], target=target[rows], weight=None if weight is None else weight[rows])

    def _n_folds(self) -> int | None:
        """Number of folds, if `cv` is one."""
        return 5 if self.cv is None else int(self.cv) if isinstance(self.cv, Integral) else None

    def _splits(self, problem: Problem, groups: Any) -> list[Split] | None:
        if self._n_folds() is not None:
            return None
        target = problem.target.numpy(force=True)
        return list(check_cv(self.cv, target, classifier=True).split(target, target, groups))

    def _fit_members(
        self, problem: Problem, weights: dict[Candidate, float], options: TrainingOptions
    ) -> list[tuple[Array, Model]]:
        models: list[tuple[Array, Model]] = []
        trained = [candidate for candidate in weights if candidate.kind == "trained"]
        if trained:
            both = self._table(problem, list(weights), options, stops=True)
            seed = problem.seed
            fitted = fit_networks([both], trained, len(self.classes_), options, None, seed=seed, verbose=self.verbose)
            stored = Networks.of([fitted.network(0, m) for m in range(len(trained))], both[0])
            models.append((np.array([weights[candidate] for candidate in trained]), stored))
        others = [candidate for candidate in weights if candidate.kind != "trained"]
        table, _ = self._table(problem, list(weights), options)
        networks, densities = self._fit_at_once(problem, table, others, options)
        if networks is not None:
            models.append((np.array([weights[c] for c in others if c.kind == "solved"]), networks))
        shares = [np.array([weights[c]]) for c in others if c.kind == "density"]
        return [*models, *zip(shares, densities, strict=True)]

    def _models(self) -> list[tuple[Array, Model]]:
        return self._fitted
