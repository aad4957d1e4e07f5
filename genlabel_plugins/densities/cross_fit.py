"""CrossFit: many fits of one density, so that each mixed row is judged by one that saw neither of its parents."""

from __future__ import annotations

import copy
from itertools import combinations_with_replacement
from typing import Any, Self

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number
from genlabel_plugins._state import LearntState, check_fit_inputs, not_fitted
from genlabel_plugins.densities._temperature import tone_down
from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.parents import Parents, RowPlaces
from genlabel_plugins.densities.registry import make_backend

MAX_FOLDS = 50  # 1,275 copies


class CrossFit(LearntState):
    """Any density, a teacher or a backend of your own, without the folds of a row's parents.

    Training rows are dealt to `n_folds` folds, class by class, equal ones to the same. One copy of the density is
    fitted without each pair of folds, and without each fold alone: `n_folds * (n_folds + 1) / 2` copies, and one to all
    rows. A mixed row is scored by the copy that saw neither of its parents' folds. Parents are recognized by their
    values: rows that were changed since, as by a random augmentation, are not, and a row both of whose parents are
    unknown is scored by the copy of all rows, as is a row without parents.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`, of which copies are fitted.
        n_folds: Number of folds F, 3 to 50; there are F (F + 1) / 2 copies, one for each pair of folds.
        **params: Parameters that go with the backend's name.

    Attributes:
        density: The copy that is fitted to all rows.
        class_count_: Training rows per class, shape `(C,)`.

    Raises:
        ValueError: On fewer than 3 folds, more than 50, another `CrossFit`, or a classifier that came fitted and
            has seen all rows.

    Example:
        >>> from sklearn.tree import DecisionTreeClassifier
        >>> from genlabel_plugins import FromClassifier
        >>> x, target = torch.arange(12.0)[:, None], torch.arange(12) % 2  # noise, which a tree remembers
        >>> teacher = CrossFit(FromClassifier(DecisionTreeClassifier()), n_folds=3).fit(x, target)
        >>> parents = Parents.in_batch(x, target, torch.arange(12))  # each row its own
        >>> (teacher.log_prob(x).argmax(1) == target).float().mean().item()
        1.0
        >>> (teacher.log_prob_without(x, parents).argmax(1) == target).float().mean().item() < 0.7
        True

    Reference:
        Chernozhukov et al., Double/debiased machine learning for treatment and structural parameters, 2018.
    """

    leaves_parents_out = True

    class_count_: Tensor
    model_of_: Tensor  # (F+1, F+1), which model saw neither fold; the last stands for a row that none saw

    def __init__(self, backend: Any, *, n_folds: int = 5, **params: Any) -> None:
        super().__init__()
        check_number("n_folds", n_folds, 3, MAX_FOLDS, whole=True)
        self.density = make_backend(backend, **params)
        if isinstance(self.density, CrossFit):
            raise ValueError(f"cross_fit goes with a backend that is no CrossFit yet, got {n_folds} folds beside one")
        if getattr(self.density, "classifier_", None) is not None:
            raise ValueError(
                f"cross_fit fits copies, got {self.density.classifier_!r}, which is fitted: pass it unfitted"
            )
        self.n_folds = n_folds
        self.pairs = list(combinations_with_replacement(range(n_folds), 2))
        copies = [copy.deepcopy(self.density) for _ in self.pairs]
        self.copies: Any = nn.ModuleList(copies) if isinstance(self.density, nn.Module) else copies
        self.places = RowPlaces()
        self._declare("class_count_", "model_of_")

    def fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Fit all copies to rows `(N, *)` of classes `(N,)`; see `Density.fit`."""
        rows, target, _ = check_fit_inputs(x, target, n_classes)
        self.class_count_ = torch.bincount(target, minlength=n_classes or 0)
        generator = generator or torch.Generator().manual_seed(0)
        fold = self._deal(rows, target, generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        self.places.remember(rows, target, fold)
        self._fit_one(self.density, x, target, n_classes, seed)
        model_of = fold.new_full((self.n_folds + 1, self.n_folds + 1), len(self.pairs))
        for number, (a, b) in enumerate(self.pairs):
            seen = (fold != a) & (fold != b)
            lacking = torch.bincount(target[seen], minlength=len(self.class_count_)) == 0
            seen |= lacking[target]  # a class keeps its rows if it would lose all of them
            self._fit_one(self.copies[number], x[seen], target[seen], n_classes, seed)
            model_of[a, b] = model_of[b, a] = number
        self.model_of_ = model_of
        self.model_of_[: self.n_folds, -1] = self.model_of_[-1, : self.n_folds] = model_of.diagonal()[: self.n_folds]
        return self

    @property
    def keeps_state(self) -> bool:
        """Whether a state dict holds all that was learnt."""
        return isinstance(self.density, nn.Module) and bool(getattr(self.density, "keeps_state", True))

    @property
    def n_classes(self) -> int:
        """Number of classes C, with or without rows."""
        self._check_fitted()
        return len(self.class_count_)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes by the copy that is fitted to all rows, `(B, *) -> (B, C)`."""
        self._check_fitted()
        return _toned(self.density, x)

    @torch.no_grad()
    def log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        """Log-densities by copies that saw neither parent's fold, `(B, *) -> (B, C)`."""
        self._check_fitted()
        parents.check(len(x))
        fold_i, fold_j = (self.places.find(*part) for part in (parents[:2], parents[2:]))
        asked = self.model_of_[fold_i, fold_j]  # -1 is the last
        found: Tensor | None = None
        for number, model in enumerate([*self.copies, self.density]):
            own = asked == number
            if x.device.type == "cpu":  # elsewhere, to count them would wait for the device
                rows = own.nonzero().squeeze(1)
                if len(rows):
                    part = _toned(model, x[rows])
                    found = part.new_empty(len(x), part.shape[1]) if found is None else found
                    found[rows] = part
            else:
                part = _toned(model, x)
                found = part if found is None else torch.where(own[:, None], part, found)
        return self.log_prob(x) if found is None else found

    def _check_fitted(self) -> None:
        if self.model_of_ is None:
            raise not_fitted("CrossFit is not fitted: call fit(x, target) first")

    def _deal(self, rows: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Fold of each row, `(N, D), (N,) -> (N,)`: within each class in turn, equal rows together."""
        distinct, group = torch.cat([target[:, None].to(rows), rows], 1).unique(dim=0, return_inverse=True)
        label = distinct[:, 0].long()
        order = torch.randperm(len(distinct), generator=generator).to(target.device)
        order = order[label[order].argsort(stable=True)]
        turn = torch.arange(len(order), device=target.device) % self.n_folds
        return torch.empty_like(order).scatter_(0, order, turn)[group]

    def _fit_one(self, model: Any, x: Tensor, target: Tensor, n_classes: int | None, seed: int) -> None:
        options: dict[str, Any] = {} if n_classes is None else {"n_classes": n_classes}
        if isinstance(model, Density):
            options["generator"] = torch.Generator().manual_seed(seed)
        model.fit(x, target, **options)


def _toned(model: Any, x: Tensor) -> Tensor:
    log_prob: Tensor = model.log_prob(x)
    temperature = getattr(model, "temperature_", None)
    return log_prob if temperature is None else tone_down(log_prob, temperature)
