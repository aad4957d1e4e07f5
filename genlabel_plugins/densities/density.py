"""Density: what every backend is, a module that learns log p_c(x) for all classes at once."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import LearntState, accumulator, as_rows, check_fit_inputs, no_gradient, not_fitted
from genlabel_plugins.densities.parents import Parents


class Density(LearntState):
    r"""Class-conditional log-densities :math:`\log p_c(x)`.

    A subclass names its learnt buffers with `_declare`, fills them in `_fit` and reads them in `_log_prob`.
    What all backends share lives here: rows are checked and flattened, centered on the mean of the training
    rows (products of raw values far from zero lose hundreds of times the precision), classes without a row
    are set aside, and no autocast or autograd reaches a log-density.

    Three class attributes are claims, to which `genlabel_plugins.testing` holds a backend; one that cannot keep
    a claim sets it to False. A regime of untidy rows that it does not stand is named in a fourth.

    Attributes:
        normalized: Each density integrates to one.
        exact: `fit` has one answer, whatever the order of rows and classes; False where training draws batches.
        compilable: `log_prob` is one graph for `torch.compile(fullgraph=True)`.
        declines: Regimes of `genlabel_plugins.testing`: `"row_order_of_ties"`, `"far_class"`, `"sentinel"`,
            `"one_more_row"`, `"twins"`.
        offset_: Mean of the training rows, shape `(D,)`; its dtype is the dtype of all log-densities.
        class_count_: Training rows per class, shape `(C,)`.
        present_: Indices of the classes that have rows, shape `(K,)`; the others have density zero.
    """

    normalized: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    compilable: ClassVar[bool] = True
    declines: ClassVar[frozenset[str]] = frozenset()

    offset_: Tensor
    class_count_: Tensor
    present_: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._declare("offset_", "class_count_", "present_")

    def fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn the densities; fitting twice equals fitting once.

        Args:
            x: Inputs, shape `(N, *)`; learnt state is float64 for float64 inputs and for integers that float32 cannot
                hold, else float32.
            target: Class indices, shape `(N,)`.
            n_classes: Number of classes C; by default the largest index plus one.
            generator: Source of randomness on the CPU; by default a fresh one, seeded with 0.

        Raises:
            ValueError: On shapes, dtypes or values that no density can be fitted to.
        """
        x, target, n_classes = check_fit_inputs(x, target, n_classes)
        count = torch.bincount(target, minlength=n_classes)
        self.offset_ = self._origin(x)
        self.class_count_ = count
        self.present_ = count.nonzero().squeeze(1)
        compact = ((count > 0).cumsum(0) - 1)[target]  # 0..K-1, every class with rows
        try:
            with torch.no_grad(), full_precision(x):
                self._fit(x - self.offset_, compact, generator or torch.Generator().manual_seed(0))
        except BaseException:
            self.offset_ = None  # type: ignore[assignment]  # half a fit is no fit
            raise
        return self.to(device=x.device, dtype=x.dtype).requires_grad_(False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, shape `(B, *) -> (B, C)`; minus infinity for a class without rows.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If the rows have another number of features than the training rows.
        """
        rows = self._rows(x)
        if not len(rows):
            return rows.new_empty(0, len(self.class_count_))
        with no_gradient(), full_precision(x):
            return self._of_all_classes(self._log_prob(rows))

    @property
    def leaves_parents_out(self) -> bool:
        """Whether `log_prob_without` can be had."""
        return False

    def log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        """Log-densities of all classes as if fitted without the parents of each row, `(B, *) -> (B, C)`.

        What is chosen by all rows together stays: the units in which distances are measured, bandwidths, weights of
        shrinkage. A class keeps the parents if it has no other rows.

        Raises:
            ValueError: If the density cannot leave single rows out, or parents are not those of the rows.
        """
        if not self.leaves_parents_out:
            raise ValueError(
                f"{type(self).__name__} cannot leave single rows out: cross_fit=5 leaves out whole folds of any density"
            )
        rows, x_i, x_j = (self._rows(part) for part in (x, parents.x_i, parents.x_j))
        parents.check(len(rows))
        if not len(rows):
            return rows.new_empty(0, len(self.class_count_))
        target_i, target_j = parents.target_i, parents.target_j
        if len(self.present_) < len(self.class_count_):
            compact = ((self.class_count_ > 0).cumsum(0) - 1).clamp(min=0)
            target_i, target_j = compact[target_i], torch.where(target_j < 0, -1, compact[target_j])
        known = Parents(x_i, target_i, x_j, target_j)
        with no_gradient(), full_precision(x):
            return self._of_all_classes(self._log_prob_without(rows, known))

    def _of_all_classes(self, log_prob: Tensor) -> Tensor:
        """Log-densities of the classes with rows, `(B, K)`, beside those that are minus infinity, `(B, C)`."""
        present, n_classes = self.present_, len(self.class_count_)
        if len(present) == n_classes:
            return log_prob
        absent = log_prob.new_full((len(log_prob), n_classes), -torch.inf)
        return absent.index_copy(1, present, log_prob)

    def _rows(self, x: Tensor) -> Tensor:
        """Centered rows in the precision of the densities, `(B, *) -> (B, D)`."""
        offset = self.offset_  # a buffer costs a microsecond each time it is looked up
        if offset is None:
            self.check_fitted()  # which may fit to what was learnt part by part
            offset = self.offset_
        x = as_rows(x)
        if x.shape[1] != len(offset):
            raise ValueError(f"x must have the {len(offset)} features seen in fit, got {x.shape[1]}")
        centered = (x.detach() if x.requires_grad else x) - offset
        return centered if centered.dtype == offset.dtype else centered.to(offset.dtype)

    def _origin(self, x: Tensor) -> Tensor:
        """Point on which rows are centered, `(N, D) -> (D,)`."""
        return x.mean(0, dtype=accumulator(x)).to(x.dtype)

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        """Learn from centered rows `(N, D)` and compact targets `(N,)`, where every class has a row."""
        raise NotImplementedError(f"{type(self).__name__} must define _fit")

    def _log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of the classes with rows at centered rows, `(B, D) -> (B, K)`."""
        raise NotImplementedError(f"{type(self).__name__} must define _log_prob")

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        """`_log_prob` without the parents of each row, which are centered rows of compact targets."""
        raise NotImplementedError(f"{type(self).__name__} must define _log_prob_without")

    @property
    def n_classes(self) -> int:
        """Number of classes C, with or without rows."""
        self.check_fitted()
        return len(self.class_count_)

    def check_fitted(self) -> None:
        """Raise `NotFittedError` before `fit`."""
        if self.offset_ is None:
            raise not_fitted(f"{type(self).__name__} is not fitted: call fit(x, target) first")
