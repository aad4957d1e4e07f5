"""A loss that relabels just before it, with the features the training forward computed anyway."""

from __future__ import annotations

import warnings
from typing import Any

from timm.data.mixup import mixup_target
from timm.loss.jsd import JsdCrossEntropy
from timm.utils.model import unwrap_model
from torch import Tensor, nn

from genlabel_timm.clean import clean_batches
from genlabel_timm.mixup import GenLabelMixer, GenLabelMixup, MixedBatch


class GenLabelCriterion(nn.Module):
    r"""Relabel timm's mixed targets, then apply a loss for soft targets.

    The features of the mixed batch come out of the training forward, through a hook. Class statistics come from
    clean rows only, every `stats_every` steps in a forward of their own without gradient: from the batch that
    `GenLabelMixup` held before mixing it or, if a collate mixes in the loader's workers, from a second loader over
    the same data set that does not mix. Mixed rows taken for clean ones would bias them.

    Class indices as targets, mixing turned off and `eval()` leave the base loss as it is. The running class
    statistics are in the `state_dict`.

    Args:
        base: Loss of `(output, y)` with soft labels, such as `SoftTargetCrossEntropy`.
        mixup: An attached `GenLabelMixup` or `GenLabelFastCollateMixup`, which from then on leaves the relabelling
            to this loss; or a model, if somebody else mixes.
        loader: timm's training loader, for clean rows where no `GenLabelMixup` sees them. Without it, call
            `update(input, target)` with clean rows.
        keep_clean: Add the clean batch's loss (mean of both), which keeps gamma near 1 from collapsing and takes a
            second forward and backward.
        **options: Those of `GenLabelMixup`, if `mixup` is a model.

    Raises:
        ValueError: On `JsdCrossEntropy`, an unattached mixer, or a batch that ran through no attached model.

    Example:
        >>> import timm, torch
        >>> from timm.loss import SoftTargetCrossEntropy
        >>> model = timm.create_model("test_resnet", num_classes=10)
        >>> mixup_fn = GenLabelMixup(mixup_alpha=1.0, num_classes=10).attach(model)
        >>> criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup_fn)
        >>> x, y = mixup_fn(torch.randn(8, 3, 32, 32), torch.arange(8))
        >>> criterion(model(x), y).backward()
    """

    def __init__(
        self,
        base: nn.Module,
        mixup: GenLabelMixer | nn.Module,
        *,
        loader: Any = None,
        keep_clean: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(base, JsdCrossEntropy):
            raise ValueError(
                "JsdCrossEntropy compares augmentation splits, which are not mixed: use it without GenLabel"
            )
        if getattr(base, "target_threshold", None) is not None:
            warnings.warn(
                "target_threshold makes every label hard again and undoes both mixup and GenLabel", stacklevel=2
            )
        if isinstance(mixup, nn.Module):
            mixup = GenLabelMixup(num_classes=unwrap_model(mixup).num_classes, **options).attach(mixup)
        elif options:
            raise ValueError(f"options go with a model, got {sorted(options)} beside a {type(mixup).__name__}")
        if mixup.features is None:
            raise ValueError(f"{type(mixup).__name__} needs a model: call attach(model) first")
        self.base = base
        self.mixup = mixup
        self.relabeling = mixup.relabeling
        self.keep_clean = keep_clean
        self.clean_batches = None if loader is None else clean_batches(loader)
        mixup.deferred, mixup.keep_clean = True, keep_clean

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of logits `(B, C)` and timm's targets, `(B, C)` if mixed."""
        batch = self.mixup.take_batch()
        source, relabeling = self.mixup.features, self.relabeling
        overwritten = source is not None and source.overwritten
        features = None if source is None else source.take()
        if not (self.training and target.is_floating_point()):
            return self._loss(output, target)
        source = self.mixup.attached()
        relabeling.labels.rows += len(target)
        idle = relabeling.gamma == 0 and not self.keep_clean
        if idle or not self.mixup.mixup_enabled:  # the same on all ranks, which the draws of one rank are not
            return self._loss(output, target)
        if features is None or len(features) != len(target):
            seen = "none" if features is None else f"{len(features)} rows"
            raise ValueError(
                f"the loss needs features of {len(target)} rows from the attached model in training mode, got {seen}"
            )
        if overwritten:
            warnings.warn(
                "several training forwards ran before this loss, which relabels by the features of the last: "
                "call the loss after each forward",
                stacklevel=2,
            )
        # Another batch may have been mixed since, or this one cut up: the mask goes with its very labels.
        mixed = batch.mixed if batch is not None and batch.y_mix is target else None
        if mixed is None and relabeling.step == 0:
            self._check_smoothing(target)
        clean = self._clean_rows(batch)
        if clean is None:
            return self._loss(output, relabeling.relabel(features, target, mixed))
        x, classes = (rows.to(target.device) for rows in clean)
        if not self.keep_clean:
            relabeling.update(source(x), classes)
            return self._loss(output, relabeling.relabel(features, target, mixed))
        clean_output, clean_features = source.forward(x)
        if relabeling.wants_clean:
            relabeling.update(clean_features, classes)
        y_clean = mixup_target(classes, relabeling.num_classes, 1.0, relabeling.label_smoothing)
        loss = self._loss(output, relabeling.relabel(features, target, mixed))
        return (loss + self._loss(clean_output, y_clean)) / 2

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.base(output, y)
        return loss

    def _check_smoothing(self, y_mix: Tensor) -> None:
        """Compare timm's smallest label with the smoothing; with two classes it says nothing."""
        n_classes, declared = self.relabeling.num_classes, self.relabeling.label_smoothing
        smoothing = n_classes * y_mix.min().item()
        if n_classes > 2 and abs(smoothing - declared) > 1e-3:
            raise ValueError(f"label_smoothing={declared}, but the labels are smoothed by {smoothing:.3g}")

    def _clean_rows(self, batch: MixedBatch | None) -> tuple[Tensor, Tensor] | None:
        """Clean images and their class indices, if this step calls for them and they can be had."""
        if batch is not None:
            return None if batch.clean is None else (batch.clean, batch.target)
        if not (self.keep_clean or self.relabeling.wants_clean):
            return None
        if self.clean_batches is not None:
            return next(self.clean_batches)
        if self.keep_clean or not self.relabeling.ready:
            raise ValueError(
                "no clean rows reach this loss: pass loader=, or call update(input, target) with such rows"
            )
        return None

    def update(self, input: Tensor, target: Tensor) -> None:
        """Move the class statistics by a clean batch `(B, *)` and its class indices `(B,)`."""
        self.mixup.update(input, target)

    def report(self) -> dict[str, Any]:
        """What to log since the last report: see `Relabeling.report`."""
        return self.relabeling.report()
