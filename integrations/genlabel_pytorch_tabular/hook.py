"""Lightning's entry point: the flag in a pytorch-tabular config reaches every Trainer without a line of code."""

from __future__ import annotations

import os
import sys
from multiprocessing.context import get_spawning_popen
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class GenLabelHook(Callback):
    """Add a `GenLabelCallback` to the Trainer of a module whose hyperparameters say `genlabel=True`.

    Otherwise it does nothing. It pickles as a bare `Callback`, since pytorch-tabular saves the callbacks of a
    Trainer with the model: what is saved loads where this package is not installed.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the flag. A `GenLabelCallback` that is there already has the say."""
        if stage != "fit" or not getattr(pl_module.hparams, "genlabel", False):
            return
        from omegaconf import DictConfig, OmegaConf  # noqa: PLC0415

        from genlabel_pytorch_tabular.callback import GenLabelCallback  # noqa: PLC0415
        from genlabel_pytorch_tabular.options import Options  # noqa: PLC0415

        if any(isinstance(callback, GenLabelCallback) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            return
        hparams: Any = pl_module.hparams
        options = OmegaConf.to_container(hparams) if isinstance(hparams, DictConfig) else hparams
        added = GenLabelCallback(**vars(Options.of(options)))
        # A new list: the old one is pytorch-tabular's own, which it saves with the model.
        callbacks = list(trainer.callbacks)  # type: ignore[attr-defined]
        callbacks.insert(callbacks.index(self) + 1, added)
        trainer.callbacks = callbacks  # type: ignore[attr-defined]
        self._added = added
        added.setup(trainer, pl_module, stage)  # Lightning goes through the old list

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the callback away again: the next module of this Trainer may say otherwise."""
        self._remove(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the callback away again: no teardown follows an exception."""
        self._remove(trainer, pl_module)

    def _remove(self, trainer: Trainer, pl_module: LightningModule) -> None:
        added = self.__dict__.pop("_added", None)
        if added is not None:
            added.teardown(trainer, pl_module, "fit")
            trainer.callbacks = [each for each in trainer.callbacks if each is not added]  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        # A Trainer that is sent to a spawned process keeps its hook.
        return super().__reduce__() if get_spawning_popen() is not None else (Callback, ())


def make_callbacks() -> list[Callback]:
    """Callbacks for a new Trainer: none unless pytorch-tabular is in use and `GENLABEL_DISABLE_HOOK` is not 1."""
    if "pytorch_tabular" not in sys.modules or os.environ.get("GENLABEL_DISABLE_HOOK") == "1":
        return []
    return [GenLabelHook()]
