"""Class statistics that follow the features of a network in training (Algorithm 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch import distributed as dist

from genlabel_plugins._checks import check_number
from genlabel_plugins._state import LearntState, accumulator, as_rows, full_precision, not_fitted


class RunningGaussian(LearntState):
    r"""Spherical class Gaussians that follow the features of a network in training (Algorithm 3).

    For each class in a batch, :math:`\mu_c \leftarrow (1-\beta)\,\mu_\text{batch} + \beta\,\mu_c`, likewise the
    variance :math:`s_c = \frac1d \operatorname{trace} \operatorname{cov}`. A class absent from the batch keeps
    its estimate, and its first batch overwrites. The batch covariance has the divisor n - 1: with a few rows of
    each class in a batch the divisor n would shrink every variance. A class with one row moves its mean alone;
    until it has a variance of its own it borrows the mean variance of the others. A class never seen has
    density zero. Rows with NaN or infinity, as an overflow in half precision leaves them, are passed over. Under an
    initialized `torch.distributed`, batch moments are those of all ranks together.

    Args:
        n_classes: Number of classes C.
        beta: Memory ratio in [0, 1]; 0 remembers nothing.

    Raises:
        ValueError: If `beta` lies outside [0, 1].

    Example:
        >>> running = RunningGaussian(2, beta=0.9)
        >>> running.update(torch.tensor([[0.0], [2.0], [8.0], [10.0]]), torch.tensor([0, 0, 1, 1]))
        >>> running.mean_
        tensor([[1.],
                [9.]])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithm 3.
    """

    mean_: Tensor  # (C, D)
    variance_: Tensor  # (C,), NaN until a batch held two rows of the class
    class_count_: Tensor  # (C,), rows seen so far

    def __init__(self, n_classes: int, *, beta: float = 0.9) -> None:
        super().__init__()
        check_number("n_classes", n_classes, 1, whole=True)
        check_number("beta", beta, 0, 1)
        self.n_classes = n_classes
        self.beta = beta
        self._declare("mean_", "variance_", "class_count_")

    def fit(self, x: Tensor, target: Tensor, *, n_classes: int | None = None) -> Self:
        """Forget, then learn from these rows alone, `(N, *)` and `(N,)`.

        Raises:
            ValueError: If `n_classes` is given and is another number than the constructor's.
        """
        if n_classes not in (None, self.n_classes):
            raise ValueError(f"n_classes must be {self.n_classes}, as the statistics were made for, got {n_classes}")
        self.forget()
        self.update(x, target)
        return self

    def forget(self) -> None:
        """Start afresh, as if no batch had been seen."""
        self.mean_ = self.variance_ = self.class_count_ = None  # type: ignore[assignment]

    @torch.no_grad()
    def update(self, x: Tensor, target: Tensor) -> None:
        """Move the estimates towards the moments of a clean batch, `(B, *)` and `(B,)`, without a device sync.

        Raises:
            ValueError: If the rows have another number of features than those before.
        """
        x = as_rows(x)
        if self.mean_ is None:
            state = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
            self.mean_ = torch.zeros(self.n_classes, x.shape[1], **state)
            self.variance_ = torch.full((self.n_classes,), torch.nan, **state)
            self.class_count_ = torch.zeros(self.n_classes, dtype=torch.long, device=x.device)
        self._check_width(x)
        count, mean, variance = _batch_moments(x.to(accumulator(x)), target, self.n_classes)
        seen = self.class_count_[:, None] > 0
        known = torch.isfinite(self.variance_)
        moved_mean = torch.where(seen, mean.lerp(self.mean_.to(mean), self.beta), mean)
        moved_variance = torch.where(known, variance.lerp(self.variance_.to(variance), self.beta), variance)
        self.mean_.copy_(torch.where(count[:, None] > 0, moved_mean, self.mean_.to(mean)))
        self.variance_.copy_(torch.where(count > 1, moved_variance, self.variance_.to(variance)))
        self.class_count_ += count.long()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, `(B, *) -> (B, C)`; minus infinity for a class never seen.

        Raises:
            NotFittedError: Before the first `update`.
        """
        if self.mean_ is None:
            raise not_fitted("RunningGaussian has seen no batch: call update(x, target) first")
        with torch.no_grad(), full_precision(x):
            seen = self.class_count_ > 0
            typical = self.variance_.nanmean()
            variance = torch.where(torch.isfinite(self.variance_), self.variance_, typical)
            variance = variance.maximum(1e-6 * typical)  # (C,); features that collapsed have no spread at all
            center = (self.mean_ * seen[:, None]).sum(0) / seen.sum()
            x = as_rows(x)
            self._check_width(x)
            x = x.to(self.mean_.dtype) - center
            mean = self.mean_ - center
            square = torch.addmm(mean.square().sum(1), x, mean.T, alpha=-2) + x.square().sum(1, keepdim=True)
            log_norm = -0.5 * x.shape[1] * (2 * math.pi * variance).log()
            return torch.where(seen, log_norm - 0.5 * square.clamp(min=0) / variance, -torch.inf)

    def _check_width(self, x: Tensor) -> None:
        if x.shape[1] != self.mean_.shape[1]:
            raise ValueError(f"x must have the {self.mean_.shape[1]} features seen before, got {x.shape[1]}")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "mean_")
        if saved is not None:
            known = (self.n_classes, saved.shape[1] if self.mean_ is None else self.mean_.shape[1])
            for word, own, loaded in zip(("classes", "features"), known, saved.shape, strict=True):
                if own != loaded:
                    raise ValueError(f"the saved statistics are of {loaded} {word}, these of {own}")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _batch_moments(x: Tensor, target: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count `(C,)`, mean `(C, D)` and mean feature variance `(C,)` of each class over all ranks."""
    finite = torch.isfinite(x).all(1)  # one overflow in half precision would stay in a running mean for ever
    x = x.masked_fill(~finite[:, None], 0.0)
    count = x.new_zeros(n_classes).index_add_(0, target, finite.to(x.dtype))
    total = x.new_zeros(n_classes, x.shape[1]).index_add_(0, target, x)
    _all_reduce(count)
    _all_reduce(total)
    mean = total / count.clamp(min=1)[:, None]
    square = x.new_zeros(n_classes).index_add_(0, target, (x - mean[target]).square().mean(1) * finite)
    _all_reduce(square)
    return count, mean, square / (count - 1).clamp(min=1)


def _all_reduce(tensor: Tensor) -> None:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor)
