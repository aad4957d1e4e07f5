"""Manifold intrusion: mixed samples that land on a class that was not mixed (Definition 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlabel_plugins._state import LearntState, check_fit_inputs, full_precision
from genlabel_plugins.mixing.mixers import Inputs, Mixed, interpolate, map_inputs, one_hot
from genlabel_plugins.mixing.pairing import draw_beta, flat_rows

BATCH_ROWS, CHUNK_ROWS = 128, 16_384  # their distances take 8 MiB in float32, however many samples there are
N_GROUPS = 256  # samples of a chunk are compared in so many groups
N_CANDIDATES = 4


class TrainingSamples(LearntState):
    """Training samples that answer for the class of the nearest one.

    Distances come out of one matrix product per chunk; the nearest few are then measured again by direct
    differences, since a product loses half of the digits of a small distance.

    Args:
        x: Training inputs, shape `(N, *)`; several inputs of a mapping are concatenated.
        target: Class indices, shape `(N,)`.

    Raises:
        ValueError: On shapes or values that do not fit together.

    Example:
        >>> samples = TrainingSamples(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        >>> samples.nearest_target(torch.tensor([[0.4], [0.6]]))
        tensor([0, 1])
    """

    rows: Tensor  # (N padded, D), centred: products of raw values far from zero lose digits
    square: Tensor  # (N padded,)
    target: Tensor  # (N padded,)
    offset: Tensor  # (D,)

    def __init__(self, x: Inputs, target: Tensor) -> None:
        super().__init__()
        rows, target, self.n_classes = check_fit_inputs(flat_rows(x), target, None)
        offset = rows.mean(0)
        rows = rows - offset
        padding = -len(rows) % N_GROUPS  # samples at infinity complete the groups
        self.register_buffer("rows", F.pad(rows, (0, 0, 0, padding)), persistent=False)
        self.register_buffer("square", F.pad(rows.square().sum(1), (0, padding), value=torch.inf), persistent=False)
        self.register_buffer("target", F.pad(target, (0, padding)), persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    @torch.no_grad()
    def nearest_target(self, x: Inputs) -> Tensor:
        """Class of the nearest training sample, `(B, *) -> (B,)`."""
        rows = flat_rows(x)
        if rows.shape[1] != self.rows.shape[1]:
            raise ValueError(f"x must have the {self.rows.shape[1]} features of the samples, got {rows.shape[1]}")
        centred = rows.to(self.rows.dtype) - self.offset
        with full_precision(centred):
            nearest = torch.cat([self._nearest(block) for block in centred.split(BATCH_ROWS)])
        return self.target[nearest]

    def _nearest(self, x: Tensor) -> Tensor:
        """Index of the nearest sample, `(B, D) -> (B,)`."""
        scores, indices = [], []
        for start in range(0, len(self.rows), CHUNK_ROWS):
            stop = start + CHUNK_ROWS
            score = torch.addmm(self.square[start:stop], x, self.rows[start:stop].T, alpha=-2)  # (B, chunk)
            best, index = _smallest(score)
            scores.append(best)
            indices.append(index + start)
        best, order = torch.cat(scores, 1).topk(N_CANDIDATES, largest=False)
        candidates = torch.cat(indices, 1).gather(1, order)  # (B, 4)
        distance = (self.rows[candidates] - x[:, None]).square().sum(-1).masked_fill(best.isinf(), torch.inf)
        return candidates.gather(1, distance.argmin(1, keepdim=True)).squeeze(1)


def _smallest(score: Tensor) -> tuple[Tensor, Tensor]:
    """The few smallest numbers of each row and where they are, `(B, n) -> (B, 4), (B, 4)`.

    They lie in the groups with the smallest minima. Minima over strided groups cost a tenth of a `topk`.
    """
    groups = score.view(len(score), -1, N_GROUPS)  # (B, members, groups)
    group = groups.amin(1).topk(N_CANDIDATES, largest=False).indices  # (B, 4)
    members = groups.gather(2, group[:, None].expand(-1, groups.shape[1], -1))
    best, place = members.flatten(1).topk(N_CANDIDATES, largest=False)
    return best, place // N_CANDIDATES * N_GROUPS + group.gather(1, place % N_CANDIDATES)


def intrudes(
    x_mix: Inputs, target_i: Tensor, target_j: Tensor, reference_x: Inputs, reference_target: Tensor
) -> Tensor:
    """Whether the nearest training sample of each mixed one is of neither mixed class (Definition 1).

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
    return _is_neither(TrainingSamples(reference_x, reference_target).nearest_target(x_mix), target_i, target_j)


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
        return _is_neither(self.samples.nearest_target(mixed.x), mixed.target_i, mixed.target_j)


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
    """How often mixup of these training samples would intrude, per pair of classes.

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
    samples = TrainingSamples(x, target)
    rows, target, n_classes = flat_rows(x), samples.target, samples.n_classes
    i, j = torch.randint(len(rows), (2, n_pairs), generator=generator).to(rows.device)
    lam = draw_beta(torch.full((n_pairs,), float(alpha)), generator).to(rows)
    blocks = zip(*(part.split(BATCH_ROWS) for part in (i, j, lam)), strict=True)
    nearest = torch.cat([samples.nearest_target(interpolate(rows[a], rows[b], share)) for a, b, share in blocks])
    intruding = _is_neither(nearest, target[i], target[j])
    pair = target[i] * n_classes + target[j]
    count = torch.bincount(pair, minlength=n_classes**2).view(n_classes, n_classes)
    hits = torch.bincount(pair[intruding], minlength=n_classes**2).view(n_classes, n_classes)
    count, hits = (table + table.T - table.diag().diag() for table in (count, hits))  # both orders of a pair
    return IntrusionRates(intruding.to(lam).mean(), hits / count, count)


def _is_neither(nearest: Tensor, target_i: Tensor, target_j: Tensor) -> Tensor:
    return (nearest != target_i) & (nearest != target_j)


def _unmixed(x: Inputs, target: Tensor, mixed: Mixed) -> Mixed:
    """The batch itself, every row its own partner."""
    itself = torch.arange(len(target), device=target.device)
    y = one_hot(target, mixed.y_mix.shape[1], mixed.y_mix)
    return Mixed(x=x, y_mix=y, target_i=target, target_j=target, partner=itself, lam=torch.ones_like(mixed.lam))


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
    )
