"""Mixing rows of a table, whose columns are numbers or categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins import GenerativeMixup, GenLabel, Mixed, Mixer, RatioSearch
from genlabel_plugins.mixing import Inputs, draw_uniform, interpolate, make_mixer, map_inputs
from genlabel_pytorch_tabular.hosts import PlainHost
from genlabel_pytorch_tabular.options import Options


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


def make_row_mixer(options: Options, host: PlainHost, relabeler: GenLabel) -> Callable[..., Mixed]:
    """Make the mixer that the options ask for; `relabeler` is that of the first target.

    Raises:
        ValueError: If the host's rows cannot be mixed so.
    """
    params: dict[str, Any] = {"alpha": options.alpha, "pairing": options.pairing}
    if options.per_sample is not None:
        params["per_sample"] = options.per_sample
    n_classes = host.n_classes[0]
    if options.mix == "generative":
        if host.cardinality or len(host.n_classes) > 1:
            raise ValueError("mix='generative' is for tables of numbers with one target: use mix='mixup'")
        return GenerativeTableMixup(RatioSearch(relabeler), n_classes=n_classes, **params)
    if options.mix == "mixup":
        return (NumbersMixup if options.space == "embedding" else TableMixup)(n_classes, **params)
    return options.mix if callable(options.mix) else make_mixer(options.mix, n_classes=n_classes, **params)
