"""The relabelling behind both entry points: smoothing, warm-up, class statistics and what to log of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins import GenLabel, Relabeler, RunningGaussian
from genlabel_plugins._state import full_precision
from genlabel_timm.label_report import LabelReport, largest_entropy

GAMMA = 0.3  # defaults of joint training, by benchmarks/mnist_low_data.py
BETA = 0.9


class Relabeling(nn.Module):
    r"""Correct the labels that timm mixed, `(features, y_mix) -> y`.

    timm smooths labels by s, :math:`y_\text{mix} = (1-s)\,y_\text{lin} + s/C`. The relabeler sees the linear label
    :math:`y_\text{lin}`, and its correction returns to timm's scale,

    .. math:: y = y_\text{mix} + (1-s)\, w\gamma\, (y_\text{gen} - y_\text{lin}),

    with w the weight of the warm-up: where there is nothing to correct, timm's label stays as it is, bit for
    bit. Rows that were not mixed keep theirs.

    Args:
        num_classes: Number of classes C.
        label_smoothing: timm's smoothing s, in [0, 1).
        relabeler: A fitted relabeler (Algorithms 1 and 2), whose label, by its own gamma, stands for `y_gen`;
            None for Gaussian class statistics that follow the features (Algorithm 3).
        gamma: Trust in Algorithm 3's `y_gen`, in [0, 1]; 0.3 by default. A `relabeler` has its own.
        beta: Memory ratio of Algorithm 3's statistics.
        top_k: Classes that Algorithm 3's `y_gen` keeps.
        stats_every: Steps between two updates of Algorithm 3's statistics.
        gamma_warmup: Steps over which w rises from 0 to 1.

    Raises:
        ValueError: On an option out of range, naming the value, or `gamma` beside a `relabeler`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        relabeler: Relabeler | None = None,
        gamma: float | None = None,
        beta: float = BETA,
        top_k: int | None = 2,
        stats_every: int = 1,
        gamma_warmup: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if gamma is not None and not 0 <= gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
        if gamma is not None and relabeler is not None:
            raise ValueError(f"gamma is the relabeler's own: set it there, got gamma={gamma} beside a relabeler")
        if stats_every < 1:
            raise ValueError(f"stats_every must be at least 1, got {stats_every}")
        if gamma_warmup < 0:
            raise ValueError(f"gamma_warmup must be at least 0, got {gamma_warmup}")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.joint = relabeler is None
        self.relabeler: Any = (
            GenLabel(RunningGaussian(num_classes, beta=beta), top_k=top_k) if self.joint else relabeler
        )
        self.gamma = 1.0 if relabeler is not None else GAMMA if gamma is None else gamma
        self.stats_every = stats_every
        self.gamma_warmup = gamma_warmup
        self.step = 0
        self.labels = LabelReport(num_classes, largest_entropy(num_classes, top_k) if self.joint else None)

    @property
    def wants_clean(self) -> bool:
        """Whether the next batch should move the class statistics."""
        return self.joint and self.gamma > 0 and self.step % self.stats_every == 0

    @property
    def ready(self) -> bool:
        """Whether there are class statistics, or a relabeler fitted before training."""
        return not self.joint or self.relabeler.density.mean_ is not None

    def update(self, features: Tensor, target: Tensor) -> None:
        """Move the class statistics towards clean features `(B, D)` and class indices `(B,)`."""
        if not self.joint:
            raise ValueError("update is for Algorithm 3: a relabeler of your own is fitted before training")
        self._follow(features)
        if self.ready:
            self.labels.add_clean(self.relabeler.log_prob(features), target)
        self.relabeler.density.update(features, target)

    def forget(self) -> None:
        """Start Algorithm 3's class statistics and the warm-up afresh, for another model."""
        self.step = 0
        if self.joint:
            self.relabeler.density.mean_ = None

    @torch.no_grad()
    def relabel(self, features: Tensor, y_mix: Tensor, mixed: Tensor | bool | None = None) -> Tensor:
        """Correct the labels of a mixed batch.

        Args:
            features: Features, or inputs under Algorithm 1, shape `(B, *)`.
            y_mix: timm's mixed and smoothed labels, shape `(B, C)`.
            mixed: Which rows are mixtures, shape `(B,)`. By default those whose label shows two classes: a
                mixture within one class cannot be told from a clean row by its label, and keeps it.

        Returns:
            Labels, shape `(B, C)`; rows sum to one.
        """
        if self.gamma == 0:
            return y_mix
        self._follow(y_mix)
        with full_precision(y_mix):
            return self._relabel(features, y_mix, mixed)

    def _relabel(self, features: Tensor, y_mix: Tensor, mixed: Tensor | bool | None) -> Tensor:
        smoothing = self.label_smoothing
        y_mix = y_mix.to(torch.promote_types(y_mix.dtype, torch.float32))
        y_lin = ((y_mix - smoothing / self.num_classes) / (1 - smoothing)).clamp(min=0)
        if mixed is None:
            mixed = y_lin.amax(1) < 1 - 1e-6
        elif isinstance(mixed, bool):
            mixed = torch.full(y_mix.shape[:1], mixed, device=y_mix.device)
        y_gen = self.relabeler.relabel(features, y_lin).to(y_lin)
        self.labels.add(y_gen, y_lin, mixed)
        correction = (1 - smoothing) * self.gamma * self._warmup() * (y_gen - y_lin)
        self.step += 1
        return torch.where(mixed[:, None], (y_mix + correction).clamp(min=0), y_mix)

    def report(self) -> dict[str, Any]:
        """What to log: means over the rows since the last report.

        Returns:
            `relabelled`, the share of all rows that were relabelled; of these, `distance`, the mean total variation
            between `y_gen` and the linear label, `entropy` of `y_gen` in nats, and `class_share` of `y_gen`, a list
            of C numbers; `clean_accuracy`, the share of clean rows that the densities classify right before they
            learn from them (Algorithm 3, else NaN); `fallback_rows`, on which the densities said nothing so far;
            `classes_without_statistics`.
        """
        class_count = getattr(getattr(self.relabeler, "density", None), "class_count_", None)
        return {
            **self.labels.report(),
            "fallback_rows": int(getattr(self.relabeler, "n_fallback_", 0)),
            "classes_without_statistics": [] if class_count is None else (class_count == 0).nonzero()[:, 0].tolist(),
        }

    def _follow(self, rows: Tensor) -> None:
        """Move to the device of these rows; a state loaded after `.to(device)` lies where it was saved."""
        if any(buffer.device != rows.device for buffer in self.buffers()):
            self.to(rows.device)

    def _warmup(self) -> float:
        return min(self.step / self.gamma_warmup, 1.0) if self.gamma_warmup else 1.0

    def get_extra_state(self) -> dict[str, int]:
        """The step, so that a resumed run is past its warm-up."""
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Resume at the saved step."""
        self.step = state["step"]
