"""Manifold mixup: mixing the input of a hidden layer, through a hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins.labels import PosteriorLabel
from genlabel_plugins.mixing.mixed import Mixed


class ManifoldMix:
    """Run a model once and mix the input of a layer drawn at random on the way: `(x, target) -> (output, y)`.

    Hooks live only as long as the call, so the model is never changed. Gradients flow through the mixed features.

    Args:
        model: Network that maps `x` to its output.
        layers: Names of the modules whose first input may be mixed, as in `model.named_modules()`; `""` is the model
            itself, so that its input is mixed.
        mix: Mixer, such as `Mixup(n_classes)`.
        relabeler: Corrects the labels by the input of `head`, such as a `RunningGaussian` inside `GenLabel`, or
            a `Relabeling`; by default labels stay linear.
        head: Name of the module whose input the relabeler knows, usually the classifier.
        generator: Source of randomness on the CPU for the layer; by default the global one.

    Raises:
        ValueError: If the model has no module of a name, or a relabeler comes without `head`.

    Example:
        >>> from genlabel_plugins import Mixup
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> output, y = ManifoldMix(model, ["", "2"], Mixup(2))(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
        >>> output.shape, y.shape
        (torch.Size([4, 2]), torch.Size([4, 2]))

    Reference:
        Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, ICML 2019.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        mix: Callable[[Tensor, Tensor], Mixed],
        *,
        relabeler: Any = None,
        head: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        known = dict(model.named_modules())
        for name in [*layers, *([] if head is None else [head])]:
            if name not in known:
                raise ValueError(f"layers and head must name modules of the model, got {name!r} beside {list(known)}")
        if not layers:
            raise ValueError("layers must name at least one module, got none")
        if relabeler is not None and head is None:
            raise ValueError(f"head must name the module whose input the relabeler knows, of {list(known)}, got None")
        self.model = model
        self.layers = list(layers)
        self.mix = mix
        self.label = None if relabeler is None else PosteriorLabel(relabeler)
        if self.label is not None:
            self.label.refuse_parents("a hidden layer is mixed, and no clean row reaches the head")
        self.head = head
        self.generator = generator

    def __call__(self, x: Any, target: Tensor) -> tuple[Any, Tensor]:
        """Output of the model for a mixed batch and its soft labels `(B, C)`."""
        mixed: list[Mixed] = []
        features: list[Tensor] = []

        def mix_input(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            if mixed:  # a layer that runs twice is mixed once
                return inputs
            mixed.append(self.mix(inputs[0], target))
            return (mixed[0].x, *inputs[1:])

        def tap(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            features.append(inputs[0].detach())

        layer = self.layers[int(torch.randint(len(self.layers), (), generator=self.generator))]
        handles = [self.model.get_submodule(layer).register_forward_pre_hook(mix_input)]
        if self.head is not None:
            handles.append(self.model.get_submodule(self.head).register_forward_pre_hook(tap))
        try:
            output = self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        if not mixed or (self.head is not None and not features):
            raise RuntimeError(f"the model ran without its layer {layer!r} or its head {self.head!r}")
        y = mixed[0].y_mix
        return output, y if self.label is None else self.label.relabel(features[0], y, mixed[0].is_mixed)
