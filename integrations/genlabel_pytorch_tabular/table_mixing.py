"""Mixing rows of a table, whose columns are numbers or categories."""

from __future__ import annotations

import torch
from torch import Tensor

from genlabel_plugins import GenerativeMixup, Mixer
from genlabel_plugins.mixing import Inputs
from genlabel_plugins.mixing.mixers import draw_uniform, interpolate, map_inputs


class TableMixup(Mixer):
    """Mixup for tables: numbers are interpolated, each category is the row's own with probability `lam`.

    A code between two categories would be a third one. The expected share of the row's own columns is `lam`.

    Example:
        >>> x = {"continuous": torch.tensor([[0.0], [1.0]]), "categorical": torch.tensor([[0, 0], [5, 5]])}
        >>> mixed = TableMixup(2, pairing="flip")(x, torch.tensor([0, 1]))
        >>> set(mixed.x["categorical"].flatten().tolist()) <= {0, 5}
        True
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Interpolate floating point columns, swap integer ones."""

        def mix(tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                return interpolate(tensor, tensor[partner], lam)
            keep = draw_uniform(tuple(tensor.shape), lam, self.generator) < lam[:, None]
            return torch.where(keep, tensor, tensor[partner])

        return map_inputs(mix, x), lam


class NumbersMixup(Mixer):
    """Mixup of the numbers alone: categories stay, since their embeddings are mixed later."""

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Interpolate floating point columns."""

        def mix(tensor: Tensor) -> Tensor:
            return interpolate(tensor, tensor[partner], lam) if tensor.is_floating_point() else tensor

        return map_inputs(mix, x), lam


class GenerativeTableMixup(GenerativeMixup):
    """Generative mixing of a table that holds numbers alone: the densities know them as one tensor."""

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Mix where the densities say lam, and return what they say there."""
        if isinstance(x, Tensor):
            return super().combine(x, target, partner, lam)
        ((name, numbers),) = x.items()
        x_mix, share = super().combine(numbers, target, partner, lam)
        return {name: x_mix}, share  # type: ignore[dict-item]
