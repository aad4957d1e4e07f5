"""Configs of pytorch-tabular with the fields of GenLabel."""

from dataclasses import dataclass, field, make_dataclass
from functools import lru_cache
from typing import Any, Dict, Optional, get_args  # noqa: UP035 - OmegaConf reads these

from genlabel_plugins.mixing import PairingName
from genlabel_pytorch_tabular.options import Mix, Options, Space

try:
    from pytorch_tabular.config import ModelConfig, OptimizerConfig, TrainerConfig
except ModuleNotFoundError as error:
    if error.name != "pytorch_tabular":
        raise
    raise ModuleNotFoundError(
        "genlabel_pytorch_tabular needs pytorch-tabular: pip install 'genlabel-plugins[tabular]'"
    ) from error


@dataclass
class GenLabelFields:
    """Fields that any config of pytorch-tabular may carry; `GenLabelCallback` says what each does.

    Configs merge into one: give the fields to one of them, for those of an `OptimizerConfig` overrule a
    `TrainerConfig`'s, and these a model's.
    """

    genlabel: bool = field(default=False, metadata={"help": "Mix batches and correct their labels (GenLabel)"})
    genlabel_backend: str = field(
        default="gm", metadata={"help": "Class-conditional density, or 'running' for Algorithm 3"}
    )
    genlabel_gamma: float = field(default=0.5, metadata={"help": "Trust in the posterior, in [0, 1]"})
    genlabel_backend_params: Dict[str, Any] = field(  # noqa: UP006
        default_factory=dict, metadata={"help": "Parameters of the density"}
    )
    genlabel_priors: str = field(
        default="uniform", metadata={"help": "Class priors of the posterior", "choices": ["uniform", "empirical"]}
    )
    genlabel_top_k: Optional[int] = field(  # noqa: UP045
        default=None, metadata={"help": "Most likely classes that a posterior keeps"}
    )
    genlabel_temperature: float = field(default=1.0, metadata={"help": "Divides the log-posterior; above 1 softens it"})
    genlabel_alpha: float = field(default=1.0, metadata={"help": "lam is drawn from Beta(alpha, alpha)"})
    genlabel_mix: str = field(
        default="mixup",
        metadata={"help": "How rows are mixed", "choices": [each for each in get_args(Mix) if each != "cutmix"]},
    )
    genlabel_pairing: str = field(
        default="permutation", metadata={"help": "Which rows meet", "choices": list(get_args(PairingName))}
    )
    genlabel_per_sample: Optional[bool] = field(  # noqa: UP045
        default=None, metadata={"help": "Draw one lam per row instead of one per batch"}
    )
    genlabel_space: str = field(
        default="input", metadata={"help": "Where the densities live", "choices": list(get_args(Space))}
    )
    genlabel_warmup_epochs: Optional[int] = field(  # noqa: UP045
        default=None, metadata={"help": "Ordinary epochs before mixing begins; by default a fifth in latent space"}
    )
    genlabel_keep_clean: bool = field(default=False, metadata={"help": "Train on the clean batch beside the mixed one"})
    genlabel_fresh_head: bool = field(
        default=False, metadata={"help": "Draw the head anew after the warm-up of Algorithm 2"}
    )
    genlabel_leave_parents_out: bool = field(
        default=False, metadata={"help": "Label as if the density had not seen the two rows that were mixed"}
    )
    genlabel_cross_fit: Optional[int] = field(  # noqa: UP045
        default=None, metadata={"help": "Folds by which any density leaves out the rows that were mixed"}
    )
    genlabel_stop_mixing: Optional[float] = field(  # noqa: UP045
        default=None, metadata={"help": "Epoch from which on rows stay as they are, or the share of epochs before it"}
    )

    def __post_init__(self) -> None:
        """Check the host's fields, then ours.

        Raises:
            ValueError: On a value out of range, naming it and the choices.
        """
        check_host = getattr(super(), "__post_init__", None)
        if check_host is not None:
            check_host()
        Options.of(vars(self))


@dataclass
class GenLabelTrainerConfig(GenLabelFields, TrainerConfig):  # type: ignore[misc]
    """`TrainerConfig` with the fields of GenLabel: `genlabel=True` is all that a script changes.

    Example:
        >>> GenLabelTrainerConfig(genlabel=True, genlabel_backend="kde", max_epochs=5).genlabel_alpha
        1.0
    """


@dataclass
class GenLabelOptimizerConfig(GenLabelFields, OptimizerConfig):  # type: ignore[misc]
    """`OptimizerConfig` with the fields of GenLabel, where the tuner of pytorch-tabular can search them."""


@lru_cache
def genlabel_model_config(config: type[ModelConfig]) -> type[ModelConfig]:
    """A model's config class with the fields of GenLabel, for sweeps and tuners that vary models.

    Example:
        >>> from pytorch_tabular.models import CategoryEmbeddingModelConfig
        >>> Config = genlabel_model_config(CategoryEmbeddingModelConfig)
        >>> Config(task="classification", genlabel=True).genlabel_gamma
        0.5
    """
    made = make_dataclass(f"GenLabel{config.__name__}", [], bases=(GenLabelFields, config))
    made.__doc__ = f"`{config.__name__}` with the fields of GenLabel."
    return made
