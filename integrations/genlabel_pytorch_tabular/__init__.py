"""GenLabel inside pytorch-tabular and Lightning.

Names are imported on demand: Lightning imports this package for every Trainer, to read the entry point `hook`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genlabel_pytorch_tabular.callback import GenLabelCallback
    from genlabel_pytorch_tabular.config import GenLabelOptimizerConfig, GenLabelTrainerConfig, genlabel_model_config

__all__ = ["GenLabelCallback", "GenLabelOptimizerConfig", "GenLabelTrainerConfig", "genlabel_model_config"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "callback" if name == "GenLabelCallback" else "config"
    return getattr(import_module(f"{__name__}.{home}"), name)
