"""What kornia's mixing makes of class indices, columns of (class, class, share), read as labels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_target


def kornia_mixers(transform: Any) -> list[Any]:
    """Modules within a transform whose labels are kornia's columns; none unless kornia is in use."""
    kornia: Any = sys.modules.get("kornia.augmentation")
    if kornia is None:
        return []
    kinds = (kornia.RandomMixUpV2, kornia.RandomCutMixV2)
    return [module for module in _within(transform) if isinstance(module, kinds)]


def _within(transform: Any) -> Iterator[Any]:
    """A transform and all that it is made of; torchvision keeps parts in a list, which torch knows nothing of."""
    yield transform
    children = list(transform.children()) if isinstance(transform, nn.Module) else []
    listed = getattr(transform, "transforms", ())
    for part in (*children, *(listed if isinstance(listed, list | tuple) else ())):
        yield from _within(part)


def class_shares(mixer: Any, columns: Tensor, n_classes: int, *, check: bool) -> tuple[Tensor, Tensor]:
    """Labels of a batch that kornia mixed, and which of its rows are mixtures.

    The share that RandomMixUpV2 names is the partner's. That of RandomCutMixV2 is the area of the cut or of the rest,
    by an option, and says nothing of a later cut over an earlier one; so it is counted in the boxes.

    Args:
        mixer: The module of kornia that has just run.
        columns: What it returned for the class indices, shape `(B, 3)`, or `(K, B, 3)` for K cuts.
        n_classes: Number of classes C.
        check: Whether to check the class indices, for which the device is waited for.

    Returns:
        Labels `(B, C)`, and a mask `(B,)`.

    Raises:
        ValueError: On class indices out of range.
    """
    params = mixer._params
    cuts = columns if columns.ndim == 3 else columns[None]
    target = torch.cat([cuts[:1, :, 0], cuts[..., 1]]).long()  # (K + 1, B), the row's own class first
    if check:
        check_target(target.flatten(), n_classes)
    if "crop_src" in params:
        share, partner = _visible_shares(params["crop_src"], params["image_shape"].tolist()), params["mix_pairs"]
    else:
        share, partner = torch.stack([1 - cuts[0, :, 2], cuts[0, :, 2]]), params["mixup_pairs"][None]
    share = share.to(cuts.device, torch.promote_types(cuts.dtype, torch.float32))
    left_alone = torch.zeros_like(share).index_fill_(0, torch.zeros(1, dtype=torch.long, device=share.device), 1.0)
    share = torch.where(params["batch_prob"].to(share.device) > 0.5, share, left_alone)
    row = torch.cat([torch.arange(cuts.shape[1])[None], partner.cpu()]).to(share.device)  # (K + 1, B)
    first = row.masked_fill(share == 0, row.shape[1]).amin(0)
    last = row.masked_fill(share == 0, -1).amax(0)
    y = share.new_zeros(cuts.shape[1], n_classes).scatter_add_(1, target.T, share.T)
    return y, first != last


def _visible_shares(boxes: Tensor, size: list[int]) -> Tensor:
    """Share of an image that is its own, and that each cut still has under later ones, `(K, B, 4, 2) -> (K + 1, B)`."""
    low, high = boxes[:, :, 0, :, None], boxes[:, :, 2, :, None]  # both within the box
    inside = [
        (torch.arange(n_pixels, device=boxes.device) >= low[:, :, axis])
        & (torch.arange(n_pixels, device=boxes.device) <= high[:, :, axis])
        for axis, n_pixels in ((0, int(size[1])), (1, int(size[0])))
    ]  # (K, B, W), (K, B, H)
    free = torch.ones_like(inside[1][0, :, :, None] & inside[0][0, :, None, :])  # (B, H, W)
    shares = []
    for across, down in zip(reversed(inside[0]), reversed(inside[1]), strict=True):  # a later cut is pasted over
        box = down[:, :, None] & across[:, None, :]
        shares.append((box & free).double().mean((1, 2)))
        free = free & ~box
    return torch.stack([free.double().mean((1, 2)), *reversed(shares)])
