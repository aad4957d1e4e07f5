"""Where a batch is mixed on its way through a model: its inputs, its word embeddings, or what its head is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from genlabel_plugins import CutMix, Mixed
from genlabel_plugins.mixing import clean_first

Layer = Literal["input", "embedding", "head"]


class LayerMix:
    """Mix a batch at a layer. Codes, such as token ids, are never averaged, and masks say what either row shows.

    Args:
        mix: Mixer, a callable `(x, target) -> Mixed`.
        layer: `"input"`, floating-point inputs; `"embedding"`, what the word embeddings return; `"head"`, what the
            classifier's last layer is given.
        keep_clean: Put the clean rows before the mixed ones.

    Attributes:
        mixed: The batch mixed last, until it is taken.

    Raises:
        ValueError: On another layer, or CutMix of anything but inputs.
    """

    def __init__(self, mix: Callable[..., Mixed], layer: Layer, *, keep_clean: bool) -> None:
        if layer not in get_args(Layer):
            raise ValueError(f"layer must be one of {get_args(Layer)}, got {layer!r}")
        if layer != "input" and isinstance(mix, CutMix):
            raise ValueError(f"mix='cutmix' pastes boxes of images and goes with layer='input', got layer={layer!r}")
        self.mix, self.layer, self.keep_clean = mix, layer, keep_clean
        self.mixed: Mixed | None = None
        self._target: Tensor | None = None

    def inputs(self, model: nn.Module, inputs: dict[str, Any], target: Tensor) -> dict[str, Any]:
        """What the model is called with: `inputs` without labels, mixed unless that is left to the head.

        Raises:
            ValueError: If there are inputs that this layer cannot mix, naming them.
        """
        self._target = target
        if self.layer == "head":
            return inputs
        rows = {name: each for name, each in inputs.items() if _has_rows(each, len(target))}
        masks = {name: rows.pop(name) for name in list(rows) if name.endswith("_mask")}
        floats = {name: rows.pop(name) for name in list(rows) if rows[name].is_floating_point()}
        if self.layer == "embedding":
            if floats:
                raise ValueError(
                    f"layer='embedding' mixes words and would leave {sorted(floats)} unmixed: use layer='head'"
                )
            ids = rows.pop("input_ids", None)
            if ids is None:
                raise ValueError(f"layer='embedding' mixes the embeddings of input_ids, got {sorted(inputs)}")
            mixable = {"inputs_embeds": _word_embeddings(model)(ids)}
        elif rows or not floats:
            raise ValueError(
                f"layer='input' would average codes, of which {sorted(rows) or 'all inputs'} are made: use "
                "layer='embedding' or 'head'"
            )
        else:
            mixable = floats
        mixed = self.mixed = self.mix(mixable if len(mixable) > 1 else next(iter(mixable.values())), target)
        x_mix = {next(iter(mixable)): mixed.x} if isinstance(mixed.x, Tensor) else mixed.x
        own = torch.arange(len(target), device=target.device) if mixed.row is None else mixed.row
        changed = {name: (mixable[name], x) for name, x in x_mix.items()}
        changed |= {name: (codes, codes[own]) for name, codes in rows.items()}
        for name, mask in masks.items():
            lam = mixed.lam.view(-1, *[1] * (mask.ndim - 1))
            changed[name] = mask, torch.maximum(mask[own] * (lam > 0), mask[mixed.partner] * (lam < 1))
        kept = {name: each for name, each in inputs.items() if name not in changed and name != "input_ids"}
        return kept | {name: self._beside(clean, new) for name, (clean, new) in changed.items()}

    def __call__(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Mix what a head is given, as a pre-hook."""
        if self._target is None or self.layer != "head":
            return None
        target, self._target = self._target, None
        self.mixed = self.mix(args[0], target.to(args[0].device))
        return (self._beside(args[0], self.mixed.x), *args[1:])

    def take(self) -> Mixed | None:
        """The batch mixed last, given out once."""
        mixed, self.mixed, self._target = self.mixed, None, None
        return mixed

    def _beside(self, clean: Tensor, mixed: Any) -> Any:
        return clean_first(clean, mixed) if self.keep_clean else mixed


def _has_rows(value: Any, n_rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n_rows


def _word_embeddings(model: Any) -> nn.Module:
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    if not isinstance(table, nn.Embedding):
        raise ValueError(
            f"layer='embedding' needs a table of word embeddings, and {type(model).__name__} has none: use layer "
            "'input' or 'head'"
        )
    return table
