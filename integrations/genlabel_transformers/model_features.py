"""Features of a model of transformers: what the last layer of its classifier is given."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from genlabel_plugins import HeadFeatures


class ModelFeatures(HeadFeatures):
    """Pooled features of a classifier, `(B, D)`: the input of its last linear layer with one output per class.

    Args:
        model: Model for the classification of images, sequences or tables.
        head: Name of the module whose input are the features, as in `model.named_modules()`; by default it is found.
        n_classes: Number of classes C; by default `model.config.num_labels`.

    Raises:
        ValueError: If there is no such layer, or it is given a row of features for each token.

    Example:
        >>> import torch
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> model = ViTForImageClassification(ViTConfig(**size, image_size=8, patch_size=4, num_labels=3))
        >>> ModelFeatures(model)({"pixel_values": torch.zeros(5, 3, 8, 8)}).shape
        torch.Size([5, 8])
    """

    def __init__(self, model: nn.Module, head: str | None = None, *, n_classes: int | None = None) -> None:
        n_classes = getattr(getattr(model, "config", None), "num_labels", None) if n_classes is None else n_classes
        if head is None:
            head = _last_linear(model, n_classes)
        super().__init__(model, head)
        self.head = head
        self.handles.append(self.model.get_submodule(head).register_forward_pre_hook(_refuse_tokens))

    def run(self, x: Any) -> Any:
        """Output of the model for a batch, a mapping of its arguments."""
        return self.model(**x)


def _last_linear(model: nn.Module, n_classes: int | None) -> str:
    found: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == n_classes
    ]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {n_classes} outputs: name the module whose input are the "
            "features with head="
        )
    return found[-1]


def _refuse_tokens(head: nn.Module, args: tuple[Tensor, ...]) -> None:
    if args and args[0].ndim != 2:
        raise ValueError(
            f"the head must be given one row of pooled features per sample, (B, D), got {tuple(args[0].shape)}: name a "
            "module behind the pooling with head="
        )


def n_classes_of_model(model: Any) -> int:
    """Number of classes in the config of a model.

    Raises:
        ValueError: If it is not one of single classes.
    """
    config = getattr(model, "config", None)
    n_classes = getattr(config, "num_labels", None)
    problem = getattr(config, "problem_type", None)
    if not isinstance(n_classes, int) or n_classes < 2 or problem not in (None, "single_label_classification"):
        raise ValueError(
            f"GenLabelTrainer is for classification with num_labels of 2 or more in the model's config, got "
            f"num_labels={n_classes} and problem_type={problem!r}: or pass relabeling=Relabeling(n_classes)"
        )
    return n_classes
