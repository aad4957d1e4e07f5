"""`nn`: the density of the k-th nearest training row of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number, check_positive
from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import accumulator
from genlabel_plugins.densities.backends._tiles import MAX_BATCH, PIECE, chunk_elements, tile, tiles_per_chunk
from genlabel_plugins.densities.backends._whitening import with_ones
from genlabel_plugins.densities.parents import Parents, RowPlaces, drop_
from genlabel_plugins.densities.streaming import RESERVOIR, ReservoirDensity

N_TRIED = 64  # training rows on which the rounding of the product is measured
TOLERANCE = 1e-3  # of a squared distance


class NearestNeighbor(ReservoirDensity):
    r"""Nearest-neighbor class densities :math:`p_c(x) = k / (n_c V_d\, r_c(x)^d)`.

    :math:`r_c(x)` is the Euclidean distance, in the units of the data, from x to its k-th nearest row of class c,
    and :math:`V_d = \pi^{d/2} / \Gamma(d/2 + 1)` the volume of the unit ball. This density does not integrate to
    one. Neighbors are found by a matrix product and measured by differences: a product alone is off by nats next
    to a training row. Columns in which a class reaches so far that a product would miss neighbors, such as one on
    far-apart levels, are left out of it and searched by differences, too; `fit` finds them by trial.

    Args:
        n_neighbors: k; a class with fewer rows uses all of them, and their number as its k.
        min_distance: Least distance, in units of the root-mean-square distance of the training rows from their
            mean, since mixing with a weight of one lands on a training row.
        reservoir: Rows of each class that `partial_fit` keeps, a uniform sample; its distances are larger by what its
            density of rows is smaller, which :math:`n_c` of the sample makes good.

    Raises:
        ValueError: On an option out of range.

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [10.0]], dtype=torch.float64)
        >>> nearest = NearestNeighbor().fit(x, torch.tensor([0, 0, 1]))
        >>> nearest.log_prob(torch.tensor([[1.0]], dtype=torch.float64)).exp()  # 1 / (2 * 2), 1 / (1 * 18)
        tensor([[0.2500, 0.0556]], dtype=torch.float64)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 1.2.
    """

    normalized = False  # the volume grows so slowly far away that the integral diverges

    row_score_: Tensor  # (n_tiles, width, 1+D-W), [-|r_i|^2 - 2 o_c r_i, 2 r_i] of rows o_c + r_i; -inf pads
    wide_row_: Tensor  # (n_tiles, width, W), columns that a product would drown
    column_: Tensor  # (D,), the others and then these
    origin_: Tensor  # (K, D), o_c in the order of the columns, zero in wide ones
    first_tile_: Tensor  # (K,)
    tile_class_: Tensor  # (n_tiles,)
    used_: Tensor  # (K,), neighbors that a class has, at most k
    log_norm_: Tensor  # (K,)
    least_square_: Tensor  # ()
    unit_: Tensor  # (), power of two, so that squares of far and of tiny rows stay within float32

    def __init__(self, *, n_neighbors: int = 1, min_distance: float = 1e-6, reservoir: int = RESERVOIR) -> None:
        super().__init__()
        check_number("n_neighbors", n_neighbors, 1, whole=True)
        check_positive("min_distance", min_distance)
        self.n_neighbors = n_neighbors
        check_number("reservoir", reservoir, 1, whole=True)
        self.min_distance = min_distance
        self.reservoir = reservoir
        self.places = RowPlaces()
        self._declare("row_score_", "wide_row_", "column_", "origin_", "first_tile_", "tile_class_")
        self._declare("used_", "log_norm_", "least_square_", "unit_")

    def neighbors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances to the k nearest rows of each class, and which of the rows of the class these are.

        Args:
            x: Inputs, shape `(B, *)`.

        Returns:
            Distances and indices among the rows of the class, both of shape `(B, K, k)` for K classes with rows; a
            class with fewer than k has infinite distances beyond.
        """
        rows = self._rows(x)
        if not len(rows):
            nothing = rows.new_empty(0, len(self.used_), self.n_neighbors)
            return nothing, nothing.long()
        with torch.no_grad(), full_precision(rows):
            parts = [self._nearest(part, self.used_) for part in rows.split(MAX_BATCH)]
        square, place = (torch.cat(part) for part in zip(*parts, strict=True))
        square *= self.unit_.square()
        return square, place - (self.first_tile_ * self.row_score_.shape[1])[:, None]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        score = state_dict.get(prefix + "row_score_")
        if score is not None and prefix + "unit_" not in state_dict:
            # Of a build before 0.1.0: rows as they are, about one origin, all columns in the product.
            n_features = score.shape[2] - 1
            earlier = {
                "unit_": score.new_ones(()),
                "origin_": score.new_zeros(len(state_dict[prefix + "used_"]), n_features),
                "column_": torch.arange(n_features),
                "wide_row_": score.new_empty(*score.shape[:2], 0),
            }
            state_dict = {**state_dict, **{prefix + name: tensor for name, tensor in earlier.items()}}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _rows(self, x: Tensor) -> Tensor:
        return super()._rows(x) / self.unit_

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        spread = x.to(accumulator(x)).square().sum(1).mean()
        self.unit_ = torch.where(spread > 0, spread.log2().div(2).round().exp2(), 1.0).to(x)
        x = x / self.unit_
        tiles = tile(target)
        tiles_per_class = tiles.target.bincount()
        self.first_tile_, self.tile_class_ = tiles_per_class.cumsum(0) - tiles_per_class, tiles.target
        count = target.bincount()
        self.used_ = count.clamp(max=self.n_neighbors)
        half = x.shape[1] / 2
        log_ball = half * math.log(math.pi) - math.lgamma(half + 1)
        self.log_norm_ = self.used_.to(x).log() - count.to(x).log() - log_ball
        self.log_norm_ -= x.shape[1] * self.unit_.log()
        self.least_square_ = self.min_distance**2 * torch.where(spread > 0, x.square().sum(1).mean(), 1.0)
        mean = x.new_zeros(len(count), x.shape[1]).index_add_(0, target, x) / count[:, None]
        self.places.remember(x, target, tiles.place)
        self._store(x, mean, target, tiles.row, n_wide=0)
        tried = x[torch.randperm(len(x), generator=generator)[:N_TRIED].to(x.device)]
        self.column_ = self.row_score_[..., 1:].abs().amax((0, 1)).argsort()
        if n_wide := self._count_wide(tried):
            self._store(x, mean, target, tiles.row, n_wide)

    def _store(self, x: Tensor, mean: Tensor, target: Tensor, place: Tensor, n_wide: int) -> None:
        """Lay out rows for the product, all but the `n_wide` columns that reach farthest from the means."""
        narrow = x.shape[1] - n_wide
        self.wide_row_ = x.new_empty(0, 0, n_wide)
        x, self.origin_ = self._ordered(x), self._ordered(mean).clone()
        self.origin_[:, narrow:] = 0
        origin = self.origin_[target]
        row, wide = (x - origin).tensor_split([narrow], 1)
        bias = -(row * (x + origin)[:, :narrow]).sum(1, keepdim=True)
        padded = x.new_tensor([-torch.inf, *[0.0] * narrow]).expand(1, -1)
        self.row_score_ = torch.cat([torch.cat([bias, 2 * row], 1), padded])[place]  # -1 picks the last
        self.wide_row_ = torch.cat([wide, wide.new_zeros(1, n_wide)])[place]

    def _count_wide(self, x: Tensor) -> int:
        """Columns to leave out of the product for its rounding to matter little beside distances, `(B, D) -> ()`."""
        square, place = (part[..., 0] for part in self._nearest(x, self.used_))  # (B, K)
        row = self.row_score_.flatten(0, 1)[place][..., 1:].mul(0.5)[..., self.column_]  # (B, K, D)
        x, origin = x[:, None, self.column_], self.origin_[:, self.column_]
        typical = square[square > 0]
        if not len(typical):
            return 0
        allowed = TOLERANCE * square.maximum(typical.median())
        for n_wide in (0, *(1 << i for i in range(x.shape[-1].bit_length()))):
            a, b, o = (part[..., : x.shape[-1] - n_wide] for part in (x, row, origin))
            product = (a - o).square().sum(-1) - (2 * a * b).sum(-1) + (b * (b + 2 * o)).sum(-1)
            if bool(((product - (a - o - b).square().sum(-1)).abs() <= allowed).all()):
                return n_wide
        return len(self.column_)

    @property
    def leaves_parents_out(self) -> bool:
        """True: other rows are their neighbors."""
        return True

    def _log_prob(self, x: Tensor) -> Tensor:
        if len(x) > MAX_BATCH:
            return torch.cat([self._log_prob(rows) for rows in x.split(MAX_BATCH)])
        return torch.add(self.log_norm_, self._log_square(x, self.used_), alpha=-x.shape[1] / 2)

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        count = self.class_count_[self.present_]
        place, lost = self.places.leave(parents, count)
        left = count - lost  # (B, K)
        used = left.clamp(max=self.n_neighbors)
        parts = zip(*(part.split(MAX_BATCH) for part in (x, used, place)), strict=True)
        log_norm = self.log_norm_ + (used * count).to(x).log() - (self.used_ * left).to(x).log()
        log_square = torch.cat([self._log_square(*part) for part in parts])
        return torch.add(log_norm, log_square, alpha=-x.shape[1] / 2)

    def _log_square(self, x: Tensor, used: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Log of the squared distance to the furthest neighbor of each class, `(B, D) -> (B, K)`."""
        square = self._nearest(x, used, dropped)[0].masked_fill(self._beyond(used), 0.0).amax(-1)
        return square.maximum(self.least_square_).log()

    def _nearest(self, x: Tensor, used: Tensor, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Squared distances to the k nearest rows of each class, and their places, `(B, D) -> (B, K, k)`.

        Args:
            x: Rows, shape `(B, D)`.
            used: Neighbors that a class has, shape `(K,)`, or for each row `(B, K)`.
            dropped: Places that are passed over, shape `(B, 2)`.
        """
        x = self._ordered(x)
        place = self._places(x, dropped)
        rows_at_once = max(1, chunk_elements(x) // (place[0].numel() * x.shape[1]))
        parts = zip(x.split(rows_at_once), place.split(rows_at_once), strict=True)
        square = torch.cat([self._square(*part) for part in parts])
        return square.masked_fill(self._beyond(used), torch.inf), place

    def _beyond(self, used: Tensor) -> Tensor:
        """Neighbors that a class does not have, shape `(*, K, k)`."""
        return torch.arange(self.n_neighbors, device=used.device) >= used[..., None]

    def _ordered(self, x: Tensor) -> Tensor:
        return x[:, self.column_] if self.wide_row_.shape[2] else x

    def _square(self, x: Tensor, place: Tensor) -> Tensor:
        """Squared distances from rows to those in the places, `(B, D), (B, K, k) -> (B, K, k)`."""
        row = self.row_score_.flatten(0, 1)[place][..., 1:].mul(0.5)
        if self.wide_row_.shape[2]:
            row = torch.cat([row, self.wide_row_.flatten(0, 1)[place]], -1)  # (B, K, k, D)
        return ((x[:, None] - self.origin_)[:, :, None] - row).square().sum(-1)

    def _scores(self, x: Tensor) -> Iterator[Tensor]:
        """Minus squared distances, but for a term of row and class, some tiles at a time, `(B, D) -> (B, places)`."""
        n_wide = self.wide_row_.shape[2]
        query, wide = with_ones(x[:, : x.shape[1] - n_wide]), x[:, x.shape[1] - n_wide :, None]
        at_once = tiles_per_chunk(x, self.row_score_.shape[1])
        for rows, wide_rows in zip(self.row_score_.split(at_once), self.wide_row_.split(at_once), strict=True):
            across = rows.flatten(0, 1).T
            if not n_wide:
                yield torch.mm(query, across)
                continue
            differences = (wide[:, i] - wide_rows[..., i].flatten() for i in range(n_wide))
            square = reduce(torch.Tensor.add_, (difference.square_() for difference in differences))
            yield square.addmm_(query, across, beta=-1)

    def _places(self, x: Tensor, dropped: Tensor | None) -> Tensor:
        """Places of the k nearest rows of each class in the flattened tiles, `(B, D) -> (B, K, k)`."""
        n_tiles, width, _ = self.row_score_.shape
        best, first = [], 0
        for score in self._scores(x):
            if dropped is not None:
                drop_(score, dropped - first, -torch.inf)
                first += score.shape[1]
            best.append(_best(score, width, self.n_neighbors))
        score, place = (torch.cat(parts, 1) for parts in zip(*best, strict=True))  # (B, n_tiles, kept) twice
        kept = score.shape[2]
        place = place + width * torch.arange(n_tiles, device=x.device)[:, None]
        by_score = score.flatten(1).argsort(1, descending=True)
        by_class = self.tile_class_.repeat_interleave(kept)[by_score].argsort(dim=1, stable=True)
        order = by_score.gather(1, by_class)  # classes in turn, each from its nearest on
        rank = self.first_tile_[:, None] * kept + torch.arange(self.n_neighbors, device=x.device)
        rank = rank.clamp(max=n_tiles * kept - 1)
        return place.flatten(1).gather(1, order[:, rank.flatten()]).view(len(x), *rank.shape)


def _best(score: Tensor, width: int, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores of each tile and their places in it, `(B, n * width) -> (B, n, k)` twice.

    The k best lie within the k pieces of highest maximum; a maximum is far cheaper than a search.
    """
    height = math.gcd(width, PIECE) if width > PIECE else width
    pieces = score.view(len(score), -1, height, width // height)  # (B, n, height, pieces): a piece is a column
    column = _top(pieces.amax(2), min(k, pieces.shape[3]))[1]  # (B, n, k)
    candidates = pieces.gather(3, column[:, :, None].expand(-1, -1, height, -1)).flatten(2)  # (B, n, height * k)
    best, place = _top(candidates, min(k, width))
    n_columns = column.shape[2]
    return best, place // n_columns * pieces.shape[3] + column.gather(2, place % n_columns)


def _top(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of the last dimension and their indices; one alone is found several times faster as a maximum."""
    values, indices = score.max(-1, keepdim=True) if k == 1 else score.topk(k)
    return values, indices
