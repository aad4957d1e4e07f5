"""The relabelings of a training, one for each target, and the rows that their densities are fitted to."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genlabel_plugins import CrossFit, Density, FromClassifier, GenLabel, Relabeling, RunningGaussian, make_backend
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows
from genlabel_plugins.mixing import Inputs, TrainingSamples
from genlabel_pytorch_tabular.held_out import held_out_accuracy
from genlabel_pytorch_tabular.hosts import PlainHost
from genlabel_pytorch_tabular.options import Options
from genlabel_pytorch_tabular.step import HeadWatch
from genlabel_pytorch_tabular.training_rows import is_stream, shows_progress, training_rows
from genlabel_pytorch_tabular.trunk import Trunk

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

N_REFERENCE = 20_000  # rows among which a nearest one is looked for
N_STREAMED = 2_000  # rows of a stream that densities are fitted to
LOGGED = ("relabeled", "distance", "entropy", "clean_accuracy", "fallback_rows", "passed_over_rows")


class TargetRelabelings:
    """One `Relabeling` for each target of a host.

    Args:
        options: The callback's options.
        trainer: Trainer that is about to begin.
        module: Module that it trains.
        host: What is known of the module.
        trunk: What Algorithm 2 freezes.
    """

    def __init__(
        self, options: Options, trainer: Trainer, module: LightningModule, host: PlainHost, trunk: Trunk | None
    ) -> None:
        self.options, self.trainer, self.module, self.host, self.trunk = options, trainer, module, host, trunk
        self.each = [self._make(n) for n in host.n_classes]
        self.samples: TrainingSamples | None = None
        self.accuracy: list[float] = [math.nan] * len(self.each)  # of fitted densities, held out
        self._loader: Any = None  # that they were fitted to
        self._outdated = False  # since the checkpoint that training goes on from
        self._streamed: list[Any] = []  # first batches of a stream

    @property
    def stale(self) -> bool:
        """Whether the densities are not, or no longer, those of the rows that training visits."""
        moved = self.trunk is not None and self.trunk.moved
        return self._outdated or moved or self._loader is not self.trainer.train_dataloader

    def refresh(self, *, new_epoch: bool) -> bool:
        """Fit them if they are stale; False if too little of a stream has passed by for that."""
        if not self.options.fits or not self.stale:
            return True
        loader = self.trainer.train_dataloader
        if is_stream(loader) and not self._streamed_enough(new_epoch):
            return False
        self._fit()
        self._loader, self._outdated = loader, False
        return True

    def keep(self, batch: Any) -> bool:
        """Keep a batch that a step sees, if it is of a stream, which cannot be read twice; True when they are enough.

        Raises:
            ValueError: If several processes see different streams.
        """
        if not self.options.fits or not is_stream(self.trainer.train_dataloader):
            return False
        if self.trainer.world_size > 1:
            raise ValueError(
                f"densities cannot be fitted to a stream in {self.trainer.world_size} processes, which see different "
                "rows: use backend 'running', or a data set that can be read twice"
            )
        self._streamed.append(copy.deepcopy(batch))
        return self._streamed_enough(False)

    def encode(self, x: Inputs) -> Tensor:
        """Rows of a table as the densities know them, `(B, D)`."""
        if isinstance(x, Tensor):
            return encode_rows(x, None, ())
        return encode_rows(x.get("continuous"), x.get("categorical"), self.host.cardinality)

    def report(self) -> dict[str, float]:
        """Means over the targets, and with several also those of each."""
        reports = [each.report() for each in self.each]
        values: dict[str, float] = {}
        for key in LOGGED:
            found = [float(report[key]) for report in reports]
            if key == "clean_accuracy" and not self.options.joint:
                found = self.accuracy
            values[key] = sum(found) / len(found)
            if len(found) > 1:
                values.update({f"{key}_{i}": value for i, value in enumerate(found)})
        return {key: value for key, value in values.items() if not math.isnan(value)}

    def state_dict(self) -> dict[str, Any]:
        """What a training needs to go on."""
        return {
            "stale": self.stale,
            "accuracy": self.accuracy,
            "each": [relabeling.state_dict() for relabeling in self.each],
        }

    def load_state_dict(self, state: dict[str, Any], *, fitted: bool) -> bool:
        """Go on from a state; False if the densities keep none and are fitted anew."""
        densities = [each.relabeler.density for each in self.each]
        if fitted and not all(isinstance(each, nn.Module) and getattr(each, "keeps_state", True) for each in densities):
            return False
        for relabeling, saved in zip(self.each, state["each"], strict=True):
            relabeling.load_state_dict(saved)
            relabeling.to(self.module.device)
        self.accuracy = state["accuracy"]
        if fitted:
            self._loader = self.trainer.train_dataloader
            self._outdated = state["stale"] or bool(self.trainer.reload_dataloaders_every_n_epochs)  # type: ignore[attr-defined]
        return True

    def _fit(self) -> None:
        rows, target = training_rows(self.trainer, self.module, self._read, self._streamed or None)
        for i, relabeling in enumerate(self.each):
            relabeler = relabeling.relabeler
            inner: Any = getattr(relabeler.density, "density", relabeler.density)
            knows = isinstance(relabeler.density, Density) or isinstance(inner, Density | FromClassifier)
            known = {"n_classes": self.host.n_classes[i]} if knows else {}
            self.accuracy[i] = held_out_accuracy(relabeler, rows, target[:, i], **known)
            if hasattr(inner, "verbose") and "verbose" not in (self.options.backend_params or {}):
                inner.verbose = shows_progress(self.trainer)
            relabeler.fit(rows, target[:, i], **known)
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:N_REFERENCE].to(rows.device)
        self.samples = TrainingSamples(rows[chosen], target[chosen, 0])
        if self.trunk is not None:
            self.trunk.mark()

    def _streamed_enough(self, new_epoch: bool) -> bool:
        n_rows = sum(len(self.host.read(batch)[1]) for batch in self._streamed)
        return n_rows >= N_STREAMED or (n_rows > 0 and new_epoch)

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Rows `(B, D)` as the densities know them, and targets `(B, T)`."""
        x, target = self.host.read(batch)
        if not self.options.latent:
            return self.encode(x), target
        watch = HeadWatch(self.host.name)
        handle = self.host.head.register_forward_hook(watch, with_kwargs=True)
        try:
            self.host.forward(batch)
        finally:
            handle.remove()
        return watch.features(None, len(target)), target

    def _make(self, n_classes: int) -> Relabeling:
        options = self.options
        params = dict(options.backend_params or {})
        blend: dict[str, Any] = {name: getattr(options, name) for name in ("gamma", "priors", "temperature")}
        left_out: dict[str, Any] = {"leave_parents_out": options.leave_parents_out, "cross_fit": options.cross_fit}
        if options.joint:
            relabeling = Relabeling(n_classes, top_k=options.top_k or 2)
            relabeling.relabeler = GenLabel(RunningGaussian(n_classes, **params), top_k=options.top_k or 2, **blend)
            return relabeling
        # The backend's name, or a copy of it: each target and each training fits its own.
        own = options.backend if isinstance(options.backend, str) else copy.deepcopy(options.backend)
        if isinstance(own, CrossFit):  # around what knows of categories, too
            own, left_out["cross_fit"] = own.density, own.n_folds
        if self.host.cardinality and not options.latent and not isinstance(own, FromClassifier):
            density: Any = MixedTypes(cardinality=self.host.cardinality, continuous=own, continuous_params=params)
        else:
            density = make_backend(own, **params)
        return Relabeling(n_classes, relabeler=GenLabel(density, top_k=options.top_k, **blend, **left_out))
