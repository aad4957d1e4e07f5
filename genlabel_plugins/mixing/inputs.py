"""What is mixed: one tensor or several under their names, and how two of a kind become one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from genlabel_plugins._checks import check_target, check_tensor
from genlabel_plugins.mixing.pairing import draw_device

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor]"


def interpolate(x_i: Tensor, x_j: Tensor, lam: Tensor) -> Tensor:
    """Mix `lam * x_i + (1 - lam) * x_j` in float32 or better, exact at both ends, in the dtype of `x_i`.

    Raises:
        ValueError: On integers other than uint8, whose values are codes.
    """
    if not x_i.is_floating_point() and x_i.dtype != torch.uint8:
        remedy = "use 'cutmix', or name a mask in masks=" if x_i.ndim > 2 else "use 'column_cutmix'"
        raise ValueError(f"x must be floating point or uint8 to be interpolated, got {x_i.dtype}: {remedy}")
    compute = torch.promote_types(x_i.dtype, torch.float32)
    weight = lam.to(compute).view(-1, *[1] * (x_i.ndim - 1))
    x_mix = torch.lerp(x_j.to(compute), x_i.to(compute), weight)
    return (x_mix.round() if x_i.dtype == torch.uint8 else x_mix).to(x_i.dtype)


def one_hot(target: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """Hard labels `(B,) -> (B, C)`, in the dtype of `like` and without a device sync."""
    return like.new_zeros(len(target), n_classes).scatter_(1, target.long()[:, None], 1.0)


def map_inputs(function: Callable[..., Tensor], x: Inputs, *others: Inputs) -> Inputs:
    """Apply a function to the tensor, or to each tensor of a mapping, and to those of `others` in its place."""
    if isinstance(x, Mapping):
        return {key: function(tensor, *(other[key] for other in others)) for key, tensor in x.items()}  # type: ignore[index]
    return function(x, *others)


def clean_first(clean: Inputs, mixed: Inputs) -> Inputs:
    """Clean rows before the mixed ones, `(B, *), (B, *) -> (2B, *)`, so that a mean loss is that of both.

    Example:
        >>> clean_first(one_hot(torch.tensor([1]), 2, torch.zeros(())), torch.tensor([[0.3, 0.7]]))
        tensor([[0.0000, 1.0000],
                [0.3000, 0.7000]])
    """
    return map_inputs(lambda *parts: torch.cat(parts), clean, mixed)


def draw_uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1), drawn where the generator lives and moved to `like`."""
    drawn = torch.rand(shape, generator=generator, device=draw_device(like.device, generator))
    return drawn.to(like.device, non_blocking=True)


def masks_in(x: Inputs, masks: Sequence[str]) -> set[str | None]:
    """Names of the inputs that are masks of classes: those listed, and any `tv_tensors.Mask` of torchvision.

    The name of a single tensor is None.

    Raises:
        ValueError: If a name that is listed is not there.
    """
    named: Mapping[Any, Tensor] = x if isinstance(x, Mapping) else {None: x}
    missing = [name for name in masks if name not in named]
    if missing:
        known = sorted(x) if isinstance(x, Mapping) else "a single tensor"
        raise ValueError(f"masks must name inputs of a mapping, got {missing} beside {known}")
    tv_tensors: Any = sys.modules.get("torchvision.tv_tensors")
    marked = {name for name, tensor in named.items() if tv_tensors and isinstance(tensor, tv_tensors.Mask)}
    return marked | set(masks)


def check_pixels(x: Inputs, masks: set[str | None]) -> None:
    """Refuse to interpolate bytes that may be codes: only in images that stand alone, or in colors, are they pixels.

    Raises:
        ValueError: On such bytes, naming the input and what to do.
    """
    named: Mapping[Any, Tensor] = x if isinstance(x, Mapping) else {None: x}
    for name, tensor in named.items():
        if tensor.dtype != torch.uint8 or name in masks:
            continue
        called = "x" if name is None else f"x[{name!r}]"
        if tensor.ndim == 2:
            raise ValueError(
                f"{called} is a table of uint8, whose values may be codes: make it floating point to interpolate it, "
                "or use 'column_cutmix'"
            )
        if len(named) > 1 and (tensor.ndim == 3 or tensor.shape[1] == 1):
            raise ValueError(
                f"{called} is uint8 of one channel beside other inputs, which may be codes or pixels: name it in "
                "masks=, or make it floating point to interpolate it"
            )


def without(x: Inputs, names: set[str | None]) -> Inputs:
    """Inputs but for those of these names, unless none would be left."""
    kept = {name: tensor for name, tensor in x.items() if name not in names} if isinstance(x, Mapping) else {}
    return kept or x


def tensors_of(x: Inputs) -> list[Tensor]:
    """The tensor, or those of a mapping."""
    return list(x.values()) if isinstance(x, Mapping) else [x]


def check_batch(x: Inputs, target: Tensor) -> Tensor:
    """Return the first input.

    Raises:
        ValueError: On inputs and class indices that do not fit together.
    """
    tensors = tensors_of(x)
    check_target(target, None)
    for tensor in tensors:
        check_tensor("x", tensor)
        if tensor.ndim < 2 or len(tensor) != len(target):
            raise ValueError(f"x must have shape ({len(target)}, *) to go with target, got {tuple(tensor.shape)}")
    if not tensors or not len(target):
        raise ValueError("x must hold at least one row, got none")
    if not any(tensor[0].numel() for tensor in tensors):  # of several inputs, one may be without
        raise ValueError(f"x must have at least one feature, got shape {tuple(tensors[0].shape)}")
    return tensors[0]
