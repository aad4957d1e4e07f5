"""Mixing rows of a table, whose columns are numbers or categories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genlabel_plugins.generative_mixing import GenerativeMixer
from genlabel_plugins.mixing import Inputs, Mixer, draw_uniform, interpolate, map_inputs


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


class GenerativeMixup(Mixer):
    """Mix rows where the densities of their classes have the ratio that `lam` says.

    Args:
        relabeler: Density or relabeler, fitted by the time that rows are mixed.
        n_classes: Number of classes C.
        **options: Go to `Mixer`.

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(self, relabeler: Any, n_classes: int, **options: Any) -> None:
        super().__init__(n_classes, **options)
        self.between = GenerativeMixer(relabeler)

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Go to the point of that ratio; the ratio that holds there is the `lam` of the label."""
        reached = lam

        def mix(tensor: Tensor) -> Tensor:
            nonlocal reached
            result = self.between(tensor, tensor[partner], target, target[partner], lam)
            share = result.y.gather(1, target[:, None]).squeeze(1)
            reached = torch.where(target == target[partner], lam, share.to(lam))
            return result.x_mix

        return map_inputs(mix, x), reached
