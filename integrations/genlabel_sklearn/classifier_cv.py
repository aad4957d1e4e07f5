"""GenLabelClassifierCV: whether to mix, how to label and how fast to learn, chosen by cross-validation."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from sklearn.model_selection import check_cv
from torch import Tensor

from genlabel_plugins.selection import Candidate, Scheme, Selection, candidate_grid, cross_validate, select
from genlabel_plugins.selection._mixed_batches import fit_relabelers
from genlabel_plugins.selection._stacked_training import TrainingOptions, train_stacked
from genlabel_plugins.selection._table import Table, count_rows
from genlabel_plugins.selection.search import CrossValidation, Split, check_selection, repeats_for
from genlabel_sklearn.base import NetworkClassifier, Problem
from genlabel_sklearn.members import Array, GenerativeClassifier, Network


class GenLabelClassifierCV(NetworkClassifier):
    r"""Cross-validate no mixing, mixup, GenLabel and the generative classifier, and fit what does best.

    All candidates of all folds are trained as one tensor program: a hundred of them cost little more than one. Weights,
    the order of rows and standardisation are those of `GenLabelClassifier`.

    The defaults combine candidates. The paper's GenLabel (CV) is `schemes=("mixup", "genlabel")`, `keep_clean=False`,
    `n_repeats=1`, `selection="best"`.

    Args:
        backends: Densities to choose from, registered names or objects with `fit` and `log_prob`.
        gammas: Trusts in the posterior to choose from.
        learning_rates: Step sizes of Adam to choose from.
        schemes: What competes, the simpler first: `"vanilla"` (no mixing), `"mixup"`, `"genlabel"`, `"generative"`
            (the posterior itself is the classifier), `"logistic"` or `"nearest"` (other labels of mixed rows).
        cv: Number of stratified folds, None for 5, a splitter, or pairs of row indices.
        n_repeats: Repetitions of the folds, where `cv` is a number or None; `"auto"` takes as many as hold out 3,000
            rows in all, at most 10.
        scoring: `"accuracy"` or `"neg_log_loss"`.
        selection: `"average"` weighs candidates by how well they score, `"best"` takes the best, of equals the
            simplest, and `"one_standard_error"` the simplest within one standard error of the best.
        keep_clean: Average the loss on mixed rows with the loss on clean ones.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        mix: `"mixup"` or `"column_cutmix"`.
        head: `"logistic"` or `"mlp"`.
        hidden_layer_sizes: Widths of the hidden layers of `"mlp"`.
        weight_decay: Weight of the squared parameters in the loss.
        batch_size: Rows in a batch at most.
        max_epochs: Passes over the rows.
        priors: `"uniform"` (the paper), `"empirical"` or one number per class, for GenLabel's posterior.
        class_weight: None, `"balanced"` or a dict: how often training visits each class relative to its rows.
        random_state: Seed, or a `RandomState`.
        device: Device of the training, such as `"cuda"`; None is the CPU.
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        cv_results_: Dict of arrays, as `GridSearchCV` has it, with `standard_error_test_score` and the `weight` of
            each candidate in the classifier, and without times: all are trained together.
        best_params_: Parameters of the candidate of the greatest weight, by `"average"` and `"best"` the one of the
            highest score; of equals, the simplest.
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

    def __init__(
        self,
        *,
        backends: tuple[Any, ...] = ("gm", "kde"),
        gammas: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0),
        learning_rates: tuple[float, ...] = (0.1, 0.01, 0.001, 0.0001),
        schemes: tuple[Scheme, ...] = ("vanilla", "mixup", "genlabel", "generative"),
        cv: Any = 5,
        n_repeats: int | Literal["auto"] = "auto",
        scoring: Literal["accuracy", "neg_log_loss"] = "accuracy",
        selection: Selection = "average",
        keep_clean: bool = True,
        alpha: float = 1.0,
        mix: Literal["mixup", "column_cutmix"] = "mixup",
        head: Literal["logistic", "mlp"] = "logistic",
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        max_epochs: int = 100,
        priors: Any = "uniform",
        class_weight: Any = None,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.backends = backends
        self.gammas = gammas
        self.learning_rates = learning_rates
        self.schemes = schemes
        self.cv = cv
        self.n_repeats = n_repeats
        self.scoring = scoring
        self.selection = selection
        self.keep_clean = keep_clean
        self.alpha = alpha
        self.mix = mix
        self.head = head
        self.hidden_layer_sizes = hidden_layer_sizes
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.priors = priors
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Cross-validate on rows `(N, D)` of classes `(N,)` and fit the chosen candidates to all of them.

        Held-out rows count by `sample_weight`, `(N,)`, too.
        """
        options = self._options()
        if self.n_repeats != "auto" and not (isinstance(self.n_repeats, Integral) and self.n_repeats > 0):
            raise ValueError(f"n_repeats must be 'auto' or a positive whole number, got {self.n_repeats!r}")
        check_selection(self.scoring, self.selection)
        candidates = candidate_grid(
            schemes=self.schemes,
            backends=self.backends,
            gammas=self.gammas,
            learning_rates=self.learning_rates,
            keep_clean=bool(self.keep_clean),
        )
        problem = self._problem(X, y, sample_weight)
        n_rows = len(problem.x) if problem.weight is None else count_rows(problem.weight)
        cv = cross_validate(
            problem.x,
            problem.target,
            candidates,
            n_folds=self._n_folds() or 0,
            n_repeats=repeats_for(n_rows) if self.n_repeats == "auto" else self.n_repeats,
            splits=self._splits(problem),
            weight=problem.weight,
            class_weight=problem.class_weight,
            n_classes=len(self.classes_),
            options=options,
            seed=problem.seed,
            verbose=bool(self.verbose),
        )
        weight = select(cv, self.scoring, self.selection)
        self.n_splits_ = len(cv.accuracy)
        self.cv_results_ = cv_results(cv, self.scoring, weight)
        self.best_index_ = int(self.cv_results_["weight"].argmax())
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        chosen = weight.nonzero().squeeze(1).tolist()
        self.members_ = [(self.cv_results_["params"][m], float(weight[m])) for m in chosen]
        self._fitted = self._fit_members(problem, [candidates[m] for m in chosen], options)
        return self

    def _n_folds(self) -> int | None:
        """Number of folds, if `cv` is one."""
        return 5 if self.cv is None else int(self.cv) if isinstance(self.cv, Integral) else None

    def _splits(self, problem: Problem) -> list[Split] | None:
        if self._n_folds() is not None:
            return None
        target = problem.target.numpy(force=True)
        return list(check_cv(self.cv, target, classifier=True).split(target, target))

    def _fit_members(
        self, problem: Problem, chosen: list[Candidate], options: TrainingOptions
    ) -> list[Network | GenerativeClassifier]:
        table = Table.of(problem.x, problem.target, problem.weight, problem.class_weight)
        n_classes = len(self.classes_)
        trained = [candidate for candidate in chosen if candidate.is_trained]
        generative = [candidate for candidate in chosen if not candidate.is_trained]
        members: dict[Candidate, Network | GenerativeClassifier] = {}
        if trained:
            networks = train_stacked([table], trained, n_classes, options, seed=problem.seed)
            members |= {candidate: Network.of(*networks.network(0, m), table) for m, candidate in enumerate(trained)}
        backends = (candidate.backend for candidate in generative)
        relabelers = fit_relabelers(table, backends, n_classes, table.class_share(n_classes), problem.seed)
        for candidate in generative:
            members[candidate] = GenerativeClassifier(candidate.backend, relabelers[candidate.backend], table)
        return [members[candidate] for candidate in chosen]

    def _probability(self, X: Array) -> Array:
        weights = [weight for _, weight in self.members_]
        parts = [weight * member.predict_proba(X) for weight, member in zip(weights, self._fitted, strict=True)]
        total: Array = np.sum(parts, axis=0)
        return total


def cv_results(cv: CrossValidation, scoring: str, weight: Tensor) -> dict[str, Any]:
    """Results in the form of `GridSearchCV`, one entry a candidate."""
    params = [_params(candidate) for candidate in cv.candidates]
    score = cv.score(scoring).numpy()
    mean = cv.mean(scoring).numpy()
    results: dict[str, Any] = {"params": params}
    for name in params[0]:
        column = np.empty(len(params), dtype=object)
        column[:] = [entry[name] for entry in params]
        results[f"param_{name}"] = np.ma.masked_array(column, mask=[value is None for value in column])
    for place, split in enumerate(score):
        results[f"split{place}_test_score"] = split
    results["mean_test_score"] = mean
    results["std_test_score"] = score.std(0)
    results["standard_error_test_score"] = cv.standard_error(scoring).numpy()
    results["rank_test_score"] = 1 + np.array([(mean > own).sum() for own in mean])
    results["weight"] = weight.numpy()
    return results


def _params(candidate: Candidate) -> dict[str, Any]:
    """Parameters that tell a candidate from the others; None where it has none."""
    return {
        "scheme": candidate.scheme,
        "backend": candidate.backend,
        "gamma": candidate.gamma if candidate.scheme == "genlabel" else None,
        "learning_rate": candidate.learning_rate if candidate.is_trained else None,
    }
