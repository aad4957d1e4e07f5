"""GenLabelCallback: mixing and relabeling in the training loop of Lightning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from genlabel_plugins import Mixed
from genlabel_plugins.mixing import Pairing
from genlabel_pytorch_tabular._lightning import Callback
from genlabel_pytorch_tabular.options import Mix, Options, Space
from genlabel_pytorch_tabular.session import Session
from genlabel_pytorch_tabular.table_checks import check_tables

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from torch import Tensor


class GenLabelCallback(Callback):
    """Mix each training batch and correct its labels, in any Lightning training loop.

    For a model of pytorch-tabular there is nothing else to do. A LightningModule of your own keeps this contract:

    - a batch is a list `[x, target]`, as the default collate makes: inputs `(B, *)` and class indices `(B,)`;
    - `self.n_classes` is the number of classes;
    - `self.loss` is a module that takes soft labels, called in a training step as `self.loss(logits, target)` with the
      batch's own target; in its place it is given the corrected labels `(B, C)`, and so is any other
      `torch.nn.CrossEntropyLoss` of the module;
    - for `space="latent"`, `self.head` is the module whose first input is the features, and `self(x)` runs it.

    Args:
        backend: Name of a registered density, an object with `fit` and `log_prob`, or `"running"`: in latent space,
            Gaussian class statistics that follow the features (Algorithm 3).
        gamma: Trust in the posterior, in [0, 1]; 0 is plain mixing.
        backend_params: Parameters that go with the backend's name; `beta` with `"running"`.
        priors: `"uniform"` (the paper), `"empirical"` (training frequencies) or one number per class.
        top_k: Most likely classes that a posterior keeps; by default all, and 2 with `"running"`.
        temperature: Divides the log-posterior; above 1 softens it.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        mix: `"mixup"` interpolates numbers and swaps categories, `"cutmix"` swaps boxes of images, `"column_cutmix"`
            whole columns of tables, `"generative"` goes where the densities of two classes have the ratio that lam
            says; or a callable `(x, target) -> Mixed`.
        pairing: Which rows meet: `"permutation"`, `"flip"`, `"nearest_other"` or a callable, as for any mixer.
        per_sample: Draw one `lam` per row instead of one per batch; by default only where `mix="generative"`.
        space: Where densities live: `"input"` (Algorithm 1), `"latent"`, the input of the head (Algorithms 2 and
            3), or `"embedding"`: rows are mixed after the embedding of their categories.
        warmup_epochs: Ordinary epochs before mixing begins. By default a fifth of all epochs, rounded up, where
            densities are fitted in latent space, as in the paper, and none elsewhere.
        keep_clean: Train on the clean batch beside the mixed one, at equal weight.
        fresh_head: Draw the head anew when Algorithm 2 freezes what is before it, as the paper's experiments do.
        leave_parents_out: Label each mixed row as if `"kde"`, `"nn"` or `"gm"` had not seen the two rows that it is of.
        cross_fit: The same for any backend, by that many folds; in latent space both take `keep_clean`.
        stop_mixing: Epoch from which on rows stay as they are, or the share of all epochs before it.

    Raises:
        ValueError: On an option out of range, naming the value and the choices.

    Example:
        >>> GenLabelCallback("kde", gamma=0.3).options.gamma
        0.3

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
        top_k: int | None = None,
        temperature: float = 1.0,
        alpha: float = 1.0,
        mix: Mix | Callable[..., Mixed] = "mixup",
        pairing: Pairing = "permutation",
        per_sample: bool | None = None,
        space: Space = "input",
        warmup_epochs: int | None = None,
        keep_clean: bool = False,
        fresh_head: bool = False,
        leave_parents_out: bool = False,
        cross_fit: int | None = None,
        stop_mixing: int | float | None = None,
    ) -> None:
        self.options = Options(
            backend=backend,
            gamma=gamma,
            backend_params=backend_params,
            priors=priors,
            top_k=top_k,
            temperature=temperature,
            alpha=alpha,
            mix=mix,
            pairing=pairing,
            per_sample=per_sample,
            space=space,
            warmup_epochs=warmup_epochs,
            keep_clean=keep_clean,
            fresh_head=fresh_head,
            leave_parents_out=leave_parents_out,
            cross_fit=cross_fit,
            stop_mixing=stop_mixing,
        )
        self._session: Session | None = None
        self._state: dict[str, Any] = {}  # of a session that is over, or that a checkpoint was made in

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint."""
        return "GenLabelCallback"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a second callback: rows would be mixed twice, and labels know of the second mixing alone."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(each, GenLabelCallback) for each in callbacks) > 1:
            raise ValueError("a Trainer takes one GenLabelCallback, got several: a batch is mixed once")
        if any(base.__name__ == "LearningRateFinder" for each in callbacks for base in type(each).__mro__):
            warnings.warn(
                "Lightning looks for a learning rate without callbacks, so that it finds that of unmixed training",
                stacklevel=2,
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the rows before the sanity check does, which comes before the training."""
        if trainer.sanity_checking:
            check_tables(trainer, doubled=self.options.doubles)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the module, in one sentence if it cannot be trained so."""
        self._close()
        check_tables(trainer, doubled=self.options.doubles)
        resumes = trainer.ckpt_path is not None
        if resumes and not self._state:
            warnings.warn(
                "training goes on from a checkpoint that holds nothing of GenLabelCallback, so statistics and "
                "densities start anew: have the callback in the Trainer that saves",
                stacklevel=2,
            )
        self._session = Session(self.options, trainer, pl_module, self._state if resumes else {})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin mixing after the warm-up: fit the densities, freeze what Algorithm 2 freezes."""
        self._running().start_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Expect a batch; Lightning does not announce an epoch that it resumes."""
        self._running().start_batch(batch_idx)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check that a mixed batch has its labels."""
        if pl_module.automatic_optimization:  # else the first backward pass may be that of another loss
            self._running().check_loss()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check that a mixed batch had its labels, where the step itself moves the weights."""
        if not pl_module.automatic_optimization and trainer.global_step > self._running().global_step:
            self._running().check_loss()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what happened to the labels."""
        report = self._running().report()
        if report:
            pl_module.log_dict(report, sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the Trainer as it came."""
        if self._session is not None and not self._session.mixing:
            warnings.warn(
                f"training ended in epoch {trainer.current_epoch}, before the {self._session.warmup} warm-up epochs "
                "did: no label was corrected",
                stacklevel=2,
            )
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the Trainer as it came."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the Trainer as it came."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: statistics, fitted densities, whether mixing has begun and what is frozen."""
        return self._state if self._session is None else self._session.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, in the next training."""
        self._state = state_dict

    def _running(self) -> Session:
        if self._session is None:
            raise RuntimeError("GenLabelCallback has no training to act on: on_train_start comes first")
        return self._session

    def _close(self) -> None:
        if self._session is not None:
            self._state = self._session.state_dict()
            self._session.close()
            self._session = None

    def __getstate__(self) -> dict[str, Any]:
        # Lightning hangs `log` and `log_dict` on a callback, methods of the module in training.
        kept = {name: value for name, value in vars(self).items() if name not in ("log", "log_dict")}
        return {**kept, "_session": None, "_state": {}}
