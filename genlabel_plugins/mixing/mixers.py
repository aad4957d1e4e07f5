"""Mixing: which rows meet, how much of each is kept, and how two inputs become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from genlabel_plugins._checks import check_number, check_positive, check_switch, check_target
from genlabel_plugins.mixing.inputs import (
    Inputs,
    check_batch,
    check_pixels,
    draw_uniform,
    interpolate,
    map_inputs,
    masks_in,
    one_hot,
    tensors_of,
    without,
)
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.mixing.pairing import Pairing, draw_beta, draw_device, draw_partner, flat_rows


class Mixer(ABC):
    """Mix each row of a batch with another; a subclass says in `combine` how two inputs become one.

    All inputs of a mapping share partners and `lam`. A batch of one row comes back unmixed. Labels and `lam`
    are float32, or float64 for float64 inputs: half precision would corrupt them.

    Args:
        n_classes: Number of classes C.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`, or a callable from the rows and their partners,
            `(B, D), (B, D) -> (B,)`, to one concentration per pair, such as `DistanceAlpha`.
        pairing: `"permutation"`, `"flip"`, `"nearest_other"` or a callable `(x, target, generator) -> partner`
            that sees flattened rows, `(B, D), (B,) -> (B,)`.
        per_sample: Draw one `lam` per row instead of one per batch.
        masks: Names of inputs of a mapping that hold classes of pixels, `(B, *, H, W)`, and go with the images: their
            values are never interpolated, and no distance is measured in them. A `tv_tensors.Mask` of torchvision
            needs no naming.
        generator: Source of randomness; by default the global one of the inputs' device. A DataLoader seeds the
            global one differently in each worker, so leave it None there: workers, and processes that are spawned with
            the mixer, refuse it.

    Raises:
        ValueError: On an option out of range, naming the value and the choices.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        alpha: float | Callable[[Tensor, Tensor], Tensor] = 1.0,
        pairing: Pairing = "permutation",
        per_sample: bool = False,
        masks: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(masks, str):
            raise ValueError(f"masks must be a sequence of names, got the text {masks!r}")
        if not callable(alpha):
            check_positive("alpha", alpha, other="a callable")
        check_number("n_classes", n_classes, 1, whole=True)
        check_switch("per_sample", per_sample)
        self.n_classes = n_classes
        self.alpha = alpha
        self.pairing = pairing
        self.per_sample = per_sample
        self.masks = masks
        self.generator = generator
        self._checked = False

    def __call__(self, x: Inputs, target: Tensor) -> Mixed:
        """Mix inputs `(B, *)` of classes `target`, shape `(B,)`.

        Raises:
            ValueError: On shapes that do not fit together, or class indices out of range in the first batch.
        """
        first = check_batch(x, target)
        if not self._checked:  # once: it waits for the device
            check_target(target, self.n_classes)
            self._checked = True
        if get_worker_info() is not None:
            self._refuse_generator()
        compared = without(x, masks_in(x, self.masks))
        with torch.no_grad():
            partner = draw_partner(compared, target, self.pairing, self.generator)
            lam = self._draw_lam(compared, partner, _label_dtype(first))
        return self.mixed(x, target, partner, lam)

    def mixed(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> Mixed:
        """Mix rows with partners and weights that are given, `(B, *), (B,), (B,), (B,)`."""
        x_mix, lam = self.combine(x, target, partner, lam)
        target_j = target[partner]
        y_mix = torch.lerp(one_hot(target_j, self.n_classes, lam), one_hot(target, self.n_classes, lam), lam[:, None])
        return Mixed(x=x_mix, y_mix=y_mix, target_i=target, target_j=target_j, partner=partner, lam=lam, clean=x)

    @abstractmethod
    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Mixed inputs and the `lam` that they really hold, `(B, *), (B,), (B,), (B,) -> (B, *), (B,)`."""

    def _draw_lam(self, x: Inputs, partner: Tensor, dtype: torch.dtype) -> Tensor:
        n_rows = len(partner)
        if callable(self.alpha):
            rows = flat_rows(x)
            lam = draw_beta(self.alpha(rows, rows[partner]), self.generator)
        else:
            device = draw_device(partner.device, self.generator)
            alpha = torch.full((n_rows if self.per_sample else 1,), self.alpha, device=device)
            lam = draw_beta(alpha, self.generator)
        return lam.to(partner.device, dtype, non_blocking=True).expand(n_rows)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse a generator on the way to a process that is spawned, where an error would end in a long silence."""
        if get_spawning_popen() is not None:
            self._refuse_generator()
        return vars(self)

    def _refuse_generator(self) -> None:
        if self.generator is not None:
            raise ValueError(
                "generator must be None in a DataLoader's workers, where each would draw the same numbers: "
                "give the generator to the DataLoader"
            )

    def __repr__(self) -> str:
        options = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if name not in ("generator", "_checked")
        )
        return f"{type(self).__name__}({options})"


class Mixup(Mixer):
    r"""Mixup: :math:`x_\text{mix} = \lambda x_i + (1 - \lambda) x_j`.

    Half precision is mixed in float32 and cast back; images of uint8 are mixed in float32 and rounded. A mask is that
    of the input that is seen more: the row's own where lam is at least one half, else its partner's.

    Example:
        >>> mixed = Mixup(2, pairing="flip")(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        >>> torch.equal(mixed.x, mixed.y_mix[:, 1:])
        True

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Interpolate linearly.

        Raises:
            ValueError: On codes, or bytes that may be codes.
        """
        masks = masks_in(x, self.masks)
        check_pixels(x, masks)

        def mix(name: str | None, tensor: Tensor) -> Tensor:
            if name not in masks:
                return interpolate(tensor, tensor[partner], lam)
            own = (lam >= 0.5).view(-1, *[1] * (tensor.ndim - 1))
            return torch.where(own, tensor, tensor[partner])

        return ({name: mix(name, each) for name, each in x.items()} if isinstance(x, Mapping) else mix(None, x)), lam


class CutMix(Mixer):
    """CutMix: a box of each image is replaced by its partner's; `lam` is the share of pixels really kept.

    The last two dimensions are height and width; all inputs of a mapping must agree on them, so that masks of any dtype
    get the same box.

    Example:
        >>> mixed = CutMix(2)(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> mixed.x.shape
        torch.Size([4, 3, 8, 8])

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019.
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Paste a box whose area is the share `1 - lam`, clipped at the border."""
        sizes = {tuple(tensor.shape[-2:]) if tensor.ndim > 2 else () for tensor in tensors_of(x)}
        if len(sizes) != 1 or () in sizes:
            raise ValueError(f"x must hold images (B, *, H, W) of one size for CutMix, got sizes {sorted(sizes)}")
        n_boxes = len(lam) if self.per_sample or callable(self.alpha) else 1
        side = (1 - lam[:n_boxes, None]).sqrt()  # (B or 1, 1), in units of the image
        center = draw_uniform((n_boxes, 2), lam, self.generator)
        inside = []
        for axis, n_pixels in enumerate(sizes.pop()):
            half = (n_pixels * side / 2).floor()
            middle = (n_pixels * center[:, axis, None]).floor()
            pixel = torch.arange(n_pixels, device=lam.device)
            inside.append((pixel >= middle - half) & (pixel < middle + half))  # (B or 1, H or W)
        box = inside[0][:, :, None] & inside[1][:, None, :]  # (B or 1, H, W)

        def paste(tensor: Tensor) -> Tensor:
            return torch.where(box.view(len(box), *[1] * (tensor.ndim - 3), *box.shape[1:]), tensor[partner], tensor)

        kept = 1 - box.to(lam.dtype).mean((1, 2))
        return map_inputs(paste, x), kept.expand(len(lam))


class ColumnCutMix(Mixer):
    """CutMix for tables: columns are swapped with the partner's; `lam` is the share of columns really kept.

    Values are never interpolated, so codes of categories stay codes. The columns of a mapping are counted
    together: one share of all of them is kept.

    Example:
        >>> mixed = ColumnCutMix(2, pairing="flip")(torch.tensor([[0, 0], [1, 1]]), torch.tensor([0, 1]))
        >>> torch.equal(mixed.x.float().mean(1), mixed.y_mix[:, 1])
        True

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section A.5.
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Keep `round(lam * D)` columns, chosen at random.

        Raises:
            ValueError: On images, whose pixels are no columns.
        """
        for tensor in tensors_of(x):
            if tensor.ndim > 2:
                raise ValueError(f"x must hold rows (B, D), got {tuple(tensor.shape)}: use 'cutmix', or flatten it")
        widths = [tensor.shape[1] for tensor in tensors_of(x)]
        n_columns = sum(widths)
        n_draws = len(lam) if self.per_sample or callable(self.alpha) else 1
        rank = draw_uniform((n_draws, n_columns), lam, self.generator).argsort(1).argsort(1)
        n_kept = (lam[:n_draws] * n_columns).round()
        masks = iter((rank < n_kept[:, None]).split(widths, dim=1))  # (B or 1, D)

        def swap(tensor: Tensor) -> Tensor:
            mask = next(masks)
            return torch.where(mask, tensor, tensor[partner])

        return map_inputs(swap, x), (n_kept / n_columns).expand(len(lam))


MIXERS: dict[str, type[Mixer]] = {"mixup": Mixup, "cutmix": CutMix, "column_cutmix": ColumnCutMix}


def make_mixer(mix: str | Callable[..., Mixed], **params: Any) -> Callable[..., Mixed]:
    """Make a mixer from its name and parameters; a callable `(x, target) -> Mixed` passes through.

    Raises:
        ValueError: If no mixer has that name.
        TypeError: If a callable comes with parameters.

    Example:
        >>> make_mixer("cutmix", n_classes=3, alpha=0.5).alpha
        0.5
    """
    if isinstance(mix, str):
        if mix not in MIXERS:
            raise ValueError(f"mix must be one of {sorted(MIXERS)} or a callable, got {mix!r}")
        return MIXERS[mix](**params)
    if params:
        raise TypeError(f"parameters go with a mixer's name, got {sorted(params)} beside {mix!r}")
    return mix


def _label_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.float32
