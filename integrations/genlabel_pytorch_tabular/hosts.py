"""What a session needs to know of the module it trains: pytorch-tabular's models, or any LightningModule."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins.mixing import Inputs

GROUPS = ("continuous", "categorical")


class PlainHost:
    """A LightningModule that keeps the contract of `GenLabelCallback`.

    Attributes:
        n_classes: Number of classes of each target.
        cardinality: Number of categories of each categorical column.
    """

    n_classes: Sequence[int]
    cardinality: Sequence[int] = ()

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.name = type(module).__name__
        if not isinstance(getattr(module, "n_classes", None), int):
            raise ValueError(f"{self.name} must have the attribute n_classes, the number of its classes")
        self.n_classes = [module.n_classes]  # type: ignore[list-item]

    def read(self, batch: Any) -> tuple[Inputs, Tensor]:
        """Inputs and targets `(B, T)` of a batch."""
        if not isinstance(batch, list) or len(batch) != 2:
            raise ValueError(f"a batch must be a list [x, target], got {type(batch).__name__}")
        x, target = batch
        if not isinstance(x, Tensor) or not isinstance(target, Tensor):
            raise ValueError(
                f"a batch must be a list [x, target] of tensors, got {type(x).__name__} and {type(target).__name__}"
            )
        return x, target[:, None]

    def write(self, batch: Any, x: Inputs, target: Tensor) -> None:
        """Put inputs and targets in the place of a batch's own."""
        batch[0], batch[1] = x, target[:, 0]

    def forward(self, batch: Any) -> None:
        """Run the module."""
        self.module(batch[0])

    @property
    def head(self) -> nn.Module:
        """Module whose input is the features.

        Raises:
            ValueError: If there is none, or one without weights, which is no classifier of features.
        """
        head = getattr(self.module, "head", None)
        if not isinstance(head, nn.Module) or not any(True for _ in head.parameters()):
            raise ValueError(f"space 'latent' needs a head with weights, and {self.name} has none: use space 'input'")
        return head

    @property
    def loss(self) -> nn.Module:
        """Loss of the module, once it is found to take soft labels.

        Raises:
            ValueError: If it is no module, or refuses them.
        """
        loss = getattr(self.module, "loss", None)
        if not isinstance(loss, nn.Module):
            raise ValueError(f"the loss of {self.name} must be a torch.nn.Module, got {loss!r}")
        parameter = next(self.module.parameters(), torch.empty(0))
        y = parameter.new_full((2, self.n_classes[0]), 1 / self.n_classes[0], dtype=torch.float32)
        try:
            with torch.no_grad():
                loss(torch.zeros_like(y), y)
        except Exception as error:
            raise ValueError(
                f"the loss must take soft labels (B, C), as torch.nn.CrossEntropyLoss does, got {loss!r}: {error}"
            ) from error
        return loss


class TabularHost(PlainHost):
    """A model of pytorch-tabular: batches are dicts, columns numbers or codes, targets one or several."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.name = type(module).__name__
        hparams: Any = module.hparams
        if hparams.task != "classification":
            raise ValueError(f"genlabel is for classification, got task={hparams.task!r} of {self.name}")
        self.n_classes = list(hparams.output_cardinality)
        self.cardinality = list(hparams.categorical_cardinality) if hparams.categorical_dim else []

    def read(self, batch: Any) -> tuple[Inputs, Tensor]:
        """Groups of columns that are there, and targets `(B, T)`."""
        return {group: batch[group] for group in GROUPS if batch[group].shape[1]}, batch["target"]

    def write(self, batch: Any, x: Inputs, target: Tensor) -> None:
        """Put columns and targets in the place of a batch's own; an absent group keeps its place, empty."""
        batch.update({group: batch[group].new_empty(len(target), 0) for group in GROUPS})
        batch.update(x, target=target)

    def forward(self, batch: Any) -> None:
        """Run the module."""
        self.module(batch)


def host_of(module: nn.Module) -> PlainHost:
    """The host that knows this module."""
    models = sys.modules.get("pytorch_tabular.models.base_model")
    ssl = sys.modules.get("pytorch_tabular.ssl_models.base_model")
    if (models and isinstance(module, models.BaseModel)) or (ssl and isinstance(module, ssl.SSLBaseModel)):
        return TabularHost(module)
    return PlainHost(module)
