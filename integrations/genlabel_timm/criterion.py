"""GenLabelLoss for timm: its smoothing, its classifiers, and clean rows beside its prefetching loader."""

from __future__ import annotations

import warnings
from typing import Any

from timm.data.mixup import mixup_target
from timm.loss.jsd import JsdCrossEntropy
from timm.utils.model import unwrap_model
from torch import Tensor, nn

from genlabel_plugins import GenLabelLoss, HeadFeatures
from genlabel_plugins._checks import check_switch
from genlabel_plugins.loops import MixedBatch
from genlabel_plugins.mixing import map_inputs
from genlabel_timm.clean_batches import CleanBatches
from genlabel_timm.mixup import AttachedMixup, GenLabelMixup


class GenLabelCriterion(GenLabelLoss):
    r"""Relabel timm's mixed targets, then apply a loss for soft targets.

    The features of the mixed batch come out of the training forward, through a hook. Class statistics come from
    clean rows only, every `stats_every` steps in a forward of their own without gradient: from the batch that
    `GenLabelMixup` held before mixing it or, if a collate mixes in the loader's workers, from a second loader over
    the same data set that does not mix. Mixed rows taken for clean ones would bias them.

    Class indices as targets, mixing turned off and `eval()` leave the base loss as it is. The running class
    statistics are in the `state_dict`, and so is the place in the order of the second loader.

    Args:
        base: Loss of `(output, y)` with soft labels, such as `SoftTargetCrossEntropy`.
        mixup: An attached `GenLabelMixup` or `GenLabelFastCollateMixup`, which from then on leaves the relabeling
            to this loss; or a model, if somebody else mixes.
        loader: timm's training loader, for clean rows where no `GenLabelMixup` sees them. Without it, call
            `observe(input, target)` with clean rows.
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
        mixup: AttachedMixup | nn.Module,
        *,
        loader: Any = None,
        keep_clean: bool = False,
        **options: Any,
    ) -> None:
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
        check_switch("keep_clean", keep_clean)
        super().__init__(base, mixup, mixup.features, mixup.relabeling)
        self.keep_clean = mixup.keep_clean = keep_clean
        self.clean_batches = None if loader is None else CleanBatches(loader)
        self._smoothing_checked = False

    @property
    def features(self) -> HeadFeatures:
        """Features of the model that is attached to the mixer now."""
        return self.mix.features or super().features

    def get_extra_state(self) -> dict[str, int]:
        """How many clean batches the second loader has given, and the seed of their order."""
        if self.clean_batches is None:
            return {"clean_batches": 0}
        return {"clean_batches": self.clean_batches.n_given, "clean_seed": self.clean_batches.seed}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on after these clean batches."""
        if self.clean_batches is not None:
            self.clean_batches.resume(state["clean_batches"], state.get("clean_seed"))

    def _active(self) -> bool:
        self.mix.attached()
        return bool(self.mix.mixup_enabled) and (super()._active() or self.keep_clean)

    def _linear(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if not self._smoothing_checked:  # once: it waits for the device
            self._check_smoothing(y)
            self._smoothing_checked = True
        y_lin, mixed = self.mix.linear(y)
        return y_lin, mixed

    def _corrected(self, y: Tensor, y_lin: Tensor, corrected: Tensor) -> Tensor:
        y = self.mix.corrected(y, y_lin, corrected)
        return y

    def _check_smoothing(self, y_mix: Tensor) -> None:
        """Compare timm's smallest label with the smoothing; with two classes it says nothing."""
        n_classes, declared = self.mix.num_classes, self.mix.label_smoothing
        smoothing = n_classes * y_mix.min().item()
        if n_classes > 2 and abs(smoothing - declared) > 1e-3:
            raise ValueError(f"label_smoothing={declared}, but the labels are smoothed by {smoothing:.3g}")

    def _observe(
        self, batch: MixedBatch | None, rows: MixedBatch | None, features: Tensor, y_lin: Tensor
    ) -> Tensor | None:
        clean = self._clean_rows(batch, rows)
        if clean is None:
            return None
        x: Any = map_inputs(lambda part: part.to(features.device) if isinstance(part, Tensor) else part, clean[0])
        target = clean[1].to(features.device)
        if not self.keep_clean:
            self.observe(x, target)
            return None
        output, clean_features = self.features.forward(x)
        if self.relabeling.wants_clean:
            self.relabeling.observe(clean_features, target)
        return self._loss(output, mixup_target(target, self.mix.num_classes, 1.0, self.mix.label_smoothing))

    def _clean_rows(self, batch: MixedBatch | None, rows: MixedBatch | None) -> tuple[Any, Tensor] | None:
        """Clean images and their class indices, if this step calls for them and they can be had."""
        if batch is not None:
            if self.keep_clean and rows is not None:
                return None if rows.clean is None else (rows.clean, rows.target)
            return batch.take_clean()
        if not (self.keep_clean or self.relabeling.wants_clean):
            return None
        if self.clean_batches is not None:
            return next(self.clean_batches)
        if self.keep_clean or not self.relabeling.ready:
            raise ValueError(
                "no clean rows reach this loss: pass loader=, or call observe(input, target) with such rows"
            )
        return None
