"""Class statistics that follow the features of a network in training (Algorithm 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch import distributed as dist

from genlabel_plugins._checks import check_number, check_target
from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import LearntState, accumulator, as_rows, check_fit_inputs, no_gradient, not_fitted
from genlabel_plugins.densities._moments import class_moments
from genlabel_plugins.densities._ranks import all_gather_states

ABSURD = 1000.0  # standard deviations from its class at which a row is no member of it, however heavy the tails
FEW = 10  # rows beyond one a class, with fewer than which a first batch says nothing of what is far: they may be equal


class RunningGaussian(LearntState):
    r"""Spherical class Gaussians that follow the features of a network in training (Algorithm 3).

    For each class in a batch, :math:`\mu_c \leftarrow (1-\beta)\,\mu_\text{batch} + \beta\,\mu_c`, likewise the
    variance :math:`s_c = \frac1d \operatorname{trace} \operatorname{cov}`. A class absent from the batch keeps
    its estimate, and its first batch overwrites. The batch covariance has the divisor n - 1: with a few rows of
    each class in a batch the divisor n would shrink every variance. A class with one row moves its mean alone;
    until it has a variance of its own it borrows the mean variance of the others. A class never seen has
    density zero. Under an initialized `torch.distributed`, batch moments are those of all ranks together.

    Rows with NaN or infinity, and rows more than `ABSURD` standard deviations from their class, as an overflow in half
    precision leaves both, are passed over and counted in `n_passed_over_`. Where most rows of a class are that far, it
    is the class that has moved: the batch overwrites. In the very first batch, a row is held against the spread of all
    others about their classes; of a class that turns up later, the first rows are taken as they are.

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
    n_passed_over_: Tensor  # (), rows of all ranks

    def __init__(self, n_classes: int, *, beta: float = 0.9) -> None:
        super().__init__()
        check_number("n_classes", n_classes, 1, whole=True)
        check_number("beta", beta, 0, 1)
        self.n_classes = n_classes
        self.beta = beta
        self._declare("mean_", "variance_", "class_count_")
        self.register_buffer("n_passed_over_", torch.zeros((), dtype=torch.long), persistent=False)

    def fit(self, x: Tensor, target: Tensor, *, n_classes: int | None = None) -> Self:
        """Forget, then learn from these rows alone, `(N, *)` and `(N,)`.

        Raises:
            ValueError: If `n_classes` is given and is another number than the constructor's.
        """
        self._check_classes(n_classes)
        self.forget()
        self.update(x, target)
        return self

    @torch.no_grad()
    def partial_fit(self, x: Tensor, target: Tensor, *, n_classes: int | None = None) -> Self:
        """Learn from more rows, `(N, *)` and `(N,)`, as if all came in one batch, whatever `beta` and the ranks.

        No row is passed over, and the statistics are float64: in parts of a long stream single precision would stand
        still.

        Raises:
            ValueError: On rows that are not finite, another number of features or classes, or classes out of range.
        """
        self._check_classes(n_classes)
        if not len(as_rows(x)):
            return self
        x, target, _ = check_fit_inputs(x, target, self.n_classes)
        moments = class_moments(x.double(), target, self.n_classes, diagonal=True)
        variance = moments.scatter.mean(1) / (moments.class_count - 1)
        return self._pool(moments.mean, variance, moments.class_count)

    @torch.no_grad()
    def merge(self, other: RunningGaussian) -> Self:
        """Pool with the statistics of other rows, each by the rows it has seen, as if all came in one batch.

        Raises:
            ValueError: If they are of another number of classes or features.
        """
        if not isinstance(other, RunningGaussian):
            raise ValueError(f"merge takes a RunningGaussian, got a {type(other).__name__}")
        self._check_classes(other.n_classes)
        if other.mean_ is None:
            return self
        self.n_passed_over_ = self.n_passed_over_ + other.n_passed_over_.to(self.n_passed_over_.device)
        return self._pool(other.mean_.double(), other.variance_.double(), other.class_count_)

    def all_reduce(self) -> Self:
        """Merge the statistics that each rank has learnt by `partial_fit`, in the order of the ranks; call it once.

        `update` needs no such call: it learns from the batches of all ranks together.
        """
        names = ("mean_", "variance_", "class_count_")
        own = None if self.mean_ is None else {name: self._buffers[name] for name in names}
        states = all_gather_states(own, names)  # type: ignore[arg-type]  # learnt together, none is None
        if len(states) > 1:
            self.mean_ = self.variance_ = self.class_count_ = None  # type: ignore[assignment]
            for state in states:
                if state is not None:
                    self._pool(*(state[name] for name in names))
        return self

    def _pool(self, mean: Tensor, variance: Tensor, count: Tensor) -> Self:
        """Pool with means `(C, D)` and variances `(C,)`, NaN where unknown, of `count` rows `(C,)`; all float64."""
        if self.mean_ is None:
            self.mean_, self.class_count_ = torch.zeros_like(mean), torch.zeros_like(count, dtype=torch.long)
            self.variance_ = torch.full_like(variance, torch.nan)
        elif mean.shape != self.mean_.shape:
            raise ValueError(f"x must have the {self.mean_.shape[1]} features seen before, got {mean.shape[1]}")
        own, count = self.class_count_.to(mean), count.to(mean)
        total = (own + count).clamp(min=1)
        shift = mean - self.mean_.to(mean)
        scatter = sum(
            (v.to(mean) * (n - 1)).nan_to_num(0.0).masked_fill(n < 2, 0.0)
            for v, n in ((self.variance_, own), (variance, count))
        )
        scatter = scatter + shift.square().mean(1) * own * count / total
        self.mean_ = self.mean_.to(mean) + shift * (count / total)[:, None]
        self.variance_ = torch.where(total > 1, scatter / (total - 1), torch.nan)
        self.class_count_ = (own + count).long()
        return self

    def _check_classes(self, n_classes: int | None) -> None:
        if n_classes not in (None, self.n_classes):
            raise ValueError(f"n_classes must be {self.n_classes}, as the statistics were made for, got {n_classes}")

    def forget(self) -> None:
        """Start afresh, as if no batch had been seen."""
        self.mean_ = self.variance_ = self.class_count_ = None  # type: ignore[assignment]
        self.n_passed_over_.zero_()

    @torch.no_grad()
    def update(self, x: Tensor, target: Tensor) -> None:
        """Move the estimates towards the moments of a clean batch, `(B, *)` and `(B,)`, without a device sync.

        Raises:
            ValueError: If the rows have another number of features than those before, or there is no class index for
                each; on class indices out of range in the first batch.
        """
        x = as_rows(x)
        check_target(target, self.n_classes if self.mean_ is None else None, len(x))
        target = target.long()
        if self.n_passed_over_.device != x.device:  # statistics were loaded from a file
            self.n_passed_over_ = self.n_passed_over_.to(x.device)
        if self.mean_ is None:
            state = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
            self.mean_ = torch.zeros(self.n_classes, x.shape[1], **state)
            self.variance_ = torch.full((self.n_classes,), torch.nan, **state)
            self.class_count_ = torch.zeros(self.n_classes, dtype=torch.long, device=x.device)
            far = _far_from_the_others(x.to(accumulator(x)), target, self.n_classes)
        else:
            self._check_width(x)
            far = self._far(x, target)
        kept, count, moved = self._keep(x, target, far)
        mean, variance = _batch_moments(x.to(accumulator(x)), target, kept, count)
        seen = ((self.class_count_ > 0) & ~moved)[:, None]
        known = torch.isfinite(self.variance_) & ~moved
        moved_mean = torch.where(seen, mean.lerp(self.mean_.to(mean), self.beta), mean)
        moved_variance = torch.where(known, variance.lerp(self.variance_.to(variance), self.beta), variance)
        self.mean_.copy_(torch.where(count[:, None] > 0, moved_mean, self.mean_.to(mean)))
        self.variance_.copy_(torch.where(count > 1, moved_variance, self.variance_.to(variance)))
        self.class_count_ += count.long()

    def _far(self, x: Tensor, target: Tensor) -> Tensor:
        """Which rows `(B, D)` lie absurdly far from what is known of their classes, shape `(B,)`."""
        typical = self.variance_.nanmean()
        variance = self.variance_.nan_to_num(0.0).maximum(1e-3 * typical)  # a class may be one point so far
        variance = torch.where(self.class_count_ > 0, variance, torch.inf)
        square = (x.to(self.mean_.dtype) - self.mean_[target]).square().mean(1)
        return square > ABSURD**2 * variance[target]

    def _keep(self, x: Tensor, target: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows to learn from `(B,)`, their number `(C,)` on all ranks and classes that have moved as a whole `(C,)`."""
        finite = torch.isfinite(x).all(1)  # one overflow in half precision would stay in a running mean for ever
        kinds = torch.stack([torch.ones_like(finite), finite, far & finite], 1).to(accumulator(x))
        n_rows, n_finite, n_far = _sum(kinds, target, self.n_classes).unbind(1)
        all_far = n_far.sum()
        most_of_all = (all_far > 1) & (2 * all_far > n_finite.sum())  # one row alone decides nothing
        moved = (2 * n_far > n_finite) & ((n_far > 1) | most_of_all)
        count = n_finite - n_far.masked_fill(moved, 0.0)
        self.n_passed_over_ += (n_rows - count).sum().long()
        return finite & (~far | moved[target]), count, moved

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of all classes, `(B, *) -> (B, C)`; minus infinity for a class never seen.

        Raises:
            NotFittedError: Before the first `update`.
        """
        if self.mean_ is None:
            raise not_fitted("RunningGaussian has seen no batch: call update(x, target) first")
        with no_gradient(), full_precision(x):
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


def _batch_moments(x: Tensor, target: Tensor, kept: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(C, D)` and mean feature variance `(C,)` of each class's kept rows, `count` `(C,)` on all ranks."""
    x = x.masked_fill(~kept[:, None], 0.0)
    total = _sum(x, target, len(count))
    mean = total / count.clamp(min=1)[:, None]
    within = (x - mean[target]).square().mean(1) * kept
    return mean, _sum(within, target, len(count)) / (count - 1).clamp(min=1)


def _far_from_the_others(x: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Which rows `(B, D)` lie absurdly far from their class, by the spread of all other rows about theirs, `(B,)`."""
    finite = torch.isfinite(x).all(1)
    count = _sum(finite.to(x), target, n_classes)
    mean, variance = _batch_moments(x, target, finite, count)
    n, others = count[target], (count - 1).clamp(min=0)
    apart = n / (n - 1).clamp(min=1)  # the mean of its class is drawn to the row by its own share
    within = (x - mean[target]).square().mean(1)
    n_others, left = others.sum() - 1, ((variance * others).sum() - apart * within).clamp(min=0)
    return (n_others >= FEW) & (apart.square() * within * n_others > ABSURD**2 * left)


def _sum(rows: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Sums of rows `(B, *)` over each class and all ranks, `(C, *)`."""
    return _all_reduce(rows.new_zeros(n_classes, *rows.shape[1:]).index_add_(0, target, rows))


def _all_reduce(tensor: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
