"""GenLabelMix: mixing and relabeling in one callable, for any training loop, loader or transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from genlabel_plugins._checks import check_switch
from genlabel_plugins.labels import LabelPolicy, PosteriorLabel, linear_label
from genlabel_plugins.loops.mixed_batch import MixedBatch
from genlabel_plugins.loops.resuming import KeepsGenerator, watch_for_resume
from genlabel_plugins.mixing.generative import Codec, GenerativeMixup, RatioSearch
from genlabel_plugins.mixing.inputs import Inputs, clean_first, one_hot
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.mixing.mixers import make_mixer
from genlabel_plugins.relabeler import n_classes_of
from genlabel_plugins.relabeling import Relabeling


class LabeledMix(KeepsGenerator):
    """Mix a batch and label it: `(x, target) -> (x_mix, y)`.

    The `state_dict` holds the mixer's own generator, if it has one, beside what the label has learnt.

    Args:
        mix: Mixer, a callable `(x, target) -> Mixed`.
        label: Label policy, a callable `Mixed -> y`, or a `Relabeling`; that of Algorithm 3 observes the clean rows.
        embed: Callable from inputs to the features that a `Relabeling` knows; by default the inputs themselves.
        keep_clean: Return the clean rows before the mixed ones, 2B in all, so that a mean loss is that of both.

    Example:
        >>> import torch
        >>> from genlabel_plugins import LogisticLabel
        >>> from genlabel_plugins import Mixup
        >>> x_mix, y = LabeledMix(Mixup(2), LogisticLabel(sigma=0.1))(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
        >>> x_mix.shape, y.shape
        (torch.Size([4, 3]), torch.Size([4, 2]))
    """

    def __init__(
        self,
        mix: Callable[..., Mixed],
        label: LabelPolicy | Relabeling = linear_label,
        *,
        embed: Callable[[Any], Tensor] | None = None,
        keep_clean: bool = False,
    ) -> None:
        super().__init__()
        if embed is not None and not isinstance(label, Relabeling):
            raise ValueError(f"embed goes with a Relabeling as label, got it beside {label!r}")
        check_switch("keep_clean", keep_clean)
        self.mix = mix
        self.label = PosteriorLabel(label, embed) if isinstance(label, Relabeling) else label
        self.keep_clean = keep_clean
        self.batch: MixedBatch | None = None
        self.deferred = False  # set by GenLabelLoss: it relabels, and needs to know of the batch
        if isinstance(label, Relabeling):
            watch_for_resume(label, None, f"this {type(self).__name__}")

    def forward(self, x: Any, target: Tensor) -> tuple[Inputs, Tensor]:
        """Mixed inputs `(B, *)` and their labels `(B, C)`, of inputs `(B, *)` and class indices `(B,)`."""
        mixed = self.mix(x, target)
        if isinstance(self.label, PosteriorLabel):
            self.label.observe(x, target)
        y, mask = self.label(mixed), mixed.is_mixed
        x_mix: Inputs = mixed.x
        if self.keep_clean:
            x_mix = clean_first(x, x_mix)
            y = clean_first(one_hot(target, y.shape[1], y), y)
            mask = torch.cat([mask.new_zeros(len(target)), mask])  # a mixer may drop rows
        if self.deferred:
            n_clean = len(target) if self.keep_clean else 0
            clean = None if n_clean else x
            self.batch = MixedBatch(clean=clean, target=target, y=y, y_lin=y, mixed=mask, n_clean=n_clean)
        return x_mix, y


class GenLabelMix(LabeledMix):
    """Mix a batch and relabel it by class-conditional densities (GenLabel, Algorithms 1 and 2).

    A picklable module: it works in a plain loop, inside a loader (`BatchMix`), and moves with `.to(device)`.

    Args:
        relabeler: Fitted relabeler, such as `GenLabel("gm").fit(x, target)`, or a `Relabeling`.
        mix: `"mixup"`, `"cutmix"`, `"column_cutmix"` or a mixer, a callable `(x, target) -> Mixed`.
        embed: Callable from mixed inputs to the features that the relabeler was fitted on (Algorithm 2).
        keep_clean: Return the clean rows before the mixed ones, 2B in all, so that a mean loss is that of both.
        **options: Go to the mixer that is named: `alpha`, `pairing`, `per_sample`, `generator`; `n_classes` is by
            default that of the relabeler's densities.

    Raises:
        ValueError: If the number of classes is neither given nor known from the relabeler.

    Example:
        >>> import torch
        >>> from genlabel_plugins import GenLabel
        >>> x, target = torch.randn(40, 3), torch.arange(40) % 2
        >>> x_mix, y = GenLabelMix(GenLabel("gm").fit(x, target), alpha=0.5)(x[:8], target[:8])
        >>> x_mix.shape, y.shape
        (torch.Size([8, 3]), torch.Size([8, 2]))

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022.
    """

    def __init__(
        self,
        relabeler: Any,
        *,
        mix: str | Callable[..., Mixed] = "mixup",
        embed: Callable[[Any], Tensor] | None = None,
        keep_clean: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(mix, str) and "n_classes" not in options:
            options["n_classes"] = n_classes_of(relabeler)
        super().__init__(make_mixer(mix, **options), PosteriorLabel(relabeler, embed), keep_clean=keep_clean)


class GenerativeMix(LabeledMix):
    """Mix a batch where its class densities have the ratio lam: `(x, target) -> (x_mix, y)`.

    Takes the place of `GenLabelMix`: a picklable module for plain loops, and inside a loader (`BatchMix`).

    Args:
        relabeler: Fitted density or relabeler.
        encode: Callable from inputs and classes to codes, so that paths run between codes.
        decode: Callable from codes and classes to inputs.
        keep_clean: Return the clean rows before the mixed ones, 2B in all.
        **options: Go to `GenerativeMixup`.

    Example:
        >>> from genlabel_plugins import make_backend
        >>> x, target = torch.randn(40, 3), torch.arange(40) % 2
        >>> x_mix, y = GenerativeMix(make_backend("gm").fit(x, target), alpha=0.5)(x[:8], target[:8])
        >>> x_mix.shape, y.shape
        (torch.Size([8, 3]), torch.Size([8, 2]))

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(
        self,
        relabeler: Any,
        *,
        encode: Codec | None = None,
        decode: Codec | None = None,
        keep_clean: bool = False,
        **options: Any,
    ) -> None:
        pairs = GenerativeMixup(RatioSearch(relabeler, encode=encode, decode=decode), **options)
        super().__init__(pairs, keep_clean=keep_clean)
        self.relabeler, self.encode, self.decode = relabeler, encode, decode  # modules move with `.to(device)`


class BatchMix:
    """Mix whole batches, tuples or dicts, as they come out of a loader or inside its `collate_fn`.

    Args:
        mix: Callable `(x, target) -> (x_mix, y)`, such as `GenLabelMix`.
        x: Place of the inputs in a batch, an index or a key; or several, whose inputs share partners and `lam`.
        target: Place of the class indices, which the soft labels take. What lies elsewhere stays as it is.
        collate_fn: Makes a batch of samples; None for batches that are made already.

    Raises:
        ValueError: On a place counted from the end.

    Example:
        >>> import torch
        >>> from genlabel_plugins import Mixup
        >>> collate_fn = BatchMix(LabeledMix(Mixup(2)))
        >>> x_mix, y = collate_fn([(torch.rand(3), 0), (torch.rand(3), 1)])
        >>> x_mix.shape, y.shape
        (torch.Size([2, 3]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        mix: Callable[[Any, Tensor], tuple[Inputs, Tensor]],
        *,
        x: int | str | Sequence[int | str] = 0,
        target: int | str = 1,
        collate_fn: Callable[[Any], Any] | None = default_collate,
    ) -> None:
        for place in (target, *([x] if isinstance(x, int | str) else x)):
            if isinstance(place, int) and place < 0:
                raise ValueError(f"x and target must be places counted from 0, or keys, got {place}")
        self.mix = mix
        self.x = x
        self.target = target
        self.collate_fn = collate_fn

    def __call__(self, batch: Any) -> Any:
        """Mix a batch; it comes back as a dict or as a tuple."""
        batch = batch if self.collate_fn is None else self.collate_fn(batch)
        fields = dict(batch if isinstance(batch, Mapping) else enumerate(batch))
        if isinstance(self.x, int | str):
            fields[self.x], fields[self.target] = self.mix(fields[self.x], fields[self.target])
        else:
            x_mix, fields[self.target] = self.mix({key: fields[key] for key in self.x}, fields[self.target])
            fields |= x_mix
        return fields if isinstance(batch, Mapping) else tuple(fields.values())
