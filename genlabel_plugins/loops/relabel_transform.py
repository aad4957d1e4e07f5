"""RelabelTransform: correct the labels of a mixing transform of another library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_target
from genlabel_plugins.labels import PosteriorLabel
from genlabel_plugins.loops._kornia_labels import class_shares, kornia_mixers
from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.relabeler import n_classes_of


class RelabelTransform(nn.Module):
    """Correct the labels of a mixing transform of another library, such as `v2.MixUp` or `v2.CutMix` of torchvision.

    A picklable module, called as the transform is. Rows that it did not mix keep their label: those whose label shows
    one class, and a batch that it hands on with class indices, which become hard labels. Of kornia's `RandomMixUpV2`
    and `RandomCutMixV2`, whose labels are columns, it is known which rows were mixed and how much of each is seen.

    Args:
        transform: Callable that returns `(x_mix, y_mix)` with labels of shape `(B, C)`; or kornia's mixing, alone or
            within another module.
        relabeler: Fitted relabeler, such as `GenLabel("gm").fit(x, target)`, or a `Relabeling`.
        embed: Callable from mixed inputs to the features that the relabeler was fitted on (Algorithm 2).

    Raises:
        ValueError: If the labels of the first batch are no probabilities, naming the format that they look like.

    Example:
        >>> import torch
        >>> from genlabel_plugins import GenLabel
        >>> x, target = torch.randn(40, 3), torch.arange(40) % 2
        >>> halves = lambda x, target: ((x + x.flip(0)) / 2, torch.full((len(x), 2), 0.5))
        >>> x_mix, y = RelabelTransform(halves, GenLabel("gm").fit(x, target))(x, target)
        >>> y.shape
        torch.Size([40, 2])
    """

    def __init__(
        self, transform: Callable[..., Any], relabeler: Any, *, embed: Callable[[Any], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.transform = transform
        self.label = PosteriorLabel(relabeler, embed)
        self.label.refuse_parents("a transform of another library does not tell them: use GenLabelMix")
        self._checked = self._indices_checked = False  # kornia's first labels, first indices: a check waits

    def forward(self, *batch: Any) -> tuple[Any, Tensor]:
        """Call the transform with whatever it takes and correct the labels that it returns."""
        mixers = kornia_mixers(self.transform)
        before = [mixer._params for mixer in mixers]
        x_mix, y_mix = self.transform(*batch)
        ran = [mixer for mixer, params in zip(mixers, before, strict=True) if mixer._params is not params]
        if isinstance(y_mix, Tensor) and y_mix.ndim == 1 and not y_mix.is_floating_point():
            n_classes = n_classes_of(self.label.relabeler)
            check_target(y_mix, None if self._indices_checked else n_classes)
            self._indices_checked = True
            return x_mix, one_hot(y_mix, n_classes, torch.zeros((), device=y_mix.device))
        if not ran:
            return x_mix, self.label.relabel(x_mix, y_mix)
        if len(ran) > 1:
            names = [type(mixer).__name__ for mixer in ran]
            raise ValueError(f"transform must mix a batch once, got {names}, the second of which mixes mixtures")
        n_classes = n_classes_of(self.label.relabeler)
        y_mix, mixed = class_shares(ran[0], y_mix, n_classes, check=not self._checked)
        self._checked = True
        return x_mix, self.label.relabel(x_mix, y_mix, mixed)
