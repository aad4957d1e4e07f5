"""What models say of rows that they have not seen, and how good that is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from genlabel_plugins.selection import Candidate, cross_validate, select
from genlabel_plugins.selection.choice import CrossValidation
from genlabel_plugins.selection.search import Split

CLASS_SHARES, LOGISTIC, FOREST, SEARCH = (
    "the largest class",
    "logistic regression",
    "random forest",
    "GenLabelClassifierCV",
)
LEAST = torch.finfo(torch.float32).eps  # probability that a true class is taken to have at least


def candidate_probabilities(
    x: Tensor, target: Tensor, split: Split, candidates: Sequence[Candidate], *, n_classes: int, seed: int
) -> Tensor:
    """Probabilities of the held-out rows by candidates, those without a penalty first, `(B, C, M)`."""
    kept: list[Tensor] = []

    def keep(probabilities: Tensor, target: Tensor, weight: Tensor) -> float:
        kept.append(probabilities.float())
        return 0.0

    cross_validate(x, target, candidates, splits=[split], n_classes=n_classes, seed=seed, scorers={"kept": keep})
    return torch.stack(kept, -1)


def yardsticks(seed: int) -> dict[str, Callable[[], object]]:
    """Classifiers of scikit-learn at their defaults, by name."""
    return {
        LOGISTIC: lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        FOREST: lambda: RandomForestClassifier(random_state=seed),
    }


def sklearn_probabilities(
    make: Callable[[], object], x: Tensor, target: Tensor, split: Split, n_classes: int
) -> Tensor:
    """Probabilities of held-out rows by a classifier of scikit-learn, `(B, C)`; zero of classes it does not know."""
    train, test = split
    classifier = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a yardstick at its defaults may stop short
        classifier.fit(x[train].numpy(), target[train].numpy())  # type: ignore[attr-defined]
    found = classifier.predict_proba(x[test].numpy())  # type: ignore[attr-defined]
    probabilities = np.zeros((len(test), n_classes), dtype=np.float32)
    probabilities[:, classifier.classes_] = found  # type: ignore[attr-defined]
    return torch.from_numpy(probabilities)


def class_shares(target: Tensor, split: Split, n_classes: int) -> Tensor:
    """The shares of the classes among the training rows, for every held-out row, `(B, C)`."""
    train, test = split
    share = torch.bincount(target[train], minlength=n_classes).float() / len(train)
    return share.expand(len(test), -1)


def stacked_probabilities(
    probabilities: Sequence[Tensor], targets: Sequence[Tensor], candidates: Sequence[Candidate]
) -> list[Tensor]:
    """Averages of candidates, weighted as `GenLabelClassifierCV` does; each split's weights are those of the others.

    Args:
        probabilities: Of the held-out rows of each split, shapes `(B, C, M)`.
        targets: Their classes, shapes `(B,)`.
        candidates: The M candidates.

    Returns:
        Probabilities of each split, shapes `(B, C)`.
    """
    known = [likelihood(p, target).log() for p, target in zip(probabilities, targets, strict=True)]
    stacked = []
    for split, own in enumerate(probabilities):
        others = [each for place, each in enumerate(known) if place != split]
        log_likelihood = torch.cat(others).double()
        log_loss = torch.stack([-each.double().mean(0) for each in others])
        cv = CrossValidation(
            list(candidates),
            accuracy=torch.zeros_like(log_loss),
            log_loss=log_loss,
            n_folds=len(others),
            n_rows=len(log_likelihood),
            log_likelihood=log_likelihood,
            weight=torch.ones(len(log_likelihood), dtype=torch.float64),
        )
        stacked.append(own @ select(cv, "neg_log_loss", "stack").to(own))
    return stacked


def likelihood(probabilities: Tensor, target: Tensor) -> Tensor:
    """Probability of the true class, `(B, C, M), (B,) -> (B, M)`; never below the rounding of float32."""
    taken = probabilities.gather(1, target[:, None, None].expand(-1, 1, probabilities.shape[2])).squeeze(1)
    return taken.clamp(min=LEAST)


def scores(probabilities: Tensor, target: Tensor) -> Tensor:
    """Accuracy, balanced accuracy and log-loss of M models, `(B, C, M), (B,) -> (3, M)`.

    Example:
        >>> sure = torch.tensor([[0.9, 0.1]]).expand(4, 2)[..., None]
        >>> scores(sure, torch.tensor([0, 0, 0, 1]))[:, 0]
        tensor([0.7500, 0.5000, 0.6547], dtype=torch.float64)
    """
    hit = (probabilities.argmax(1) == target[:, None]).double()
    recalls = torch.stack([hit[target == c].mean(0) for c in target.unique()])
    log_loss = -likelihood(probabilities, target).double().log().mean(0)
    return torch.stack([hit.mean(0), recalls.mean(0), log_loss])
