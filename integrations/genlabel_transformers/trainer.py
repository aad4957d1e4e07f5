"""GenLabelTrainer: the Trainer of transformers, mixing and relabeling in its training step."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from genlabel_plugins import Mixed, Relabeling
from genlabel_plugins._checks import check_stop_mixing, check_switch
from genlabel_plugins._files import write_whole
from genlabel_plugins.mixing import clean_first, make_mixer, one_hot
from genlabel_transformers.layer_mix import Layer, LayerMix
from genlabel_transformers.model_features import ModelFeatures, n_classes_of_model

try:
    from transformers import Trainer
    from transformers.trainer_utils import get_last_checkpoint
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ModuleNotFoundError(
        "genlabel_transformers needs transformers: pip install 'genlabel-plugins[transformers]'"
    ) from error

STATE_NAME = "genlabel.pt"  # in a checkpoint
Space = Literal["input", "latent"]


class GenLabelTrainer(Trainer):  # type: ignore[misc]
    r"""Mix each training batch and correct its labels; everything else is the Trainer's.

    Training minimizes the cross-entropy of soft labels, with the Trainer's label smoothing, divided as its own loss is
    under gradient accumulation. A `compute_loss_func` is called with the soft labels `(B, C)` in place of class
    indices. Evaluation and prediction are the Trainer's own, on clean rows. For a Trainer of your own:
    `class Mine(GenLabelTrainer, YourTrainer)`.

    Args:
        *args: Positional arguments of `Trainer`.
        mix: `"mixup"`, `"cutmix"`, `"column_cutmix"` or a mixer, a callable `(x, target) -> Mixed`.
        relabeling: Corrects the labels; by default `Relabeling(n_classes)`, Algorithm 3. It counts batches as they pass
            the model, several a step under gradient accumulation.
        layer: What is mixed: `"input"`, floating-point inputs such as images; `"embedding"`, the word embeddings of
            `input_ids`, attended to where either text has words; `"head"`, the pooled features of any model.
        space: What the relabeling knows: `"latent"`, pooled features (Algorithms 2 and 3), or `"input"` (Algorithm 1).
        head: Name of the module whose input are the pooled features; by default the last linear layer with as many
            outputs as classes.
        keep_clean: Train on the clean batch beside the mixed one, at equal weight.
        stop_mixing: Epoch from which on rows stay as they are, or the share of all steps before it.
        **kwargs: Keyword arguments of `Trainer`.

    Raises:
        ValueError: On options that do not go together, or a model or batch that cannot be mixed so.

    Example:
        >>> from tempfile import mkdtemp
        >>> from transformers import TrainingArguments, ViTConfig, ViTForImageClassification
        >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> model = ViTForImageClassification(ViTConfig(**size, image_size=8, patch_size=4, num_labels=3))
        >>> rows = [{"pixel_values": torch.randn(3, 8, 8), "labels": i % 3} for i in range(16)]
        >>> arguments = TrainingArguments(mkdtemp(), max_steps=1, save_strategy="no", report_to=[], use_cpu=True)
        >>> trainer = GenLabelTrainer(model, arguments, train_dataset=rows, relabeling=Relabeling(3, gamma=0.3))
        >>> trainer.relabeling.gamma, trainer.layer
        (0.3, 'input')

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 1 to 3.
    """

    def __init__(
        self,
        *args: Any,
        mix: str | Callable[..., Mixed] = "mixup",
        relabeling: Relabeling | None = None,
        layer: Layer = "input",
        space: Space = "latent",
        head: str | None = None,
        keep_clean: bool = False,
        stop_mixing: int | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.relabeling = Relabeling(n_classes_of_model(self.model)) if relabeling is None else relabeling
        if not isinstance(self.relabeling, Relabeling):
            raise ValueError(f"relabeling must be a Relabeling, as of a fitted relabeler, got {relabeling!r}")
        n_classes = self.relabeling.n_classes
        if space not in get_args(Space):
            raise ValueError(f"space must be one of {get_args(Space)}, got {space!r}")
        if space == "input" and (layer != "input" or self.relabeling.joint):
            raise ValueError(
                "space='input' goes with layer='input' and a Relabeling of a fitted relabeler, got "
                f"layer={layer!r} and relabeler={None if self.relabeling.joint else 'one'}"
            )
        if self.relabeling.wants_parents and not (space == "input" or layer == "head" or keep_clean):
            raise ValueError(
                "leave_parents_out and cross_fit need features of clean rows, as with keep_clean=True, layer='head' or "
                "space='input'"
            )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"GenLabelTrainer runs one process per GPU, got n_gpu={self.args.n_gpu}: start it with torchrun"
            )
        if layer == "embedding" and self.is_fsdp_enabled:
            raise ValueError("layer='embedding' needs whole word embeddings, which FSDP shards: use layer='head'")
        if self.args.per_device_train_batch_size == 1:
            warnings.warn(
                "per_device_train_batch_size is 1: a row alone has no partner, so none is mixed", stacklevel=2
            )
        check_stop_mixing(stop_mixing)
        check_switch("keep_clean", keep_clean)
        self.layer, self.space, self.head, self.keep_clean, self.stop_mixing = (
            layer,
            space,
            head,
            keep_clean,
            stop_mixing,
        )
        self.mix = make_mixer(mix, n_classes=n_classes) if isinstance(mix, str) else mix
        self._layer_mix = LayerMix(self.mix, layer, keep_clean=keep_clean)
        self._features: ModelFeatures | None = None
        self._trained_on_mixed = False
        self._attached().remove()  # a model without a head is refused now
        self._features = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; a training that is resumed goes on with the statistics and densities in its checkpoint."""
        checkpoint = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = get_last_checkpoint(self.args.output_dir)
        self.relabeling.forget()
        if checkpoint:
            self._resume(str(checkpoint))
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            if self._features is not None:
                self._features.remove()
            self._features = None

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The Trainer's step of one batch.

        Raises:
            RuntimeError: If a `compute_loss` of yours trained without the mixed rows or without their labels.
        """
        self._trained_on_mixed = False
        loss: Tensor = super().training_step(*args, **kwargs)
        if not self._trained_on_mixed:
            raise RuntimeError(
                f"{type(self).__name__} trained without the labels of mixed rows: its compute_loss must call "
                "compute_loss_func, or make way for a loss that is passed as compute_loss_func="
            )
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Loss of a batch: of mixed rows and their labels in training, the Trainer's own in evaluation."""
        if not model.training or self._stopped():
            self._trained_on_mixed = True
            return super().compute_loss(model, inputs, *args, **kwargs)
        inputs = dict(inputs)
        target = self._target(inputs.pop("labels", None))
        features = self._attached()
        own: Any = vars(self)["compute_loss_func"]
        if self.relabeling.wants_clean and self.layer != "head" and not self.keep_clean:
            self.relabeling.observe(features(inputs), target)

        def of_mixed(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Any:
            self._trained_on_mixed = True
            y = self._labels(features, target)
            if num_items_in_batch is not None and len(y) != len(target):
                num_items_in_batch = num_items_in_batch * (len(y) / len(target))
            if own is None:
                return self._cross_entropy(outputs, y, num_items_in_batch)
            try:
                return own(outputs, y, num_items_in_batch=num_items_in_batch)
            except (IndexError, RuntimeError, TypeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                raise ValueError(
                    "compute_loss_func must take soft labels (B, C), as torch.nn.functional.cross_entropy does, got "
                    f"{getattr(own, '__name__', own)!r}, which fails on them: {error}"
                ) from error

        mixed = self._layer_mix.inputs(features.model, inputs, target)
        # The Trainer calls the model and scales the loss: it is handed the labels as those of a loss of the user's.
        self.compute_loss_func = of_mixed
        try:
            return super().compute_loss(model, {**mixed, "labels": target}, *args, **kwargs)
        finally:
            self.compute_loss_func = own

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what became of the labels beside the loss of the training."""
        if "loss" in logs:
            report = self.relabeling.report().items()
            numbers = {f"genlabel_{name}": float(value) for name, value in report if not isinstance(value, list)}
            logs = logs | {name: value for name, value in numbers.items() if not math.isnan(value)}
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and in a checkpoint all that a resumed training needs."""
        super().save_model(output_dir, _internal_call)
        if not self.is_in_train:
            return
        folder = output_dir or self.args.output_dir
        if self.args.should_save:
            _write(os.path.join(folder, STATE_NAME), self.relabeling.state_dict())
        generator = getattr(self.mix, "generator", None)
        if generator is not None:  # each process draws its own numbers
            os.makedirs(folder, exist_ok=True)
            _write(os.path.join(folder, self._generator_name), {"state": generator.get_state()})

    def _stopped(self) -> bool:
        """Whether rows stay as they are from now on."""
        stop, state = self.stop_mixing, self.state
        if stop is None:
            return False
        return bool(state.epoch >= stop if stop >= 1 else state.global_step >= stop * state.max_steps)

    @property
    def _generator_name(self) -> str:
        return f"genlabel_generator_{self.args.process_index}.pt"

    def _resume(self, checkpoint: str) -> None:
        path = os.path.join(checkpoint, STATE_NAME)
        if not os.path.exists(path):
            warnings.warn(
                f"training goes on from a checkpoint without {STATE_NAME}, so statistics and warm-up start anew: save "
                "with GenLabelTrainer",
                stacklevel=3,
            )
            return
        try:
            self.relabeling.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise ValueError(
                f"{STATE_NAME} in {checkpoint!r} is of another relabeling than this Trainer's: {error}"
            ) from error
        generator: Any = getattr(self.mix, "generator", None)
        path = os.path.join(checkpoint, self._generator_name)
        if generator is not None and os.path.exists(path):
            generator.set_state(torch.load(path, map_location="cpu", weights_only=True)["state"])

    def _attached(self) -> ModelFeatures:
        """Features of the model in training, hooked from the first step to the last."""
        if self._features is None:
            self._features = ModelFeatures(self.model, self.head, n_classes=self.relabeling.n_classes)
            head = self._features.model.get_submodule(self._features.head)
            self._features.handles.append(head.register_forward_pre_hook(self._layer_mix))
        return self._features

    def _target(self, labels: Any) -> Tensor:
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 1:
            seen = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else repr(labels)
            raise ValueError(f"labels must be one class index per row, (B,), got {seen}")
        n_classes = self.relabeling.n_classes
        known = ((labels >= 0) & (labels < n_classes)).all()
        torch._assert_async(known, f"labels must lie in 0..{n_classes - 1}: a row without a class has no mixture")
        return labels

    def _labels(self, features: ModelFeatures, target: Tensor) -> Tensor:
        """Labels of the rows that the model was just given, `(R, C)`, by the features of that forward."""
        mixed, seen = self._layer_mix.take(), features.take()
        if mixed is None or seen is None:
            raise ValueError(f"{type(features.model).__name__} ran without calling its head {features.head!r}")
        if self.layer == "head":
            clean, rows = seen, mixed.x.detach()  # type: ignore[union-attr]
        else:
            n_clean = len(target) if self.keep_clean else 0
            clean, rows = seen[:n_clean], seen[n_clean:]
        if self.relabeling.wants_clean and len(clean):
            self.relabeling.observe(clean, target.to(clean.device))
        rows = mixed.x if self.space == "input" else rows
        if not isinstance(rows, Tensor):
            raise ValueError(f"space='input' knows one input, got {sorted(rows)}: use space='latent'")
        y_mix, is_mixed = mixed.y_mix.to(rows.device), mixed.is_mixed.to(rows.device)
        parents = None
        if self.relabeling.wants_parents:
            parents = mixed.parents(mixed.clean if self.space == "input" else clean)  # type: ignore[arg-type]
        y = self.relabeling.label(rows, y_mix, is_mixed, parents)
        if self.keep_clean:
            y = clean_first(one_hot(target.to(y.device), y.shape[1], y), y)  # type: ignore[assignment]
        return y

    def _cross_entropy(self, outputs: Any, y: Tensor, num_items_in_batch: Any) -> Tensor:
        """Cross-entropy of soft labels, divided as the Trainer divides that of class indices."""
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        logits = logits.to(torch.promote_types(logits.dtype, y.dtype))
        how = {"label_smoothing": self.args.label_smoothing_factor}
        if num_items_in_batch is None:
            loss: Tensor = functional.cross_entropy(logits, y.to(logits), **how)
        else:
            loss = functional.cross_entropy(logits, y.to(logits), reduction="sum", **how) / num_items_in_batch
        return loss


def _write(path: str, state: Any) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())
