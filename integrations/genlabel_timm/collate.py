"""timm's mixing collate for the prefetching loader, with a switch that reaches its workers."""

from __future__ import annotations

from typing import Any

import torch
from numpy import ndarray
from timm.data.mixup import FastCollateMixup
from torch import Tensor
from torch.utils.data import default_collate

from genlabel_timm.mixup import AttachedMixup


class GenLabelFastCollateMixup(AttachedMixup, FastCollateMixup):
    """timm's FastCollateMixup, whose labels `GenLabelCriterion` corrects on the device.

    Mixing runs in the loader's workers, where there is no model: the collate mixes as timm does. It takes the
    same arguments as `GenLabelMixup`, and warns where no criterion is there to relabel.

    `mixup_enabled` lives in shared memory. A persistent worker holds a copy of the collate, and a plain attribute
    set in the training process would never reach it.

    Example:
        >>> collate_fn = GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=10)
        >>> collate_fn.mixup_enabled = False
        >>> collate_fn.mixup_enabled
        False
    """

    def __call__(self, batch: list[Any], _: Any = None) -> tuple[Tensor, Tensor]:
        """Collate and mix B pairs of image and class index, `-> (B, *), (B, C)`; half as many rows in mode half."""
        if len(batch) % 2:
            raise ValueError(
                f"timm mixes a batch with its mirror image: it must be even, got {len(batch)}; set drop_last=True"
            )
        if not self.deferred:
            self._warn_once(
                "GenLabelFastCollateMixup mixes as timm's FastCollateMixup does: GenLabelCriterion corrects its labels"
            )
        self._check_once(default_collate([sample[1] for sample in batch]))
        if self.cutmix_alpha > 0 and self.mode in ("pair", "half"):  # where timm writes into the images it is given
            batch = [(image.copy() if isinstance(image, ndarray) else image.clone(), *rest) for image, *rest in batch]
        mixed: tuple[Tensor, Tensor] = super().__call__(batch)  # type: ignore[no-untyped-call]
        return mixed

    def linear(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Labels before smoothing `(B, C)` and which rows are mixtures; in mode batch, all are if one shows it."""
        y_lin, mixed = super().linear(y)
        return y_lin, mixed.any().expand(len(y)) if self.mode == "batch" else mixed

    @property
    def mixup_enabled(self) -> bool:
        """Whether batches are mixed, here and in all workers."""
        return bool(self._enabled)

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        if "_enabled" not in self.__dict__:
            self._enabled = torch.zeros((), dtype=torch.bool).share_memory_()
        self._enabled.fill_(enabled)

    def __getstate__(self) -> dict[str, Any]:
        # A worker started by spawn mixes; the model and its statistics stay here.
        return {**self.__dict__, "features": None, "relabeling": None, "batch": None}
