"""Generative mixing in place of timm's Mixup."""

from __future__ import annotations

from typing import Any

import torch
from timm.data.mixup import Mixup
from torch import Tensor

from genlabel_plugins import RatioSearch
from genlabel_plugins._checks import check_target
from genlabel_plugins.mixing import one_hot
from genlabel_plugins.relabeler import n_classes_of


class GenerativeMixup(Mixup):
    """timm's Mixup, with images mixed where the densities of their classes have the ratio lam.

    It draws lam as timm does, from NumPy's global generator, once a batch, a pair or an image by `mode`, and obeys
    `prob`, `mixup_enabled` and `label_smoothing`. Rows that are not mixed keep their pixels bit for bit. Images, unlike
    timm's, are mixed out of place.

    Args:
        search: Finds the mixed image of two, such as `RatioSearch(gan, encode=gan.invert, decode=gan.generate)`. Its
            densities know the images as the loader hands them over, normalized.
        *args: Positional arguments of `timm.data.Mixup`.
        **kwargs: Keyword arguments of `timm.data.Mixup`; CutMix has no generative form.

    Raises:
        ValueError: On CutMix, `multi_label=True`, an odd batch, or densities of another number of classes.

    Example:
        >>> from genlabel_plugins import make_backend
        >>> x, target = torch.randn(40, 1, 4, 4), torch.arange(40) % 2
        >>> density = make_backend("gm", covariance_type="tied").fit(x, target)
        >>> mixup_fn = GenerativeMixup(RatioSearch(density), num_classes=2)
        >>> x_mix, y = mixup_fn(x[:8], target[:8])
        >>> x_mix.shape, y.shape
        (torch.Size([8, 1, 4, 4]), torch.Size([8, 2]))

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(self, search: RatioSearch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not isinstance(search, RatioSearch):
            raise ValueError(
                f"search must be a RatioSearch, such as RatioSearch(relabeler), got {type(search).__name__}"
            )
        if self.cutmix_alpha > 0:
            raise ValueError(f"generative mixing has no CutMix: cutmix_alpha must be 0, got {self.cutmix_alpha}")
        if getattr(self, "multi_label", False):
            raise ValueError("multi_label=True has no ratio of two classes: use timm's own Mixup")
        known = n_classes_of(search.relabeler)
        if known != self.num_classes:
            raise ValueError(f"num_classes={self.num_classes}, but the densities have {known} classes")
        self.search = search
        self._checked = False

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix and label, `(B, *), (B,) -> (B, *), (B, C)`."""
        if len(x) % 2:
            raise ValueError(
                f"timm mixes a batch with its mirror image: it must be even, got {len(x)}; set drop_last=True"
            )
        if not self._checked:  # once: it waits for the device
            check_target(target, self.num_classes)
            self._checked = True
        lam = self._lam(len(x), x.device)
        mixed = lam < 1
        share, x_mix = torch.ones_like(lam), x
        partner = torch.arange(len(x), device=x.device).flip(0)
        if self.mixup_enabled:
            x_mix, share, _ = self.search.mix(x, target, partner, lam)
            x_mix = torch.where(mixed.view(-1, *[1] * (x.ndim - 1)), x_mix, x)
            share = torch.where(mixed, share, 1.0)
        own, other = (one_hot(c, self.num_classes, share) for c in (target, target[partner]))
        y = torch.lerp(other, own, share[:, None])
        return x_mix, y * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes

    def _lam(self, n_rows: int, device: torch.device) -> Tensor:
        """Weights of the rows themselves, drawn in timm's order, shape `(B,)`."""
        if self.mode == "batch":
            return torch.full((n_rows,), self._params_per_batch()[0], device=device)  # type: ignore[no-untyped-call]
        n_drawn = n_rows // 2 if self.mode == "pair" else n_rows
        lam = torch.as_tensor(self._params_per_elem(n_drawn)[0], device=device)  # type: ignore[no-untyped-call]
        return torch.cat([lam, lam.flip(0)]) if self.mode == "pair" else lam
