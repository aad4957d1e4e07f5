"""Mixing: which rows meet, how much of each is kept, and how two inputs become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import get_spawning_popen
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from genlabel_plugins._checks import check_number, check_positive, check_target, check_tensor
from genlabel_plugins.mixing.pairing import Pairing, draw_beta, draw_device, draw_partner, flat_rows

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor]"


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A mixed batch, with all that a label policy needs.

    Attributes:
        x: Mixed inputs, shape `(B, *)`, or a mapping of several.
        y_mix: Labels mixed by `lam`, shape `(B, C)`.
        target_i: Classes of the rows, shape `(B,)`.
        target_j: Classes of their partners, shape `(B,)`.
        partner: Row that each row is mixed with, shape `(B,)`; a row may be its own partner.
        lam: Share of the row itself, shape `(B,)`; what was really mixed, after any correction.
        row: The rows' own places in the batch that `partner` counts in, shape `(B,)`; by default all, in order.
    """

    x: Inputs
    y_mix: Tensor
    target_i: Tensor
    target_j: Tensor
    partner: Tensor
    lam: Tensor
    row: Tensor | None = None

    @property
    def is_mixed(self) -> Tensor:
        """Which rows hold a part of two inputs, shape `(B,)`; the label of any other is known for sure."""
        row = torch.arange(len(self.partner), device=self.partner.device) if self.row is None else self.row
        return (self.lam > 0) & (self.lam < 1) & (self.partner != row)


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
        generator: torch.Generator | None = None,
    ) -> None:
        if not callable(alpha):
            check_positive("alpha", alpha, other="a callable")
        check_number("n_classes", n_classes, 1, whole=True)
        self.n_classes = n_classes
        self.alpha = alpha
        self.pairing = pairing
        self.per_sample = per_sample
        self.generator = generator
        self._checked = False

    def __call__(self, x: Inputs, target: Tensor) -> Mixed:
        """Mix inputs `(B, *)` of classes `target`, shape `(B,)`.

        Raises:
            ValueError: On shapes that do not fit together, or class indices out of range in the first batch.
        """
        first = _check_batch(x, target)
        if not self._checked:  # once: it waits for the device
            check_target(target, self.n_classes)
            self._checked = True
        if get_worker_info() is not None:
            self._refuse_generator()
        with torch.no_grad():
            partner = draw_partner(x, target, self.pairing, self.generator)
            lam = self._draw_lam(x, partner, _label_dtype(first))
        return self.mixed(x, target, partner, lam)

    def mixed(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> Mixed:
        """Mix rows with partners and weights that are given, `(B, *), (B,), (B,), (B,)`."""
        x_mix, lam = self.combine(x, target, partner, lam)
        target_j = target[partner]
        y_mix = torch.lerp(one_hot(target_j, self.n_classes, lam), one_hot(target, self.n_classes, lam), lam[:, None])
        return Mixed(x=x_mix, y_mix=y_mix, target_i=target, target_j=target_j, partner=partner, lam=lam)

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

    Half precision is mixed in float32 and cast back; uint8 is mixed in float32 and rounded.

    Example:
        >>> mixed = Mixup(2, pairing="flip")(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        >>> torch.equal(mixed.x, mixed.y_mix[:, 1:])
        True

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Interpolate linearly."""
        return map_inputs(lambda tensor: interpolate(tensor, tensor[partner], lam), x), lam


class CutMix(Mixer):
    """CutMix: a box of each image is replaced by its partner's; `lam` is the share of pixels really kept.

    The last two dimensions are height and width; all inputs of a mapping must agree on them.

    Example:
        >>> mixed = CutMix(2)(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> mixed.x.shape
        torch.Size([4, 3, 8, 8])

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019.
    """

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Paste a box whose area is the share `1 - lam`, clipped at the border."""
        sizes = {tuple(tensor.shape[-2:]) if tensor.ndim > 2 else () for tensor in _tensors(x)}
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
        """Keep `round(lam * D)` columns, chosen at random."""
        widths = [tensor[0].numel() for tensor in _tensors(x)]
        n_columns = sum(widths)
        n_draws = len(lam) if self.per_sample or callable(self.alpha) else 1
        rank = draw_uniform((n_draws, n_columns), lam, self.generator).argsort(1).argsort(1)
        n_kept = (lam[:n_draws] * n_columns).round()
        masks = iter((rank < n_kept[:, None]).split(widths, dim=1))  # (B or 1, D)

        def swap(tensor: Tensor) -> Tensor:
            mask = next(masks)
            return torch.where(mask.view(len(mask), *tensor.shape[1:]), tensor, tensor[partner])

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


def interpolate(x_i: Tensor, x_j: Tensor, lam: Tensor) -> Tensor:
    """Mix `lam * x_i + (1 - lam) * x_j` in float32 or better, exact at both ends, in the dtype of `x_i`.

    Raises:
        ValueError: On integers other than uint8, whose values are codes.
    """
    if not x_i.is_floating_point() and x_i.dtype != torch.uint8:
        raise ValueError(f"x must be floating point or uint8 to be interpolated, got {x_i.dtype}: use 'column_cutmix'")
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


def _tensors(x: Inputs) -> list[Tensor]:
    return list(x.values()) if isinstance(x, Mapping) else [x]


def _label_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.float32


def _check_batch(x: Inputs, target: Tensor) -> Tensor:
    """Return the first input, or raise."""
    tensors = _tensors(x)
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
