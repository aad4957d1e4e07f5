"""Features of a timm model: what its classifier sees."""

from __future__ import annotations

from typing import Any

from torch import nn

from genlabel_plugins import HeadFeatures

try:
    from timm.utils.model import unwrap_model
except ModuleNotFoundError as error:
    if error.name != "timm":
        raise
    raise ModuleNotFoundError("genlabel_timm needs timm: pip install 'genlabel-plugins[timm]'") from error


class ModelFeatures(HeadFeatures):
    """The input of a timm model's classifier, `(B, D)`.

    A model with two heads (distilled DeiT and PiT, LeViT, EfficientFormer, SwiftFormer) gives the mean of their inputs,
    one with a head per branch (CrossViT) their concatenation.

    Args:
        model: A timm model, or any module with `get_classifier`.

    Raises:
        ValueError: If the model has no classifier to tap.

    Example:
        >>> import timm, torch
        >>> features = ModelFeatures(timm.create_model("test_resnet", num_classes=10))
        >>> features(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 96])
    """

    def __init__(self, model: nn.Module) -> None:
        model = unwrap_model(model)
        heads, concatenated = classifier_inputs(model)
        super().__init__(model, heads, concatenated=concatenated)


def classifier_inputs(model: Any) -> tuple[list[nn.Module], bool]:
    """Modules whose inputs are the features, and whether these are to be concatenated."""
    if not hasattr(model, "get_classifier"):
        raise ValueError(f"model must have get_classifier, as timm's models do, got {type(model).__name__}")
    head = model.get_classifier()
    if isinstance(head, (tuple, nn.ModuleList)):
        heads, concatenated = list(head), isinstance(head, nn.ModuleList)
    else:
        heads, concatenated = [getattr(head, "fc", head)], False  # Sequencer2D's classifier pools before its fc
    if any(isinstance(module, nn.Identity) for module in heads):
        raise ValueError(f"{type(model).__name__} has no classifier to tap: create it with num_classes > 0")
    return heads, concatenated
