"""Manifold intrusion: mixed samples that land on a class that was not mixed (Definition 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number
from genlabel_plugins._state import check_fit_inputs
from genlabel_plugins.densities import make_backend
from genlabel_plugins.mixing.inputs import Inputs, interpolate, map_inputs, one_hot
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.mixing.pairing import draw_beta, flat_rows

BLOCK_ROWS = 256  # mixed rows that are made at a time
ROUNDING = 2  # units in the last place of a centered row within which two distances are the same


class TrainingSamples(nn.Module):
    """Training samples that answer for the classes of the nearest ones, by backend `nn`.

    Samples that occur several times are kept once, with their number. Classes whose nearest samples are equally far,
    but for rounding, share by their number there: the order of the samples decides on nothing.

    Args:
        x: Training inputs, shape `(N, *)`; several inputs of a mapping are concatenated.
        target: Class indices, shape `(N,)`.

    Raises:
        ValueError: On shapes or values that do not fit together.

    Example:
        >>> samples = TrainingSamples(torch.tensor([[0.0], [1.0], [1.0], [1.0]]), torch.tensor([0, 1, 1, 0]))
        >>> samples.class_share(torch.tensor([[0.4], [0.6]]))
        tensor([[1.0000, 0.0000],
                [0.3333, 0.6667]])
    """

    count: Tensor  # (U,), how often each distinct sample of a class occurs, class by class
    first: Tensor  # (K,), where the samples of each class start
    classes: Tensor  # (C,)

    def __init__(self, x: Inputs, target: Tensor) -> None:
        super().__init__()
        rows, target, count = _distinct(x, target)
        self.density = make_backend("nn").fit(rows, target)
        for module in self.density.modules():  # a checkpoint need not hold the training rows
            for name, buffer in module.named_buffers(recurse=False):
                module.register_buffer(name, buffer, persistent=False)
        n_samples = self.density.class_count_[self.density.present_]
        self.register_buffer("count", count, persistent=False)
        self.register_buffer("first", n_samples.cumsum(0) - n_samples, persistent=False)
        self.register_buffer("classes", torch.arange(self.density.n_classes, device=rows.device), persistent=False)

    @torch.no_grad()
    def class_share(self, x: Inputs) -> Tensor:
        """Share of each class in the nearest samples, `(B, *) -> (B, C)`; rows sum to one."""
        count = self._count(x)
        share: Tensor = count / count.sum(1, keepdim=True)
        return share

    @torch.no_grad()
    def intrusion(self, x_mix: Inputs, target_i: Tensor, target_j: Tensor) -> Tensor:
        """Share of the nearest samples that are of neither mixed class, `(B, *), (B,), (B,) -> (B,)`."""
        count = self._count(x_mix)
        neither = (self.classes != target_i[:, None]) & (self.classes != target_j[:, None])
        share: Tensor = (count * neither).sum(1) / count.sum(1)
        return share

    def _count(self, x: Inputs) -> Tensor:
        """Nearest samples of each class, `(B, *) -> (B, C)`."""
        rows = flat_rows(x)
        square, place = (part.squeeze(2) for part in self.density.neighbors(rows))  # (B, K)
        distance = square.sqrt()
        nearest = distance.amin(1, keepdim=True)
        norm = torch.linalg.vector_norm(rows - self.density.offset_, dim=1, keepdim=True)
        tied = distance <= nearest + ROUNDING * torch.finfo(distance.dtype).eps * (norm + nearest)
        count = self.count[self.first + place] * tied
        total = torch.zeros_like(distance[:, :1]).expand(-1, len(self.classes))
        return total.index_copy(1, self.density.present_, count.to(distance.dtype))


def intrudes(
    x_mix: Inputs, target_i: Tensor, target_j: Tensor, reference_x: Inputs, reference_target: Tensor
) -> Tensor:
    """Whether the nearest training samples of each mixed one are all of neither mixed class (Definition 1).

    Of several equally near samples, one of a mixed class will do: a mixed row that lies on a row of its own class
    does not intrude, whichever twins that row has in other classes.

    Args:
        x_mix: Mixed inputs, shape `(B, *)`.
        target_i: Classes of the rows, shape `(B,)`.
        target_j: Classes of their partners, shape `(B,)`.
        reference_x: Training inputs, shape `(N, *)`.
        reference_target: Their classes, shape `(N,)`.

    Returns:
        Mask of shape `(B,)`.

    Example:
        >>> x, target = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 0])
        >>> intrudes(torch.tensor([[0.1], [0.9]]), torch.tensor([0, 0]), torch.tensor([0, 0]), x, target)
        tensor([ True, False])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Definition 1.
    """
    return TrainingSamples(reference_x, reference_target).intrusion(x_mix, target_i, target_j) == 1


class ExcludeIntrusion(nn.Module):
    """Mix without manifold intrusion: a mixer that drops, or draws again, what intrudes.

    Args:
        mix: Mixer, a callable `(x, target) -> Mixed`.
        x: Training inputs, shape `(N, *)`.
        target: Their classes, shape `(N,)`.
        how: `"drop"` returns the rows that do not intrude, however few (the paper's mixup without intrusion);
            `"redraw"` mixes intruding rows anew, keeps the batch size and needs no device sync.
        max_draws: Redraws before a row that still intrudes comes back unmixed.

    Raises:
        ValueError: On an unknown `how`.

    Example:
        >>> from genlabel_plugins import Mixup
        >>> x, target = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 0])
        >>> mix = ExcludeIntrusion(Mixup(2, pairing="flip"), x, target)
        >>> bool(intrudes((mixed := mix(x, target)).x, mixed.target_i, mixed.target_j, x, target).any())
        False

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 3.1.
    """

    def __init__(
        self,
        mix: Callable[[Inputs, Tensor], Mixed],
        x: Inputs,
        target: Tensor,
        *,
        how: Literal["drop", "redraw"] = "redraw",
        max_draws: int = 10,
    ) -> None:
        super().__init__()
        if how not in ("drop", "redraw"):
            raise ValueError(f"how must be 'drop' or 'redraw', got {how!r}")
        check_number("max_draws", max_draws, 0, whole=True)
        self.mix = mix
        self.samples = TrainingSamples(x, target)
        self.how = how
        self.max_draws = max_draws

    def forward(self, x: Inputs, target: Tensor) -> Mixed:
        """Mix inputs `(B, *)` of classes `target`, shape `(B,)`."""
        mixed = self.mix(x, target)
        if self.how == "drop":
            return _select(mixed, ~self._intrudes(mixed))
        for _ in range(self.max_draws):
            mixed = _choose(self._intrudes(mixed), self.mix(x, target), mixed)
        return _choose(self._intrudes(mixed), _unmixed(x, target, mixed), mixed)

    def _intrudes(self, mixed: Mixed) -> Tensor:
        return self.samples.intrusion(mixed.x, mixed.target_i, mixed.target_j) == 1


class IntrusionRates(NamedTuple):
    """Shares of mixed samples that intrude.

    Attributes:
        overall: Share of all mixed samples, a scalar.
        rate: Share per pair of mixed classes, shape `(C, C)`, symmetric; NaN where no pair was drawn.
        pair_count: Mixed samples per pair of classes, shape `(C, C)`.
    """

    overall: Tensor
    rate: Tensor
    pair_count: Tensor


@torch.no_grad()
def intrusion_rates(
    x: Inputs,
    target: Tensor,
    *,
    alpha: float = 1.0,
    n_pairs: int = 10_000,
    generator: torch.Generator | None = None,
) -> IntrusionRates:
    """How often mixup of these training samples would intrude, per pair of classes; equally near samples share.

    Args:
        x: Training inputs, shape `(N, *)`.
        target: Class indices, shape `(N,)`.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        n_pairs: Mixed samples to draw, from all ordered pairs.
        generator: Source of randomness on the CPU; by default a fresh one, seeded with 0.

    Example:
        >>> x, target = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 0])
        >>> bool(intrusion_rates(x, target).rate[0, 1] == 0)
        True
    """
    generator = generator or torch.Generator().manual_seed(0)
    rows, target, count = _distinct(x, target)
    rows, target = rows.repeat_interleave(count, 0), target.repeat_interleave(count)  # in an order of their own
    samples = TrainingSamples(rows, target)
    n_classes = len(samples.classes)
    i, j = torch.randint(len(rows), (2, n_pairs), generator=generator).to(rows.device)
    lam = draw_beta(torch.full((n_pairs,), float(alpha)), generator).to(rows)
    blocks = zip(*(part.split(BLOCK_ROWS) for part in (i, j, lam)), strict=True)
    intruding = torch.cat(
        [samples.intrusion(interpolate(rows[a], rows[b], c), target[a], target[b]) for a, b, c in blocks]
    )
    pair = target[i] * n_classes + target[j]
    count = torch.bincount(pair, minlength=n_classes**2).view(n_classes, n_classes)
    hits = torch.bincount(pair, intruding, minlength=n_classes**2).view(n_classes, n_classes)
    count, hits = (table + table.T - table.diag().diag() for table in (count, hits))  # both orders of a pair
    return IntrusionRates(intruding.mean(), (hits / count).to(lam), count)


def _distinct(x: Inputs, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct samples `(U, D)` with classes `(U,)`, sorted by class and value, and how often each occurs, `(U,)`."""
    rows, target, _ = check_fit_inputs(flat_rows(x), target, None)
    labeled, count = torch.cat([target[:, None].to(rows), rows], 1).unique(dim=0, return_counts=True)
    return labeled[:, 1:], labeled[:, 0].long(), count


