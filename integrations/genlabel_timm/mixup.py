"""timm's Mixup with GenLabel's labels."""

from __future__ import annotations

import warnings
from typing import Any, Self

import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor, nn

from genlabel_plugins import Parents, Relabeler, Relabeling
from genlabel_plugins._checks import check_target, check_tensor
from genlabel_plugins.loops import MixedBatch, watch_for_resume
from genlabel_plugins.relabeling import BETA, shows_mixture
from genlabel_timm.model_features import ModelFeatures


class AttachedMixup(Mixup):
    """A timm mixer beside a model and the relabeling of its labels: what GenLabelMixup and its collate share."""

    def __init__(
        self,
        *args: Any,
        gamma: float | None = None,
        beta: float = BETA,
        top_k: int | None = 2,
        relabeler: Relabeler | None = None,
        stats_every: int = 1,
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        if getattr(self, "multi_label", False):
            raise ValueError("multi_label=True has no class posterior: use timm's own Mixup")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        self.relabeling = Relabeling(
            self.num_classes,
            relabeler=relabeler,
            gamma=gamma,
            beta=beta,
            top_k=top_k,
            stats_every=stats_every,
            warmup_steps=warmup_steps,
        )
        self.features: ModelFeatures | None = None
        self.batch: MixedBatch | None = None  # the last one, for GenLabelCriterion
        self.deferred = False  # set by GenLabelCriterion: it relabels
        self.keep_clean = False  # set by GenLabelCriterion: it wants every clean batch
        self._warned = self._checked = False

    def attach(self, model: nn.Module) -> Self:
        """Take features from the input of the model's classifier; returns self.

        Another model than the one attached starts class statistics and warm-up afresh.
        """
        previous = self.features
        self.detach()
        self.features = ModelFeatures(model)
        if previous is not None and previous.model is not self.features.model:
            self.relabeling.forget()
        return self

    def detach(self) -> Self:
        """Take the hooks off the attached model, if any; returns self. They also go when the mixer is dropped."""
        if self.features is not None:
            self.features.remove()
        self.features = None
        return self

    def observe(self, input: Tensor, target: Tensor) -> None:
        """Show clean images `(B, *)` and class indices `(B,)` to the class statistics: one forward, no gradient."""
        features = self.attached()
        if self.relabeling.joint:
            features.refuse_join()
        self.relabeling.observe(features(input), target)

    def report(self) -> dict[str, Any]:
        """What to log since the last report: see `Relabeling.report`."""
        return self.relabeling.report()

    def attached(self) -> ModelFeatures:
        """Features of the attached model.

        Raises:
            ValueError: If there is no such model, or if it has another number of classes.
        """
        if self.features is None:
            raise ValueError(f"{type(self).__name__} needs a model: call attach(model) first")
        n_classes = getattr(self.features.model, "num_classes", self.num_classes)
        if n_classes != self.num_classes:
            raise ValueError(f"num_classes={self.num_classes}, but the attached model has {n_classes} classes")
        return self.features

    def linear(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What timm's labels `(B, C)` alone tell: labels before smoothing `(B, C)`, and which rows show two classes."""
        smoothing = self.label_smoothing
        full = y.to(torch.promote_types(y.dtype, torch.float32))
        y_lin = ((full - smoothing / self.num_classes) / (1 - smoothing)).clamp(min=0)
        return y_lin, shows_mixture(y, smoothing)

    def corrected(self, y_mix: Tensor, y_lin: Tensor, y: Tensor) -> Tensor:
        r"""Labels on timm's scale, :math:`y_\text{mix} + (1-s)(y - y_\text{lin})`; exactly `y_mix` if `y = y_lin`."""
        smooth: Tensor = y_mix + (1 - self.label_smoothing) * (y - y_lin)
        return smooth.clamp(min=0)

    def _check_once(self, target: Tensor) -> None:
        if not self._checked:  # a check waits for the device
            check_target(target, self.num_classes)
            self._checked = True

    def _warn_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=3)


class GenLabelMixup(AttachedMixup):
    """timm's Mixup, with the labels of mixed rows corrected by GenLabel.

    - With a fitted `relabeler`: Algorithm 1, densities on inputs.
    - With a fitted `relabeler` and `attach(model)`: Algorithm 2, densities on the features of a frozen model.
    - With `attach(model)` alone: Algorithm 3, class statistics that follow the features in training.
    - With neither: timm's Mixup, bit for bit, and a warning.

    A call passes the mixed batch, and for Algorithm 3 the clean batch every `stats_every` steps, through the
    attached model without gradient. `GenLabelCriterion` saves the first of these passes. In a model with dropout
    the passes draw random numbers, and the features are those of training mode, after dropout.

    Args:
        *args: Positional arguments of `timm.data.Mixup`.
        gamma: Trust in Algorithm 3's posterior, in [0, 1]; 0.5 by default. A `relabeler` has its own.
        beta: Memory ratio of Algorithm 3's class statistics.
        top_k: Classes that Algorithm 3's posterior keeps.
        relabeler: A fitted relabeler, for Algorithms 1 and 2.
        stats_every: Steps between two updates of the class statistics.
        warmup_steps: Steps over which the correction grows to its full size.
        **kwargs: Keyword arguments of `timm.data.Mixup`.

    Raises:
        ValueError: On an option out of range, `multi_label=True`, an odd batch, or a model with another
            number of classes.

    Example:
        >>> import timm, torch
        >>> model = timm.create_model("test_resnet", num_classes=10)
        >>> mixup_fn = GenLabelMixup(mixup_alpha=1.0, num_classes=10).attach(model)
        >>> x, y = mixup_fn(torch.randn(8, 3, 32, 32), torch.arange(8))
        >>> y.shape, mixup_fn.report()["classes_without_statistics"]
        (torch.Size([8, 10]), [8, 9])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 1 to 3.
    """

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix in place and label, `(B, *), (B,) -> (B, *), (B, C)`."""
        if not isinstance(x, Tensor):
            raise TypeError(f"GenLabelMixup mixes one tensor, not augmentation splits, got {type(x).__name__}")
        check_tensor("x", x)
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point to be mixed in place, got {x.dtype}")
        if len(x) % 2:
            raise ValueError(
                f"timm mixes a batch with its mirror image: it must be even, got {len(x)}; set drop_last=True"
            )
        if self.features is None and self.relabeling.joint:
            if not self._warned:
                check_target(target, self.num_classes)
            self._warn_once("GenLabelMixup mixes as timm's Mixup does: call attach(model), or pass a fitted relabeler")
            return self._mix(x, target)
        if not (self._checked or self.deferred):
            model = None if self.features is None else self.features.model
            watch_for_resume(self.relabeling, model, "its mixer's relabeling")
        self._check_once(target)
        relabeling = self.relabeling
        wanted = self.keep_clean or relabeling.wants_clean or relabeling.wants_parents
        clean = x.clone() if self.mixup_enabled and wanted else None
        x, y_mix = self._mix(x, target)
        lam = (
            self._lam.flatten() if isinstance(self._lam, Tensor) else torch.full((len(x),), self._lam, device=x.device)
        )
        y_lin = mixup_target(target, self.num_classes, self._lam)
        mixed = (lam > 0) & (lam < 1)
        if self.deferred:
            self.batch = MixedBatch(clean=clean, target=target, y=y_mix, y_lin=y_lin, mixed=mixed)
            return x, y_mix
        if not self.mixup_enabled or self.relabeling.idle:
            self.relabeling.label(x, y_lin, mixed=False)  # counted only
            return x, y_mix
        parents = None
        if clean is not None and relabeling.wants_parents:
            rows = clean if self.features is None else self.attached()(clean)
            parents = Parents.in_batch(rows, target, torch.arange(len(x), device=x.device).flip(0))
        elif clean is not None:
            self.observe(clean, target)
        features = x if self.features is None else self.attached()(x)
        return x, self.corrected(y_mix, y_lin, relabeling.label(features, y_lin, mixed, parents))

    def _mix(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        mixed: tuple[Tensor, Tensor] = super().__call__(x, target)  # type: ignore[no-untyped-call]
        return mixed

    def _mix_batch(self, x: Tensor) -> Any:
        self._lam: Any = super()._mix_batch(x)  # type: ignore[no-untyped-call]
        return self._lam

    def _mix_pair(self, x: Tensor) -> Any:
        self._lam = super()._mix_pair(x)  # type: ignore[no-untyped-call]
        return self._lam

    def _mix_elem(self, x: Tensor) -> Any:
        self._lam = super()._mix_elem(x)  # type: ignore[no-untyped-call]
        return self._lam
