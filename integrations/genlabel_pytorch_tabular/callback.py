"""GenLabelCallback: mixing and relabelling in the training loop of Lightning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from genlabel_plugins import Mixed, list_backends
from genlabel_pytorch_tabular.session import Session

try:
    from pytorch_lightning import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    if error.name != "pytorch_lightning":
        raise
    raise ModuleNotFoundError(
        "GenLabelCallback needs pytorch-lightning: pip install 'genlabel-plugins[tabular]'"
    ) from error

Mix = Literal["mixup", "cutmix", "generative"]
Space = Literal["input", "embedding", "latent"]
RUNNING = "running"  # the statistics of Algorithm 3, which are no backend: they are never fitted

FIELDS = {  # field of a config: argument of the callback
    "genlabel_backend": "backend",
    "genlabel_gamma": "gamma",
    "genlabel_backend_params": "backend_params",
    "genlabel_priors": "priors",
    "mixup_alpha": "alpha",
    "mix": "mix",
    "genlabel_space": "space",
    "genlabel_warmup_epochs": "warmup_epochs",
    "genlabel_keep_clean": "keep_clean",
    "genlabel_fresh_head": "fresh_head",
}


class GenLabelCallback(Callback):
    """Mix each training batch and correct its labels, in any Lightning training loop.

    For a model of pytorch-tabular there is nothing else to do. A LightningModule of your own keeps this contract:

    - a batch is a list `[x, target]`, as the default collate makes: inputs `(B, *)` and class indices `(B,)`;
    - `self.n_classes` is the number of classes;
    - `self.loss` is a module that takes soft labels, called once in a training step as `self.loss(logits, target)`;
      in its place of `target` it is given the corrected labels `(B, C)`;
    - for `space="latent"`, `self.head` is the module whose first input is the features, and `self(x)` runs it.

    Args:
        backend: Name of a registered density, an object with `fit` and `log_prob`, or `"running"`: in latent space,
            Gaussian class statistics that follow the features (Algorithm 3).
        gamma: Trust in the posterior, in [0, 1]; 0 is plain mixing.
        backend_params: Parameters that go with the backend's name; `beta` with `"running"`.
        priors: `"uniform"` (the paper), `"empirical"` (training frequencies) or one number per class.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        mix: `"mixup"` interpolates numbers and swaps categories, `"cutmix"` swaps whole columns, `"generative"` goes
            where the densities of two classes have the ratio that lam says; or a callable `(x, target) -> Mixed`.
        space: Where densities live: `"input"` (Algorithm 1), `"latent"`, the input of the head (Algorithms 2 and
            3), or `"embedding"`: rows are mixed after the embedding of their categories.
        warmup_epochs: Ordinary epochs before mixing begins. By default a fifth of all epochs, rounded up, where
            densities are fitted in latent space, as in the paper, and none elsewhere.
        keep_clean: Train on the clean batch beside the mixed one, at equal weight.
        fresh_head: Draw the head anew when Algorithm 2 freezes what is before it, as the paper's experiments do.

    Raises:
        ValueError: On an option out of range, naming the value and the choices.

    Example:
        >>> GenLabelCallback("kde", gamma=0.5).space
        'input'

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 1 to 3.
    """

    def __init__(
        self,
        backend: Any = "gm",
        *,
        gamma: float = 0.5,
        backend_params: Mapping[str, Any] | None = None,
        priors: Any = "uniform",
        alpha: float = 1.0,
        mix: Mix | Callable[..., Mixed] = "mixup",
        space: Space = "input",
        warmup_epochs: int | None = None,
        keep_clean: bool = False,
        fresh_head: bool = False,
    ) -> None:
        choices = [*list_backends(), RUNNING]
        if isinstance(backend, str) and backend not in choices:
            raise ValueError(f"backend must be one of {choices} or an object, got {backend!r}")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {gamma}")
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        if not callable(mix) and mix not in get_args(Mix):
            raise ValueError(f"mix must be one of {get_args(Mix)} or a callable, got {mix!r}")
        if space not in get_args(Space):
            raise ValueError(f"space must be one of {get_args(Space)}, got {space!r}")
        if warmup_epochs is not None and warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must be None or not negative, got {warmup_epochs}")
        if backend == RUNNING and space != "latent":
            raise ValueError(f"backend 'running' follows features and goes with space='latent', got {space!r}")
        if mix == "generative" and space != "input":
            raise ValueError(f"mix='generative' needs densities of the inputs and space='input', got {space!r}")
        if mix == "cutmix" and space == "embedding":
            raise ValueError("mix='cutmix' swaps whole columns, before any embedding: use space 'input' or 'latent'")
        if fresh_head and (space != "latent" or backend == RUNNING):
            raise ValueError("fresh_head goes with space='latent' and a backend that is fitted (Algorithm 2)")
        self.backend = backend
        self.gamma = gamma
        self.backend_params = backend_params
        self.priors = priors
        self.alpha = alpha
        self.mix = mix
        self.space = space
        self.warmup_epochs = warmup_epochs
        self.keep_clean = keep_clean
        self.fresh_head = fresh_head
        self._session: Session | None = None

    @classmethod
    def from_hparams(cls, hparams: Any) -> GenLabelCallback:
        """Make the callback that the fields of a config ask for; absent fields keep their defaults."""
        options = {argument: hparams[name] for name, argument in FIELDS.items() if name in hparams}
        return cls(**options)

    @property
    def joint(self) -> bool:
        """Whether densities follow the features during training (Algorithm 3)."""
        return bool(self.backend == RUNNING)

    def warmup(self, max_epochs: int | None) -> int:
        """Ordinary epochs before mixing begins.

        Raises:
            ValueError: If there is no epoch left to mix in.
        """
        limit = max_epochs if max_epochs is not None and max_epochs > 0 else None
        if self.warmup_epochs is None:
            fitted_late = self.space == "latent" and not self.joint
            return min(math.ceil((limit or 100) / 5), (limit or 100) - 1) if fitted_late else 0
        if limit is not None and self.warmup_epochs >= limit:
            raise ValueError(f"warmup_epochs must be below max_epochs={limit}, got {self.warmup_epochs}")
        return self.warmup_epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the module, in one sentence if it cannot be trained so, and hook into it."""
        self._close()
        self._session = Session(self, trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin mixing after the warm-up: fit the densities, freeze what Algorithm 2 freezes."""
        self._running().start_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Mix the batch in place."""
        self._running().start_batch(batch, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Forget the batch: what runs until the next one, such as validation, is not mixed."""
        self._running().end_batch(outputs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what happened to the labels."""
        report = self._running().report()
        if report:
            pl_module.log_dict(report, sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the module as it came."""
        if self._session is not None and not self._session.mixing:
            warnings.warn(
                f"training ended in epoch {trainer.current_epoch}, before the {self._session.warmup} warm-up epochs "
                "did: no label was corrected",
                stacklevel=2,
            )
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it came."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it came."""
        self._close()

    def _running(self) -> Session:
        if self._session is None:
            raise RuntimeError("GenLabelCallback has no training to act on: on_train_start comes first")
        return self._session

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def __getstate__(self) -> dict[str, Any]:
        # Lightning hangs `log` and `log_dict` on a callback, methods of the module in training.
        kept = {name: value for name, value in vars(self).items() if name not in ("log", "log_dict")}
        return {**kept, "_session": None}
