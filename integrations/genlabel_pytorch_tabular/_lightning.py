"""Lightning under either of its names, `pytorch_lightning` or `lightning.pytorch`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

NAMES = ("pytorch_lightning", "lightning.pytorch")


def _import(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise
        return False
    return True


LOADED = [name for name in NAMES if name in sys.modules] or [name for name in NAMES if _import(name)][:1]
if not LOADED:
    raise ModuleNotFoundError("GenLabelCallback needs pytorch-lightning: pip install 'genlabel-plugins[tabular]'")

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.utilities.seed import isolate_rng
else:  # whoever has loaded both may train with either
    Callback = type("Callback", tuple(import_module(name).Callback for name in LOADED), {})
    isolate_rng = import_module(f"{LOADED[0]}.utilities.seed").isolate_rng

__all__ = ["Callback", "isolate_rng"]
