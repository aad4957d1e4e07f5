"""Objectives: the loss of each scheme on a batch, for any network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genlabel_plugins.labels import LogisticLabel, PosteriorLabel, linear_label
from genlabel_plugins.loops import LabeledMix, ManifoldMix
from genlabel_plugins.mixing import ColumnCutMix, ExcludeIntrusion, Mixup
from genlabel_plugins.paper.adamixup import AdaMixUp
from genlabel_plugins.paper.schemes import Scheme
from genlabel_plugins.relabeling import Relabeling

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


def make_objective(
    scheme: Scheme,
    x: Tensor,
    target: Tensor,
    n_classes: int,
    *,
    alpha: float,
    generator: torch.Generator,
    relabeler: Any = None,
    embed: Callable[[Tensor], Tensor] | None = None,
    layers: tuple[str, ...] = ("",),
    head: str = "",
    per_sample: bool = False,
) -> Objective:
    """The loss of a scheme.

    Args:
        scheme: How rows are mixed and labeled.
        x: Training inputs, shape `(N, *)`.
        target: Their classes, shape `(N,)`.
        n_classes: Number of classes C.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        generator: Source of randomness on the CPU.
        relabeler: What a scheme with GenLabel's label asks for it, fitted to `embed(x)`, or a `Relabeling`.
        embed: Callable from inputs to the features that the relabeler knows.
        layers: Modules whose input manifold mixup may mix.
        head: Module whose input the relabeler of manifold mixup knows.
        per_sample: Draw one `lam` for each row instead of one for the batch.
    """
    if scheme.label == "none":
        return lambda model, x, target: cross_entropy(model(x), target)
    if scheme.label == "adamixup":
        return AdaMixUp(x[0].numel(), n_classes, generator)
    kind = ColumnCutMix if scheme.mix == "column_cutmix" else Mixup
    mix: Any = kind(n_classes, alpha=alpha, per_sample=per_sample, generator=generator)
    if scheme.mix == "manifold":
        relabeler = relabeler if scheme.label == "genlabel" else None
        known = {} if relabeler is None else {"relabeler": relabeler, "head": head}
        way = _Way(mix, layers, known | {"generator": generator}, embed, scheme.keep_clean)
        return _Manifold(way)
    if scheme.excludes:
        mix = ExcludeIntrusion(mix, x, target, how="drop")
    label: Any = LogisticLabel(0.1) if scheme.label == "logistic" else linear_label
    if scheme.label == "genlabel":
        label = PosteriorLabel(relabeler, embed)
    return _Mixing(LabeledMix(mix, label, keep_clean=scheme.keep_clean))


class _Mixing(nn.Module):
    """Cross-entropy of mixed rows; none is left of a batch that intrudes altogether."""

    def __init__(self, mix: LabeledMix) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        x_mix, y = self.mix(x, target)
        assert isinstance(x_mix, Tensor)
        output = model(x_mix)
        return cross_entropy(output, y) if len(y) else output.sum()


class _Way(NamedTuple):
    """How rows are mixed inside a network.

    Attributes:
        mix: Mixer.
        layers: Modules whose input may be mixed.
        options: Other options of `ManifoldMix`.
        embed: Callable from inputs to the features that Algorithm 3 observes.
        keep_clean: Average with the loss on the clean batch.
    """

    mix: Any
    layers: tuple[str, ...]
    options: dict[str, Any]
    embed: Any
    keep_clean: bool


class _Manifold:
    """Cross-entropy of rows that are mixed on their way through the network."""

    def __init__(self, way: _Way) -> None:
        self.way = way

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        way, relabeler = self.way, self.way.options.get("relabeler")
        if isinstance(relabeler, Relabeling) and relabeler.wants_clean:
            with torch.no_grad():
                relabeler.observe(way.embed(x), target)
        loss = cross_entropy(*ManifoldMix(model, way.layers, way.mix, **way.options)(x, target))
        return (loss + cross_entropy(model(x), target)) / 2 if way.keep_clean else loss