def _unmixed(x: Inputs, target: Tensor, mixed: Mixed) -> Mixed:
    """The batch itself, every row its own partner."""
    itself = torch.arange(len(target), device=target.device)
    y = one_hot(target, mixed.y_mix.shape[1], mixed.y_mix)
    lam = torch.ones_like(mixed.lam)
    return Mixed(x=x, y_mix=y, target_i=target, target_j=target, partner=itself, lam=lam, clean=x)


def _choose(mask: Tensor, chosen: Mixed, other: Mixed) -> Mixed:
    """Rows of `chosen` where the mask holds, else of `other`."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

    return Mixed(
        x=map_inputs(choose, chosen.x, other.x),
        y_mix=choose(chosen.y_mix, other.y_mix),
        target_i=other.target_i,
        target_j=choose(chosen.target_j, other.target_j),
        partner=choose(chosen.partner, other.partner),
        lam=choose(chosen.lam, other.lam),
        clean=other.clean,
    )


def _select(mixed: Mixed, mask: Tensor) -> Mixed:
    """Rows where the mask holds."""
    return replace(
        mixed,
        x=map_inputs(lambda tensor: tensor[mask], mixed.x),
        y_mix=mixed.y_mix[mask],
        target_i=mixed.target_i[mask],
        target_j=mixed.target_j[mask],
        partner=mixed.partner[mask],
        lam=mixed.lam[mask],
        row=(torch.arange(len(mask), device=mask.device) if mixed.row is None else mixed.row)[mask],
    )
