"""FromClassifier: the posterior of a classifier takes the place of class densities."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genlabel_plugins._state import LearntState, as_rows, check_fit_inputs, floating, not_fitted


class FromClassifier(LearntState):
    r"""A teacher's posterior as densities up to a constant: :math:`\log p_c(x) = \log P(c \mid x) + \text{const}`.

    Under uniform priors `GenLabel` then relabels with exactly the teacher's posterior; the priors that the
    teacher learnt are in it already. No density is claimed: the constant differs from row to row.

    A fitted classifier serves at once and is never fitted again (so its held-out accuracy is that on rows which
    it has not seen, `n_folds=None`); `fit` then only counts classes. An unfitted scikit-learn classifier is copied
    and fitted by `fit`. A torch classifier returns logits, counts as fitted and stays in eval mode.

    Classes of a fitted scikit-learn classifier that are class indices stand for these; others (text, truth values,
    -1 and 1) are counted in its own order, which is the sorted one.

    Args:
        classifier: A scikit-learn classifier with `predict_proba`, or a torch module from inputs to logits.

    Raises:
        TypeError: If the classifier is neither.
        ValueError: In `fit`, or on the first batch, if its classes are neither indices nor as many as the targets'.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> teacher = FromClassifier(LogisticRegression()).fit(x, torch.tensor([0, 0, 1, 1]))
        >>> teacher.log_prob(torch.tensor([[1.5]])).exp()
        tensor([[0.5000, 0.5000]])
    """

    class_count_: Tensor | None

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        if not isinstance(classifier, nn.Module) and not hasattr(classifier, "predict_proba"):
            raise TypeError(f"classifier must be a torch module or have predict_proba, got {classifier!r}")
        self.classifier = classifier
        self.classifier_: Any = classifier if _is_fitted(classifier) else None
        self._declare("class_count_")
        self.eval()

    def fit(self, x: Tensor, target: Tensor, *, n_classes: int | None = None, generator: Any = None) -> Self:
        """Count the classes of rows `(N, *)` with targets `(N,)`, and fit the classifier unless it came fitted."""
        rows, target, n_classes = check_fit_inputs(x, target, n_classes)
        self.class_count_ = torch.bincount(target, minlength=n_classes)
        if not _is_fitted(self.classifier):
            from sklearn.base import clone  # noqa: PLC0415 - it takes longer to import than torch

            self.classifier_ = clone(self.classifier)
            if generator is not None and "random_state" in self.classifier_.get_params():
                self.classifier_.set_params(random_state=int(torch.randint(2**31, (), generator=generator)))
            self.classifier_.fit(rows.cpu().numpy(), target.cpu().numpy())
        if not isinstance(self.classifier_, nn.Module):
            self._class_indices()
        return self

    @property
    def keeps_state(self) -> bool:
        """Whether a state dict holds all that was learnt; what a classifier of scikit-learn learns is in none."""
        return _is_fitted(self.classifier)

    @property
    def n_classes(self) -> int:
        """Number of classes C, counted by `fit` or known to a fitted scikit-learn classifier."""
        if self.class_count_ is not None:
            return len(self.class_count_)
        if not hasattr(self.classifier_, "classes_"):
            raise not_fitted("FromClassifier has counted no classes: call fit(x, target) first")
        classes = np.asarray(self.classifier_.classes_)
        return int(classes.max()) + 1 if _are_indices(classes) else len(classes)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-posterior of the classifier, `(B, *) -> (B, C)`; minus infinity for a class it never saw.

        Raises:
            NotFittedError: Before `fit`, if the classifier did not come fitted.
        """
        if self.classifier_ is None:
            raise not_fitted("FromClassifier holds an unfitted classifier: call fit(x, target) first")
        if isinstance(self.classifier_, nn.Module):
            parameter = next(self.classifier_.parameters(), None)
            if parameter is not None and x.is_floating_point():
                x = x.to(parameter.dtype)  # half precision has no place in a label, and autocast is off
            logits: Tensor = self.classifier_(x)
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        x = floating(as_rows(x))
        finite = torch.isfinite(x).all(1, keepdim=True)  # scikit-learn refuses NaN
        posterior = self.classifier_.predict_proba(x.masked_fill(~finite, 0.0).cpu().numpy())  # (B, K)
        log_prob = x.new_full((len(x), self.n_classes), -torch.inf)
        log_prob[:, self._class_indices().to(x.device)] = torch.as_tensor(posterior).to(x).log()
        return log_prob.masked_fill(~finite, torch.nan)

    def _class_indices(self) -> Tensor:
        """Index of each class of a scikit-learn classifier, shape `(K,)`."""
        classes, n_classes = self.classifier_.classes_, self.n_classes
        if not isinstance(classes, list):  # one array for each of several outputs
            if _are_indices(classes) and classes.max() < n_classes:
                return torch.as_tensor(classes.astype(np.int64))
            if len(classes) == n_classes:
                return torch.arange(n_classes)
        known = list(classes)
        raise ValueError(
            f"classifier must know classes among 0..{n_classes - 1}, or {n_classes} of another kind, got {known}"
        )

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a teacher drops nothing out and learns nothing."""
        return super().train(False)


def _are_indices(classes: NDArray[Any]) -> bool:
    return classes.dtype.kind in "iuf" and bool((classes >= 0).all() and (classes == classes.round()).all())


def _is_fitted(classifier: Any) -> bool:
    if isinstance(classifier, nn.Module):
        return True
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - it takes longer to import than torch
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    return True
