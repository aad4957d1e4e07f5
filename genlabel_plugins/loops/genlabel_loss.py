"""GenLabelLoss: a loss that relabels just before it, with the features that the training forward computed anyway."""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins.labels import PosteriorLabel
from genlabel_plugins.loops.head_features import HeadFeatures
from genlabel_plugins.loops.mixed_batch import MixedBatch
from genlabel_plugins.loops.resuming import watch_for_resume
from genlabel_plugins.mixing.inputs import map_inputs
from genlabel_plugins.relabeling import Relabeling, shows_mixture


class GenLabelLoss(nn.Module):
    r"""Relabel mixed targets by features, then apply a loss for soft targets (GenLabel, Algorithms 2 and 3).

    The features of the mixed batch come out of the training forward, through a hook on the input of the head. The class
    statistics of Algorithm 3 come from clean rows only: those that `LabeledMix(keep_clean=True)` puts before the mixed
    ones, else the batch before mixing, every `stats_every` steps in a pass of its own without gradient.

    A mixed batch may be cut into micro-batches, in order: each loss takes the rows that its labels are of. Class
    indices as targets, and `eval()`, leave the base loss as it is. The class statistics are in the `state_dict`.

    Args:
        base: Loss of `(output, y)` with soft labels, such as `nn.CrossEntropyLoss()`.
        mix: The `LabeledMix` of the loop, with linear labels, which from then on leaves the relabeling to this loss; or
            None if somebody else mixes, who calls `observe(x, target)` with clean rows.
        features: Features of the model in training.
        relabeling: Corrects the labels.

    Raises:
        ValueError: On a loss that takes no soft labels, a mixer with labels of its own, or a batch that ran through
            another model.

    Example:
        >>> from genlabel_plugins import LabeledMix, Mixup
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> mix = LabeledMix(Mixup(2))
        >>> criterion = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(model, "2"), Relabeling(2))
        >>> x_mix, y = mix(torch.rand(8, 3), torch.arange(8) % 2)
        >>> criterion(model(x_mix), y).backward()
        >>> criterion.report()["classes_without_statistics"]
        []

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 2 and 3.
    """

    mix: Any

    def __init__(self, base: nn.Module, mix: Any, features: HeadFeatures, relabeling: Relabeling) -> None:
        super().__init__()
        _check_takes_soft_labels(base, relabeling.n_classes)
        if mix is not None and (
            not hasattr(mix, "deferred") or isinstance(getattr(mix, "label", None), PosteriorLabel)
        ):
            raise ValueError(f"mix must be a LabeledMix with linear labels, got {mix!r}")
        PosteriorLabel(relabeling).refuse_parents(
            "this loss sees features of mixed rows alone: use GenLabelMix(embed=)"
        )
        self.base = base
        self.relabeling = relabeling
        self.__dict__["mix"] = mix  # no submodule: its state is its own
        self.__dict__["_features"] = features
        watch_for_resume(relabeling, features.model, f"this {type(self).__name__}")
        if mix is not None:
            mix.deferred = True

    @property
    def features(self) -> HeadFeatures:
        """Features of the model in training."""
        features: HeadFeatures = self.__dict__["_features"]
        return features

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        """Loss of logits `(B, C)` and mixed labels `(B, C)`."""
        overwritten, features = self.features.overwritten, self.features.take()
        if not (self.training and y.is_floating_point()):
            return self._loss(output, y)
        if not self._active():
            self.relabeling.label(output, y, mixed=False)  # counted only
            return self._loss(output, y)
        if features is None or len(features) != len(y):
            seen = "none" if features is None else f"{len(features)} rows"
            raise ValueError(
                f"the loss needs features of {len(y)} rows from the attached model in training mode, got {seen}"
            )
        if overwritten:
            warnings.warn(
                "several training forwards ran before this loss, which relabels by the features of the last: "
                "call the loss after each forward",
                stacklevel=2,
            )
        batch: MixedBatch | None = None if self.mix is None else self.mix.batch
        rows = None if batch is None else batch.take(len(y))
        y_lin, mixed = self._linear(y)
        if rows is not None and rows.y.shape == y.shape:
            # Another batch may have been mixed since: what the mixer knows goes with its very labels.
            same = (rows.y.to(y) == y).all()
            y_lin = torch.where(same, rows.y_lin.to(y_lin), y_lin)
            mixed = torch.where(same, rows.mixed.to(mixed), mixed)
        else:
            rows = None
        if self.relabeling.joint:
            self.features.refuse_join()
        clean_loss = self._observe(batch, rows, features, y_lin)
        loss = self._loss(output, self._corrected(y, y_lin, self.relabeling.label(features, y_lin, mixed)))
        return loss if clean_loss is None else (loss + clean_loss) / 2

    @torch.no_grad()
    def observe(self, x: Any, target: Tensor) -> None:
        """Show clean rows `(B, *)` and their class indices `(B,)` to the class statistics, by a pass of their own."""
        self.relabeling.observe(self.features(x), target)

    def report(self) -> dict[str, Any]:
        """What to log since the last report: see `Relabeling.report`."""
        return self.relabeling.report()

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.base(output, y)
        return loss

    def _active(self) -> bool:
        """Whether labels are corrected: the same on all ranks, which the draws of one rank are not."""
        return not self.relabeling.idle

    def _linear(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Labels before any smoothing `(B, C)`, and the mask `(B,)` of mixed rows, as far as the labels show it."""
        return y.to(torch.promote_types(y.dtype, torch.float32)), shows_mixture(y)

    def _corrected(self, y: Tensor, y_lin: Tensor, corrected: Tensor) -> Tensor:
        """Labels for the base loss, `(B, C)`."""
        return corrected

    def _observe(
        self, batch: MixedBatch | None, rows: MixedBatch | None, features: Tensor, y_lin: Tensor
    ) -> Tensor | None:
        """Let the statistics learn from clean rows, if this step calls for it.

        Args:
            batch: The batch mixed last.
            rows: Those of its rows that this loss is of.
            features: Features of the training forward, shape `(R, D)`.
            y_lin: Labels before any smoothing, shape `(R, C)`.

        Returns:
            A loss of the clean rows, which is to be added, if there is one.
        """
        if not self.relabeling.wants_clean:
            return None
        clean = None if batch is None else batch.take_clean()
        if rows is not None and rows.n_clean:
            self.relabeling.observe(features[: rows.n_clean], y_lin[: rows.n_clean].argmax(1))
        elif clean is not None:
            x, target = clean
            self.observe(map_inputs(lambda tensor: tensor.to(features.device), x), target.to(features.device))
        elif not self.relabeling.ready:
            raise ValueError("no clean rows reach this loss: call observe(x, target) with such rows")
        return None


def _check_takes_soft_labels(base: Any, n_classes: int) -> None:
    if not isinstance(base, nn.Module):
        raise ValueError(f"base must be a module, such as torch.nn.CrossEntropyLoss(), got {base!r}")
    state = next(chain(base.parameters(), base.buffers()), torch.zeros(()))
    y = torch.full((2, n_classes), 1 / n_classes, device=state.device)
    try:
        with torch.no_grad():
            base(torch.zeros_like(y), y)
    except Exception as error:
        raise ValueError(
            f"base must be a loss of soft labels (B, C), such as CrossEntropyLoss or timm's SoftTargetCrossEntropy, "
            f"got {type(base).__name__}, which fails on them: {error}"
        ) from error
