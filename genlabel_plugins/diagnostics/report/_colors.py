"""Colors of classes, and of labels as blends of them."""

from __future__ import annotations

from torch import Tensor

from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable

# Petroff, Accessible Color Sequences for Data Visualization, 2021: told apart under color blindness and in gray.
PALETTE = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#94a4a2", "#92dadd", "#b9ac70", "#717581")
OTHERS = "#c3c7cf"  # of classes beyond the ten
MARKERS = "os^Dv<>Phd"


def class_colors(table: LabeledTable) -> list[str]:
    """A color for each class: the ten largest have their own, the others share a gray."""
    largest = table.counts.argsort(descending=True, stable=True)[: len(PALETTE)].tolist()
    own = dict(zip(sorted(largest), PALETTE, strict=False))
    return [own.get(c, OTHERS) for c in range(len(table.class_names))]


def blend_colors(y: Tensor, colors: list[str]) -> Tensor:
    """Colors mixed in the shares of a label, `(..., C) -> (..., 3)` in [0, 1]; mixed as light, not as codes.

    Example:
        >>> import torch
        >>> blend_colors(torch.tensor([[1.0, 0.0]]), ["#ff0000", "#0000ff"])
        tensor([[1., 0., 0.]])
    """
    codes = y.new_tensor([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    light = (y @ codes.pow(2.2)).clamp(0, 1)
    mixed: Tensor = light.pow(1 / 2.2)
    return mixed
