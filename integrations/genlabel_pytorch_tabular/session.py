"""Session: mixing and relabeling one module during one training.

What happens is decided around each training step as it really is. The step sees a mixed batch; the head, the embeddings
and the losses of the module have hooks, and its trunk is frozen, while it runs. Before and after it the module is an
ordinary one. What densities know is decided at the start of each epoch and again at its first batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genlabel_plugins import Mixed, Parents
from genlabel_plugins.mixing import clean_first, interpolate, one_hot
from genlabel_pytorch_tabular.hosts import host_of
from genlabel_pytorch_tabular.options import Options
from genlabel_pytorch_tabular.step import HeadWatch, Step, is_same, split_call
from genlabel_pytorch_tabular.table_mixing import make_row_mixer
from genlabel_pytorch_tabular.target_relabelings import TargetRelabelings
from genlabel_pytorch_tabular.trunk import Trunk, renew

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class Session:
    """All that lives while one module trains.

    Args:
        options: The callback's options.
        trainer: Trainer that is about to begin.
        module: Module that it trains.
        state: State of a session that this one goes on with.

    Raises:
        ValueError: If the module cannot be trained so, in one sentence.
    """

    def __init__(self, options: Options, trainer: Trainer, module: LightningModule, state: dict[str, Any]) -> None:
        self.options, self.trainer, self.module = options, trainer, module
        loaders: Any = trainer.train_dataloader
        if isinstance(loaders, list | tuple | dict):
            raise ValueError(f"GenLabelCallback mixes the rows of one loader, got {len(loaders)} that are combined")
        self.host = host_of(module)
        self.warmup = options.warmup(trainer.max_epochs)
        self.first_clean = options.first_clean(trainer.max_epochs)
        self.loss = self.host.loss
        self.losses = {self.loss, *(each for each in module.modules() if isinstance(each, nn.CrossEntropyLoss))}
        self.head = self.host.head if options.latent else None
        self.trunk = Trunk(module, self.host.head, self.loss) if options.freezes else None
        self.relabelings = TargetRelabelings(options, trainer, module, self.host, self.trunk)
        self.mix = make_row_mixer(options, self.host, self.relabelings.each[0].relabeler)
        self.watch = HeadWatch(self.host.name)
        self.mixing = False
        self.epoch = -1  # last one whose first batch was looked at
        self.batch_idx = self.first_idx = self.global_step = 0  # when the batch began
        self.step: Step | None = None
        self.known_targets: dict[int, int | None] = {}
        self.intrusion: dict[str, Tensor] = {}
        if state:
            self._resume(state)
        self.run_step = trainer.strategy.training_step
        vars(trainer.strategy)["training_step"] = self.training_step

    def close(self) -> None:
        """Leave the Trainer as it came; the module is so between steps."""
        vars(self.trainer.strategy).pop("training_step", None)

    def look(self) -> None:
        """Decide what the densities know and what is frozen, as things stand; begin mixing after the warm-up."""
        trainer = self.trainer
        if trainer.current_epoch < self.warmup or trainer.fit_loop._skip_backward:
            return
        if not self.relabelings.refresh(new_epoch=self.epoch != trainer.current_epoch):
            return
        if self.trunk is not None:
            if not self.mixing:
                self.trunk.freeze()
                if self.options.fresh_head and trainer.current_epoch == self.warmup:
                    renew(self.trunk.head, trainer.optimizers)
            self.trunk.look()
        self.mixing = True

    def start_epoch(self) -> None:
        """Look around, but for an epoch that training goes on within."""
        if self.epoch != self.trainer.current_epoch:
            self.look()

    def start_batch(self, batch_idx: int) -> None:
        """Expect a batch; look around again before the first of an epoch, since callbacks may have acted."""
        self.step, self.batch_idx, self.global_step = None, batch_idx, self.trainer.global_step
        if self.epoch != self.trainer.current_epoch:
            self.look()
            self.epoch = self.trainer.current_epoch
            self.known_targets.clear()
            self.first_idx = batch_idx

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run a training step on a mixed batch; Lightning calls it in place of its strategy's."""
        batch = args[0]
        if self.trainer.fit_loop._skip_backward:  # an epoch that only counts statistics of BatchNorm
            return self.run_step(*args, **kwargs)
        if not self.mixing and self.trainer.current_epoch >= self.warmup and self.relabelings.keep(batch):
            self.look()
        mixes = (self.mixing or self.options.joint) and self.trainer.current_epoch < self.first_clean
        if self.step is None and mixes:
            self.step = self._mix(batch)  # once, however often an optimizer evaluates the step
        self.watch.forwards.clear()
        frozen = self.trunk.held() if self.trunk is not None and self.mixing else nullcontext()
        with self._hooked(), frozen:
            output = self.run_step(*args, **kwargs)
        self.watch.forwards.clear()
        return output

    def check_loss(self) -> None:
        """Check that a mixed batch is trained on with its labels.

        Raises:
            RuntimeError: If with those of unmixed rows.
        """
        if self.step is not None and self.step.mixed is not None and not self.step.n_calls:
            raise RuntimeError(f"{self.host.name} trained on a mixed batch without calling the module that is its loss")

    def report(self) -> dict[str, Any]:
        """What to log of the epoch."""
        report = self.relabelings.report()
        return {f"genlabel_{key}": value for key, value in (report | self.intrusion).items()} if self.mixing else {}

    def state_dict(self) -> dict[str, Any]:
        """All that a training needs to go on."""
        return {
            "epoch": self.trainer.current_epoch,
            "mixing": self.mixing,
            "frozen": None if self.trunk is None else list(self.trunk.frozen),
            "relabelings": self.relabelings.state_dict(),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        fitted = state["mixing"] and self.options.fits
        if not self.relabelings.load_state_dict(state["relabelings"], fitted=fitted):
            return
        self.mixing = state["mixing"]
        if self.trunk is not None and self.mixing:
            self.trunk.freeze(state["frozen"])
            self.trunk.mark()
        if self.trainer.current_epoch == state["epoch"]:  # within an epoch everything stays
            self.epoch, self.first_idx = state["epoch"], -1

    def _mix(self, batch: Any) -> Step:
        """Mix a batch in place."""
        x, target = self.host.read(batch)
        is_first = self.batch_idx == self.first_idx
        if not self.mixing:
            return Step(target, target, is_first)
        mixed = self.mix(x, target[:, 0])
        step = Step(target, target, is_first, mixed)
        if not self.options.latent:
            step.rows = self._mixed_rows(mixed)
            step.clean = self.relabelings.encode(x) if self.relabelings.each[0].wants_parents else None
        if self.options.doubles:
            step.written = torch.cat([target, target])
            self.host.write(batch, clean_first(x, mixed.x), step.written)
        else:
            self.host.write(batch, mixed.x, target)
        return step

    def _mixed_rows(self, mixed: Mixed) -> Tensor:
        """Mixed rows as the densities know them; mixed embeddings are mixed indicators, `(B, D)`."""
        rows = self.relabelings.encode(mixed.x)
        n_indicators = sum(self.host.cardinality)
        if self.options.space == "input" or not n_indicators:
            return rows
        numbers, own = rows.split([rows.shape[1] - n_indicators, n_indicators], dim=1)  # numbers are mixed already
        return torch.cat([numbers, interpolate(own, own[mixed.partner], mixed.lam)], 1)

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Hooks of a step, which the module has while the block runs."""
        handles = [each.register_forward_pre_hook(self._correct_labels, with_kwargs=True) for each in self.losses]
        if self.head is not None:
            handles.append(self.head.register_forward_hook(self.watch, with_kwargs=True))
        if self.options.space == "embedding":
            tables = [each for each in self.module.modules() if isinstance(each, nn.Embedding)]
            handles += [table.register_forward_hook(self._mix_embeddings) for table in tables]
        if self.step is not None and self.step.is_first and self.step.mixed is not None:
            others = [each for each in self.module.modules() if self.losses.isdisjoint(each.modules())]
            inside = {part for loss in self.losses for part in loss.modules()}
            handles += [
                each.register_forward_hook(self._refuse_classes, with_kwargs=True)
                for each in others
                if each not in inside
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _mix_embeddings(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Mix what a table of embeddings returns for a batch, `(B, *)`."""
        if self.step is None or self.step.mixed is None or len(output) != len(self.step.written):
            return None
        mixed = self.step.mixed
        clean, new = output[: -len(mixed.lam)], output[-len(mixed.lam) :]
        return torch.cat([clean, interpolate(new, new[mixed.partner], mixed.lam)])

    def _correct_labels(self, loss: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arguments of a loss, with corrected labels `(B, C)` for the targets."""
        step = self.step
        if step is None or loss not in self.losses:  # a copy of the module, made in a step, keeps its hooks
            return None
        values, others = split_call(loss, args, kwargs)
        if len(values) < 2:
            raise RuntimeError(f"{self.host.name} calls its loss without a target")
        index = step.index_of(values[1], self.known_targets)
        if index is None:
            if loss is self.loss and step.mixed is not None:
                raise RuntimeError(
                    f"{self.host.name} calls its loss with another target than the batch's, for which there is no "
                    "label of mixed rows: give that term a loss module of its own"
                )
            return None
        step.n_calls += 1
        if self.options.latent and step.rows is None:
            self._take_features(step, values[0])
        if step.mixed is None or step.rows is None:
            return None
        if index not in step.labels:
            step.labels[index] = self._label(step, step.mixed, step.rows, index)
        y = step.labels[index]
        if self.options.doubles and not self.options.keep_clean:
            values[0] = values[0][len(step.target) :]
        return (values[0], y.to(torch.promote_types(values[0].dtype, y.dtype)), *values[2:]), others

    def _take_features(self, step: Step, logits: Tensor) -> None:
        """Features of the forward that these logits come from; Algorithm 3 learns from the clean ones first."""
        n_rows = len(step.target)
        features = self.watch.features(logits, len(step.written))
        step.rows, step.clean = features[-n_rows:], features[:n_rows]
        if self.options.joint and not step.observed:
            step.observed = True
            for i, relabeling in enumerate(self.relabelings.each):
                relabeling.observe(features[:n_rows], step.target[:, i])

    def _label(self, step: Step, mixed: Mixed, rows: Tensor, index: int) -> Tensor:
        """Label of a target, `(B, C)`; with the clean batch in the loss its own labels come first."""
        y_mix, target = mixed.y_mix, step.target[:, index]
        if index:
            y_own = one_hot(target, self.host.n_classes[index], y_mix)
            y_mix = interpolate(y_own, y_own[mixed.partner], mixed.lam)
        elif step.is_first and self.relabelings.samples is not None:
            shares = self.relabelings.samples.intrusion(rows, mixed.target_i, mixed.target_j)
            self.intrusion["intrusion"] = shares.mean()
        relabeling, parents = self.relabelings.each[index], None
        if relabeling.wants_parents:
            assert step.clean is not None
            parents = Parents.in_batch(step.clean, target, mixed.partner)
        y = relabeling.label(rows, y_mix, mixed.is_mixed, parents)
        return clean_first(one_hot(target, y.shape[1], y), y) if self.options.keep_clean else y  # type: ignore[return-value]

    def _refuse_classes(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Refuse a module that learns from the classes of mixed rows."""
        learns = isinstance(output, Tensor) and output.requires_grad
        if learns and self.step is not None:
            columns = self.step.written.T
            if any(is_same(given, column) for given in (*args, *kwargs.values()) for column in columns):
                raise RuntimeError(
                    f"{self.host.name} gives the classes of mixed rows to {type(module).__name__}, which would learn "
                    "wrong ones: use torch.nn.CrossEntropyLoss, which is given their labels"
                )
