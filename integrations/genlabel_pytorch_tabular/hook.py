"""Lightning's entry points: a flag among the hyperparameters reaches every Trainer without a line of code."""

from __future__ import annotations

import os
import sys
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from genlabel_pytorch_tabular._lightning import NAMES, Callback

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class GenLabelHook(Callback):
    """Add a `GenLabelCallback` to the Trainer of a module whose hyperparameters say `genlabel=True`.

    Otherwise it does nothing. It pickles as Lightning's bare `Callback`, since pytorch-tabular saves the callbacks of a
    Trainer with the model: what is saved loads where this package is not installed.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the flag. A `GenLabelCallback` that is there already has the say."""
        if stage != "fit" or not getattr(pl_module.hparams, "genlabel", False):
            return
        from genlabel_pytorch_tabular.callback import GenLabelCallback  # noqa: PLC0415
        from genlabel_pytorch_tabular.options import Options  # noqa: PLC0415

        if any(isinstance(callback, GenLabelCallback) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            return
        hparams: Any = pl_module.hparams
        config: Any = sys.modules.get("omegaconf")  # which makes those of pytorch-tabular
        is_config = config is not None and isinstance(hparams, config.DictConfig)
        options = config.OmegaConf.to_container(hparams) if is_config else hparams
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
        if get_spawning_popen() is not None:
            return super().__reduce__()
        host = next(sys.modules[name] for name in NAMES if name in sys.modules)
        return host.Callback, ()


def make_callbacks() -> list[Callback]:
    """Callbacks for a Trainer of `pytorch_lightning`: none unless pytorch-tabular is in use, or if disabled."""
    return make_lightning_callbacks() if "pytorch_tabular" in sys.modules else []


def make_lightning_callbacks() -> list[Callback]:
    """Callbacks for a Trainer of `lightning.pytorch`, which trains modules of your own: none if they are disabled."""
    return [] if os.environ.get("GENLABEL_DISABLE_HOOK") == "1" else [GenLabelHook()]
