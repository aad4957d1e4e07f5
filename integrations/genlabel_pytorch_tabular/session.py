"""Session: mixing and relabelling one module during one training, through hooks that it removes again.

A batch is mixed in place before the training step, which then runs as it is. The input of the head passes a tap
(latent space), the embeddings of categories a mixing hook (embedding space), and the loss a hook that puts the
corrected labels in the place of the targets.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from genlabel_plugins import ColumnCutMix, Density, GenLabel, Mixed, RatioSearch, RunningGaussian, make_backend
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows
from genlabel_plugins.loops import FeatureTap
from genlabel_plugins.mixing import Inputs
from genlabel_plugins.mixing.mixers import interpolate, map_inputs, one_hot
from genlabel_pytorch_tabular.head import modules_outside, renew
from genlabel_pytorch_tabular.hosts import host_of
from genlabel_pytorch_tabular.meters import Meters
from genlabel_pytorch_tabular.table_mixing import GenerativeTableMixup, NumbersMixup, TableMixup
from genlabel_pytorch_tabular.training_rows import shows_progress, training_rows

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

    from genlabel_pytorch_tabular.callback import GenLabelCallback

LARGEST_DRIFT = 0.3  # of class shares, at gamma = 1


@dataclass
class Step:
    """A batch between its mixing and its loss.

    Attributes:
        target: Class indices of the clean rows, shape `(B, T)`.
        is_first: Whether it is the first batch of an epoch, of which more is measured.
        mixed: The mixed rows; None in the warm-up of Algorithm 3, which only watches.
        rows: Mixed rows as the densities know them, shape `(B, D)`; in latent space only when the head has run.
        n_calls: Calls of the loss so far, one for each target.
    """

    target: Tensor
    is_first: bool
    mixed: Mixed | None = None
    rows: Tensor | None = None
    n_calls: int = 0


class Session:
    """All that lives while one module trains.

    Args:
        options: The callback, for its options.
        trainer: Trainer that is about to begin.
        module: Module that it trains.

    Raises:
        ValueError: If the module cannot be trained so, in one sentence.
    """

    def __init__(self, options: GenLabelCallback, trainer: Trainer, module: LightningModule) -> None:
        self.options = options
        self.module = module
        self.host = host_of(module)
        self.warmup = options.warmup(trainer.max_epochs)
        self.latent = options.space == "latent"
        self.keeps_clean_rows = options.keep_clean or options.joint  # Algorithm 3 learns from them
        self.relabelers = [self._make_relabeler(n, verbose=shows_progress(trainer)) for n in self.host.n_classes]
        self.mix = self._make_mixer()
        self.meters = Meters(module.device, self.host.n_classes)
        self.mixing = self.warned = False
        self.step: Step | None = None
        self.tap = FeatureTap()
        self.frozen: list[nn.Parameter] = []
        self.still: list[nn.Module] = []  # in evaluation mode as long as they are frozen
        self.loss = self.host.loss
        self.handles = [self.host.head.register_forward_pre_hook(self.tap)] if self.latent else []
        self.handles.append(self.loss.register_forward_pre_hook(self._correct_labels))
        if options.space == "embedding":
            tables = [each for each in module.modules() if isinstance(each, nn.Embedding)]
            self.handles += [table.register_forward_hook(self._mix_embeddings) for table in tables]

    def start_epoch(self, trainer: Trainer) -> None:
        """Begin mixing once the warm-up is over; keep what is frozen in evaluation mode."""
        if not self.mixing and trainer.current_epoch >= self.warmup:
            self.mixing = True
            if not self.options.joint and (self.options.gamma > 0 or self.options.mix == "generative"):
                self._fit(trainer)
            if self.latent and not self.options.joint:
                self._freeze()
                if self.options.fresh_head and trainer.current_epoch == self.warmup:
                    renew(self.host.head, trainer.optimizers)
        for each in self.still:
            each.training = False

    def start_batch(self, batch: Any, batch_idx: int) -> None:
        """Mix a batch in place."""
        if not self.mixing and not self.options.joint:
            return
        x, target = self.host.read(batch)
        self.step = Step(target, is_first=batch_idx == 0)
        if not self.mixing:
            return
        self.step.mixed = mixed = self.mix(x, target[:, 0])
        if not self.latent:
            self.step.rows = self._mixed_rows(x, mixed)
        if self.keeps_clean_rows:
            both = map_inputs(lambda clean, new: torch.cat([clean, new]), x, mixed.x)
            self.host.write(batch, both, torch.cat([target, target]))
        else:
            self.host.write(batch, mixed.x, target)

    def end_batch(self, outputs: Any) -> None:
        """Forget the batch: what runs until the next one, such as validation, is not mixed.

        Raises:
            RuntimeError: If it was trained on with the labels of unmixed rows.
        """
        step, self.step = self.step, None
        if outputs and step is not None and step.mixed is not None and not step.n_calls:
            raise RuntimeError(f"{self.host.name} trained on a mixed batch without calling the module that is its loss")

    def report(self) -> dict[str, Tensor]:
        """What to log of the epoch; a warning if the labels of Algorithm 3 forget classes."""
        if self.options.joint and self.mixing and not self.warned:
            drift = self.meters.drift()
            self.warned = drift > LARGEST_DRIFT * self.options.gamma
            if self.warned:
                warnings.warn(
                    f"the class shares of GenLabel's labels are off by {drift:.2f}: labels and features feed each "
                    "other; lower gamma, warm up longer, or keep the clean batch in the loss (keep_clean)",
                    stacklevel=2,
                )
        return self.meters.report()

    def close(self) -> None:
        """Leave the module as it came."""
        for handle in self.handles:
            handle.remove()
        for each in self.still:
            each.training = True
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        self.handles, self.still, self.frozen = [], [], []
        self.step = None  # a copy of the module, such as a moving average, keeps its hooks

    def _fit(self, trainer: Trainer) -> None:
        """Fit one relabeler to each target."""
        self.tap.training_only = False
        rows, target = training_rows(trainer, self.module, self._read_rows)
        self.tap.training_only = True
        for i, relabeler in enumerate(self.relabelers):
            known = {"n_classes": self.host.n_classes[i]} if isinstance(relabeler.density, Density) else {}
            relabeler.fit(rows, target[:, i], **known)
        self.meters.fitted(self.relabelers[0], rows, target[:, 0])

    def _read_rows(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Rows `(B, D)` as the densities know them, and targets `(B, T)`."""
        x, target = self.host.read(batch)
        if not self.latent:
            return self._encode(x), target
        self.host.forward(batch)
        features = self.tap.take()
        if features is None:
            raise RuntimeError(f"{self.host.name} ran without calling its head")
        return features, target

    def _encode(self, x: Inputs) -> Tensor:
        if isinstance(x, Tensor):
            return encode_rows(x, None, ())
        return encode_rows(x.get("continuous"), x.get("categorical"), self.host.cardinality)

    def _mixed_rows(self, x: Inputs, mixed: Mixed) -> Tensor:
        """Mixed rows as the densities know them; mixed embeddings are mixed indicators, `(B, D)`."""
        if self.options.space == "input":
            return self._encode(mixed.x)
        clean = self._encode(x)
        return interpolate(clean, clean[mixed.partner], mixed.lam)

    def _mix_embeddings(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Mix what a table of embeddings returns for a batch, `(B, *)`."""
        if self.step is None or self.step.mixed is None:
            return None
        mixed = self.step.mixed
        clean, new = output[: -len(mixed.lam)], output[-len(mixed.lam) :]
        return torch.cat([clean, interpolate(new, new[mixed.partner], mixed.lam)])

    def _correct_labels(self, loss: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Arguments of the loss, with corrected labels `(B, C)` for the targets."""
        step = self.step
        if step is None:
            return None
        n_rows, index = len(step.target), step.n_calls % len(self.relabelers)
        step.n_calls += 1
        if index == 0 and self.latent:
            self._take_features(step)
        if step.mixed is None or step.rows is None:
            return None
        y_mix = self._mixed_label(step.mixed, step.target[:, index], index)
        if index == 0 and step.is_first:
            self.meters.intrusion(step.rows, step.mixed.target_i, step.mixed.target_j)
        y = self.relabelers[index].relabel(step.rows, y_mix)
        self.meters.add(y, y_mix, index)
        logits, target, *others = args
        if self.options.keep_clean:
            y = torch.cat([one_hot(target[:n_rows], y.shape[1], y), y])
        elif self.keeps_clean_rows:
            logits = logits[n_rows:]
        return (logits, y.to(torch.promote_types(logits.dtype, y.dtype)), *others)

    def _take_features(self, step: Step) -> None:
        """Features of the training forward; Algorithm 3 learns from the clean ones first."""
        features = self.tap.take()
        if features is None:
            raise RuntimeError(f"{self.host.name} ran without calling its head")
        n_rows = len(step.target)
        step.rows = features[-n_rows:]
        if not self.options.joint:
            return
        for i, relabeler in enumerate(self.relabelers):
            relabeler.density.update(features[:n_rows], step.target[:, i])
        if step.is_first:
            self.meters.judge(self.relabelers[0], features[:n_rows], step.target[:, 0])

    def _mixed_label(self, mixed: Mixed, target: Tensor, index: int) -> Tensor:
        """Label mixed by `lam`, of the first target or another, `(B, C)`."""
        if index == 0:
            return mixed.y_mix
        y = one_hot(target, self.host.n_classes[index], mixed.y_mix)
        return interpolate(y, y[mixed.partner], mixed.lam)

    def _freeze(self) -> None:
        """Freeze the features: every parameter outside the head."""
        kept = {id(parameter) for parameter in self.host.head.parameters()}
        self.frozen = [each for each in self.module.parameters() if each.requires_grad and id(each) not in kept]
        for parameter in self.frozen:
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer passes over it, weight decay included
        outside = modules_outside(self.module, self.host.head)
        self.still = [each for each in outside if each.training and each is not self.loss]

    def _make_relabeler(self, n_classes: int, *, verbose: bool) -> GenLabel:
        options = self.options
        params = dict(options.backend_params or {})
        density: Any
        if options.joint:
            density = RunningGaussian(n_classes, **params)
        elif self.host.cardinality and not self.latent:
            density = MixedTypes(cardinality=self.host.cardinality, continuous=self._own(), continuous_params=params)
        else:
            density = make_backend(self._own(), **params)
        fitted: Any = getattr(density, "density", density)
        if hasattr(fitted, "verbose") and "verbose" not in params:
            fitted.verbose = verbose
        return GenLabel(density, gamma=options.gamma, priors=options.priors, top_k=2 if options.joint else None)

    def _own(self) -> Any:
        """The backend's name, or a copy of it: each target and each training fits its own."""
        return self.options.backend if isinstance(self.options.backend, str) else copy.deepcopy(self.options.backend)

    def _make_mixer(self) -> Callable[..., Mixed]:
        options = self.options
        if callable(options.mix):
            return options.mix
        n_classes = self.host.n_classes[0]
        if options.mix == "cutmix":
            return ColumnCutMix(n_classes, alpha=options.alpha)
        if options.mix == "generative":
            if self.host.cardinality or len(self.relabelers) > 1:
                raise ValueError("mix='generative' is for tables of numbers with one target: use mix='mixup'")
            return GenerativeTableMixup(RatioSearch(self.relabelers[0]), n_classes=n_classes, alpha=options.alpha)
        mixer = NumbersMixup if options.space == "embedding" else TableMixup
        return mixer(n_classes, alpha=options.alpha)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a copy of a module in training, such as a moving average, shares its hooks
