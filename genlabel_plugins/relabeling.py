"""Relabeling: what every host runs, `observe` on clean rows, `label` on mixed ones, `report` to log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_labels, check_number, check_relabels, check_target, check_tensor
from genlabel_plugins._label_meter import LabelMeter, largest_entropy
from genlabel_plugins._precision import full_precision
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.running import RunningGaussian
from genlabel_plugins.posterior import blend
from genlabel_plugins.relabeler import GAMMA, GenLabel, Relabeler

BETA = 0.9


class Relabeling(nn.Module):
    r"""Correct the labels of mixed rows during a training, and tell what became of them.

    .. math:: y = w\gamma\, y_\text{gen} + (1 - w\gamma)\, y_\text{lin}

    with w the weight of the warm-up. Rows that were not mixed keep their label bit for bit.

    - With a fitted `relabeler`: Algorithm 1, or 2 if it knows features.
    - Without: Algorithm 3, class Gaussians that follow the features of clean rows in training.

    Args:
        n_classes: Number of classes C.
        relabeler: A fitted relabeler, whose gamma is its own; None for Algorithm 3. What another class than `GenLabel`
            makes of a label stands for `y_gen`.
        gamma: Trust in Algorithm 3's `y_gen`, in [0, 1]; 0.5 by default.
        beta: Memory ratio of Algorithm 3's statistics.
        top_k: Classes that Algorithm 3's `y_gen` keeps.
        stats_every: Steps from one update of Algorithm 3's statistics to the next.
        warmup_steps: Steps over which w rises from 0 to 1.

    Raises:
        ValueError: On an option out of range, naming the value, or `gamma` beside a `relabeler`.
        TypeError: On a relabeler that has no `relabel`.

    Example:
        >>> relabeling = Relabeling(2, gamma=0.5)
        >>> clean, target = torch.tensor([[-7.0], [-5.0], [5.0], [7.0]]), torch.tensor([0, 0, 1, 1])
        >>> relabeling.observe(clean, target)
        >>> relabeling.label(torch.tensor([[4.0], [4.0]]), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        tensor([[0.2500, 0.7500],
                [1.0000, 0.0000]])
        >>> relabeling.report()["relabeled"]
        0.5

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 1 to 3.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        relabeler: Relabeler | None = None,
        gamma: float | None = None,
        beta: float = BETA,
        top_k: int | None = 2,
        stats_every: int = 1,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if gamma is not None and relabeler is not None:
            raise ValueError(f"gamma is the relabeler's own: set it there, got gamma={gamma} beside a relabeler")
        if relabeler is not None:
            check_relabels(relabeler)
        check_number("n_classes", n_classes, 1, whole=True)
        check_number("stats_every", stats_every, 1, whole=True)
        check_number("warmup_steps", warmup_steps, 0, whole=True)
        self.n_classes = n_classes
        self.joint = relabeler is None
        self.relabeler: Any = relabeler
        if self.joint:
            trust = GAMMA if gamma is None else gamma
            self.relabeler = GenLabel(RunningGaussian(n_classes, beta=beta), gamma=trust, top_k=top_k)
        self.stats_every = stats_every
        self.warmup_steps = warmup_steps
        self.step = self.due = 0  # due: the step from which the statistics want clean rows again
        self.settled = False  # whether a state was loaded, or training has begun without
        self.meter = LabelMeter(n_classes, largest_entropy(n_classes, top_k) if self.joint else None)
        self._seen = {"target": False, "label": False}  # each is checked once: a check waits for the device

    @property
    def gamma(self) -> float | Tensor:
        """Trust in `y_gen`; 1 for a relabeler that keeps its own to itself."""
        return self.relabeler.gamma if isinstance(self.relabeler, GenLabel) else 1.0

    @property
    def idle(self) -> bool:
        """Whether labels stay as they are whatever the densities say, since gamma is 0."""
        return _is_zero(self.gamma)

    @property
    def wants_clean(self) -> bool:
        """Whether the next batch of clean rows should move the class statistics."""
        return self.joint and not self.idle and self.step >= self.due

    @property
    def wants_parents(self) -> bool:
        """Whether `label` asks for the parents of mixed rows, which the relabeler leaves out."""
        return bool(getattr(self.relabeler, "wants_parents", False)) and not self.idle

    @property
    def ready(self) -> bool:
        """Whether there are class statistics, or a relabeler fitted before training."""
        return not self.joint or self.relabeler.density.mean_ is not None

    @torch.no_grad()
    def observe(self, features: Tensor, target: Tensor) -> None:
        """Count how many clean rows the densities classify right, then, in Algorithm 3, move towards these rows.

        Args:
            features: Features of clean rows, shape `(B, *)`.
            target: Their class indices, shape `(B,)`.

        Raises:
            ValueError: On class indices out of range, in the first batch, another number of them than rows, or another
                number of features than before.
        """
        check_tensor("features", features)
        check_target(target, None if self._seen["target"] else self.n_classes, len(features))
        self._seen["target"] = True
        self._follow(features)
        if self.ready:
            score = getattr(self.relabeler, "log_joint", self.relabeler.log_prob)(features)
            self.meter.add_clean(score, target)
        if self.joint:
            self.relabeler.density.update(features, target)
            self.due = self.step + self.stats_every

    @torch.no_grad()
    def label(
        self,
        features: Tensor,
        y_lin: Tensor,
        mixed: Tensor | bool | None = None,
        parents: Parents | None = None,
    ) -> Tensor:
        """Correct the labels of a mixed batch.

        Args:
            features: Features, or inputs under Algorithm 1, shape `(B, *)`.
            y_lin: Labels mixed by lam, shape `(B, C)`.
            mixed: Which rows are mixtures, shape `(B,)`, or one answer for all: False only counts the rows. By default
                those whose label shows two classes; a mixture within one class cannot be told from a clean row then.
            parents: The rows that each was made of, for a relabeler that leaves them out.

        Returns:
            Labels, shape `(B, C)`, in float32 or better; rows sum to one.

        Raises:
            ValueError: If the first labels are no probabilities of C classes.
        """
        if not self._seen["label"]:
            check_labels(y_lin, self.n_classes)
            self._seen["label"] = True
        y_lin = y_lin.to(torch.promote_types(y_lin.dtype, torch.float32))
        relabeler, gamma = self.relabeler, self.gamma  # a module's attribute costs a microsecond each time
        if mixed is False or _is_zero(gamma):
            self.meter.rows += len(y_lin)
            return y_lin
        self._follow(y_lin)
        mixed = _as_mask(mixed, y_lin)
        with full_precision(y_lin):
            own: dict[str, Any] = {"gamma": 1.0} if isinstance(relabeler, GenLabel) else {}
            own |= {"parents": parents} if getattr(relabeler, "wants_parents", False) else {}
            y_gen = relabeler.relabel(features, y_lin, **own).to(y_lin)
            self.meter.add(y_gen, y_lin, mixed)
            step, warmup_steps = self.step, self.warmup_steps
            weight = min(step / warmup_steps, 1.0) if warmup_steps else 1.0
            self.__dict__["step"] = step + 1  # past nn.Module's __setattr__, which is slow
            return torch.where(mixed[:, None], blend(y_lin, y_gen, weight * gamma), y_lin)

    def report(self) -> dict[str, Any]:
        """What to log: means over the rows since the last report.

        Returns:
            `relabeled`, the share of all labeled rows that were relabeled; of these, `distance`, the mean total
            variation between `y_gen` and the linear label, `entropy` of `y_gen` in nats, and `class_share` of `y_gen`,
            a list of C numbers; `clean_accuracy`, the share of observed clean rows that the densities classify right
            before they learn from them (NaN if none); `fallback_rows`, on which the densities said nothing so far;
            `passed_over_rows`, clean rows of all ranks that were too far from their class to learn from so far, or
            not finite; `classes_without_statistics`.
        """
        density = getattr(self.relabeler, "density", None)
        class_count = getattr(density, "class_count_", None)
        return {
            **self.meter.report(),
            "fallback_rows": int(getattr(self.relabeler, "n_fallback_", 0)),
            "passed_over_rows": int(getattr(density, "n_passed_over_", 0)),
            "classes_without_statistics": [] if class_count is None else (class_count == 0).nonzero()[:, 0].tolist(),
        }

    def forget(self) -> None:
        """Start statistics, warm-up and report afresh, for another model."""
        self.step = self.due = 0
        self.meter.forget()
        if self.joint:
            self.relabeler.density.forget()
            self.relabeler.n_fallback_.zero_()

    def get_extra_state(self) -> dict[str, int]:
        """The step, so that a resumed run is past its warm-up, and the one that wants clean rows next."""
        return {"step": self.step, "due": self.due}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Resume at the saved step."""
        self.step, self.due = state["step"], state["due"]
        self.settled = True

    def _follow(self, rows: Tensor) -> None:
        """Move to the device of these rows; a state loaded after `.to(device)` lies where it was saved."""
        device, modules = rows.device, [self._modules]
        for children in modules:  # as `self.modules()` goes, in less than half of its time
            for module in children.values():
                if module is not None:
                    modules.append(module._modules)
                    for buffer in module._buffers.values():
                        if buffer is not None and buffer.device != device:
                            self.to(device)
                            return


def shows_mixture(y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Which labels `(B, C)`, smoothed or not, show two classes, within the rounding of their dtype, shape `(B,)`.

    Example:
        >>> shows_mixture(torch.tensor([[0.0, 1.0], [0.3, 0.7]]))
        tensor([False,  True])
    """
    return y.amax(1) < 1 - smoothing + smoothing / y.shape[1] - 8 * torch.finfo(y.dtype).eps


def _is_zero(gamma: float | Tensor) -> bool:
    return not isinstance(gamma, Tensor) and gamma == 0


def _as_mask(mixed: Tensor | bool | None, y_lin: Tensor) -> Tensor:
    if mixed is None:
        return shows_mixture(y_lin)
    return mixed if isinstance(mixed, Tensor) else y_lin.new_ones(len(y_lin), dtype=torch.bool)
