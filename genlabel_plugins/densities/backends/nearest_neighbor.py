"""`nn`: the density of the k-th nearest training row of each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genlabel_plugins.densities.backends._tiles import CHUNK_ELEMENTS, MAX_BATCH, PIECE, tile, tiles_per_chunk
from genlabel_plugins.densities.backends._whitening import with_ones
from genlabel_plugins.densities.density import Density


class NearestNeighbor(Density):
    r"""Nearest-neighbour class densities :math:`p_c(x) = k / (n_c V_d\, r_c(x)^d)`.

    :math:`r_c(x)` is the Euclidean distance, in the units of the data, from x to its k-th nearest row of class c,
    and :math:`V_d = \pi^{d/2} / \Gamma(d/2 + 1)` the volume of the unit ball. This density does not integrate to
    one. Neighbours are found by a matrix product and measured by differences: a product alone is off by nats next
    to a training row.

    Args:
        n_neighbors: k; a class with fewer rows uses all of them, and their number as its k.
        min_distance: Least distance, in units of the root-mean-square distance of the training rows from their
            mean, since mixing with a weight of one lands on a training row.

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

    row_score_: Tensor  # (n_tiles, width, 1+D), [-|x_i|^2, 2 x_i]; -inf pads
    first_tile_: Tensor  # (K,)
    tile_class_: Tensor  # (n_tiles,)
    used_: Tensor  # (K,), neighbours that a class has, at most k
    log_norm_: Tensor  # (K,)
    least_square_: Tensor  # ()

    def __init__(self, *, n_neighbors: int = 1, min_distance: float = 1e-6) -> None:
        super().__init__()
        if n_neighbors < 1:
            raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}")
        if not 0 < min_distance < math.inf:
            raise ValueError(f"min_distance must be positive, got {min_distance}")
        self.n_neighbors = n_neighbors
        self.min_distance = min_distance
        self._declare("row_score_", "first_tile_", "tile_class_", "used_", "log_norm_", "least_square_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        tiles = tile(target)
        square = x.square().sum(1, keepdim=True)
        padded = x.new_tensor([-torch.inf, *[0.0] * x.shape[1]]).expand(1, -1)
        self.row_score_ = torch.cat([torch.cat([-square, 2 * x], 1), padded])[tiles.row]  # -1 picks the last
        tiles_per_class = tiles.target.bincount()
        self.first_tile_, self.tile_class_ = tiles_per_class.cumsum(0) - tiles_per_class, tiles.target
        count = target.bincount()
        self.used_ = count.clamp(max=self.n_neighbors)
        half = x.shape[1] / 2
        log_ball = half * math.log(math.pi) - math.lgamma(half + 1)
        self.log_norm_ = self.used_.to(square).log() - count.to(square).log() - log_ball
        spread = square.mean()
        self.least_square_ = self.min_distance**2 * torch.where(spread > 0, spread, 1.0)

    def _log_prob(self, x: Tensor) -> Tensor:
        if len(x) > MAX_BATCH:
            return torch.cat([self._log_prob(rows) for rows in x.split(MAX_BATCH)])
        neighbor = self._neighbors(x)  # (B, K, k)
        rows_at_once = max(1, CHUNK_ELEMENTS // (neighbor[0].numel() * x.shape[1]))
        parts = zip(x.split(rows_at_once), neighbor.split(rows_at_once), strict=True)
        square = torch.cat([self._square(*part) for part in parts])
        return torch.add(self.log_norm_, square.maximum(self.least_square_).log(), alpha=-x.shape[1] / 2)

    def _neighbors(self, x: Tensor) -> Tensor:
        """Places of the k nearest rows of each class in the flattened tiles, `(B, D) -> (B, K, k)`."""
        n_tiles, width, _ = self.row_score_.shape
        query = with_ones(x)
        chunks = self.row_score_.split(tiles_per_chunk(len(x), width))
        best = [_best(query @ chunk.flatten(0, 1).T, width, self.n_neighbors) for chunk in chunks]
        score, place = (torch.cat(parts, 1) for parts in zip(*best, strict=True))  # (B, n_tiles, kept) twice
        kept = score.shape[2]
        place = place + width * torch.arange(n_tiles, device=x.device)[:, None]
        by_score = score.flatten(1).argsort(1, descending=True)
        by_class = self.tile_class_.repeat_interleave(kept)[by_score].argsort(dim=1, stable=True)
        order = by_score.gather(1, by_class)  # classes in turn, each from its nearest on
        rank = self.first_tile_[:, None] * kept + torch.arange(self.n_neighbors, device=x.device)
        rank = rank.clamp(max=n_tiles * kept - 1)
        return place.flatten(1).gather(1, order[:, rank.flatten()]).view(len(x), *rank.shape)

    def _square(self, x: Tensor, neighbor: Tensor) -> Tensor:
        """Squared distance to the furthest of the neighbours that a class has, `(B, D), (B, K, k) -> (B, K)`."""
        row = 0.5 * self.row_score_.flatten(0, 1)[neighbor][..., 1:]  # (B, K, k, D)
        square = (x[:, None, None] - row).square().sum(-1)
        beyond = torch.arange(self.n_neighbors, device=x.device) >= self.used_[:, None]
        return square.masked_fill(beyond, 0.0).amax(-1)


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
