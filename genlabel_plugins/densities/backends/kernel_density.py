"""`kde`: a Gaussian kernel on every training row."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number
from genlabel_plugins.densities._components import warn_of_components
from genlabel_plugins.densities._segments import LogRatio, MixtureLogRatio, segment_ends
from genlabel_plugins.densities.backends._bandwidths import best_bandwidth, log2_sum_exp2_
from genlabel_plugins.densities.backends._class_estimates import (
    Shrinkage,
    check_shrinkage,
    class_estimates,
    raise_variances,
    warn_if_few,
)
from genlabel_plugins.densities.backends._evidence import (
    MAX_JUDGES,
    MIN_JUDGES,
    choose_by_evidence,
    choose_judges,
)
from genlabel_plugins.densities.backends._tiles import MAX_BATCH, chunk_elements, tile, tiles_per_chunk
from genlabel_plugins.densities.backends._whitening import (
    factorize,
    whitened_segment,
    whitened_squares,
    whitening,
    with_ones,
)
from genlabel_plugins.densities.parents import Parents, RowPlaces, drop_
from genlabel_plugins.densities.streaming import RESERVOIR, ReservoirDensity

Bandwidth = Literal["scott", "silverman", "cv"]
MAX_KERNELS = 2**17  # between rows that are left out to choose by, and all rows
SCALES = (1.0, 0.7, 1.4)  # multiples of the bandwidth; the first is the rule's own
MAX_SEGMENT_ELEMENTS = 2**24
ABSENT = torch.finfo(torch.float32).min / 4  # score that stands for minus infinity, on which arithmetic gives NaN


class KernelDensity(ReservoirDensity):
    r"""Kernel class densities :math:`p_c(x) = \frac1{n_c} \sum_{i \in c} N(x; x_i, h_c^2 S_c)`.

    :math:`S_c` is the covariance of the class with the divisor :math:`n_c - 1`, as in `scipy.stats.gaussian_kde`,
    shrunk to the one pooled within all classes the fewer rows per feature there are, by `class_estimates`.
    Scores are kept in base 2, where the exponential of a far-away row costs no more than that of a near one, and
    reduced tile by tile: beyond the training rows, memory does not grow with their number.

    Args:
        bandwidth: Kernel width h in units of the class spread: `"scott"` :math:`n_c^{-1/(d+4)}`, `"silverman"`
            :math:`(n_c (d+2)/4)^{-1/(d+4)}`, a positive float, or `"cv"`, for each class the width of the
            highest leave-one-out likelihood among multiples 1/16 to 2 of Scott's.
        shrinkage: `"auto"`, or for each class `"ledoit_wolf"`, `"oas"` or a weight in [0, 1], towards its column
            variances being equal multiples of the pooled ones; 0 for scipy's densities whatever the rows.
        reg_covar: Added to each variance of a class, as a share of it.
        reservoir: Rows of each class that `partial_fit` keeps, a uniform sample.
        regularization: With `"auto"`, rows whose own kernels are dropped choose among multiples of the bandwidths by
            rule, and how certain labels may be, which `GenLabel` heeds; None leaves the rule. Nothing is chosen beside
            a bandwidth or a shrinkage of your own.

    Raises:
        ValueError: On an option out of range, or, in `fit`, a singular covariance with `reg_covar=0`.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0], [4.0], [6.0]], dtype=torch.float64)
        >>> kde = KernelDensity(bandwidth=0.5).fit(x, torch.tensor([0, 0, 1, 1]))
        >>> kde.log_prob(torch.zeros(1, 1, dtype=torch.float64))
        tensor([[ -1.5724, -17.2655]], dtype=torch.float64)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 1.2.
    """

    bandwidth_: Tensor  # (K,)
    temperature_: Tensor  # (), by which `GenLabel` divides log-ratios
    whiten_: Tensor  # packed whitening of all classes, scaled to base 2
    row_score_: Tensor  # (n_tiles, width, 1+D), constant and coefficients of each row's score; ABSENT pads
    tile_class_: Tensor  # (n_tiles,)
    class_tile_: Tensor  # (K, T), tiles of each class; -1 pads
    log_norm_: Tensor  # (K,)

    def __init__(
        self,
        *,
        bandwidth: Bandwidth | float = "scott",
        shrinkage: Shrinkage | float = "auto",
        reg_covar: float = 1e-8,
        reservoir: int = RESERVOIR,
        regularization: Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        check_shrinkage(shrinkage)
        if regularization not in ("auto", None):
            raise ValueError(f"regularization must be 'auto' or None, got {regularization!r}")
        positive = isinstance(bandwidth, Real) and 0 < float(bandwidth) < math.inf
        if not positive and bandwidth not in get_args(Bandwidth):
            raise ValueError(f"bandwidth must be a positive float or one of {get_args(Bandwidth)}, got {bandwidth!r}")
        check_number("reg_covar", reg_covar, 0)
        self.bandwidth = bandwidth
        self.shrinkage = shrinkage
        check_number("reservoir", reservoir, 1, whole=True)
        self.reg_covar = reg_covar
        self.reservoir = reservoir
        self.regularization = regularization
        self.places = RowPlaces()
        self._declare("temperature_", "bandwidth_", "whiten_", "row_score_", "tile_class_", "class_tile_", "log_norm_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        n_features = x.shape[1]
        estimate = class_estimates(x, target, self.offset_, shrinkage=self.shrinkage, ddof=1)
        warn_if_few(estimate, self.shrinkage)
        if self.shrinkage == "auto":
            warn_of_components(estimate.class_count, x, self.offset_)
        count, mean, center = estimate.class_count, estimate.mean, estimate.center
        cholesky = factorize(raise_variances(estimate.covariance, self.reg_covar))
        classes = [(target == c).nonzero().squeeze(1) for c in range(len(count))]
        whitened = torch.zeros_like(x, dtype=cholesky.dtype)  # rows about their class mean, (N, D)
        for c, rows in enumerate(classes):
            centered = x[rows] - mean[c]
            whitened[rows] = torch.linalg.solve_triangular(cholesky[c], centered.T, upper=False).T
        scott = count ** (-1 / (n_features + 4))
        if self.bandwidth == "cv":
            width = [
                best_bandwidth(whitened[rows], float(h), generator) for rows, h in zip(classes, scott, strict=True)
            ]
            self.bandwidth_ = scott.new_tensor(width)
        elif self.bandwidth == "silverman":
            self.bandwidth_ = scott * ((n_features + 2) / 4) ** (-1 / (n_features + 4))
        else:
            self.bandwidth_ = scott if self.bandwidth == "scott" else torch.full_like(scott, float(self.bandwidth))
        self.temperature_ = x.new_ones(())
        if self.regularization == "auto" and self.shrinkage == "auto" and self.bandwidth in get_args(Bandwidth):
            self._choose_by_evidence(x, target, classes, [whitened, cholesky, center])
        spread = (self.bandwidth_ * math.sqrt(2 * math.log(2)))[:, None, None]  # 2^-|z|^2 is the kernel
        self.whiten_ = whitening(cholesky * spread, center)
        pull = self._pull(self.bandwidth_)
        place = self._store_rows(whitened * pull[target, None], target, cholesky, spread, center)
        self.places.remember(x, target, place)
        log_det = cholesky.diagonal(dim1=1, dim2=2).log().sum(-1)
        log_width = self.bandwidth_.log() + 0.5 * math.log(2 * math.pi)
        self.log_norm_ = -(log_det + n_features * log_width + count.log())

    def _choose_by_evidence(self, x: Tensor, target: Tensor, classes: list[Tensor], units: list[Tensor]) -> None:
        """Scale the bandwidths, and set the temperature, for the posterior of rows whose own kernels are dropped.

        Args:
            x: Centered rows, shape `(N, D)`.
            target: Class indices, shape `(N,)`.
            classes: Rows of each class.
            units: Rows about the mean of their class, in its units, shape `(N, D)`; factors of the class covariances,
                shape `(K, D, D)`; and centers of the classes, shape `(K, D)`.
        """
        (whitened, cholesky, center), n_features = units, x.shape[1]
        judges = choose_judges(x, target, max(MIN_JUDGES, min(MAX_JUDGES, MAX_KERNELS // len(x))))
        if len(classes) == 1 or not len(judges.row):
            return
        width = self.bandwidth_ * self.bandwidth_.new_tensor(SCALES)[:, None]  # (G, K)
        pull, rate = self._pull(width), 0.5 / width.square()
        x, group = x[judges.row], judges.group[judges.row]
        scores = whitened.new_empty(len(SCALES), len(classes), len(x))
        for c, rows in enumerate(classes):
            z = torch.linalg.solve_triangular(cholesky[c], (x - center[c]).to(cholesky).T, upper=False)  # (D, J)
            kernel = whitened[rows]  # (n, D)
            a, p = rate[:, c, None, None], pull[:, c, None, None]
            # -|z - p k|^2 but for |z|^2: one product for all widths; to sum over few rows is faster across judges
            score = 2 * a * p * (kernel @ z) - a * p * p * kernel.square().sum(1, keepdim=True)  # (G, n, J)
            dropped = judges.group[rows, None] == group
            log_sum = score.masked_fill_(dropped, -torch.inf).logsumexp(1)
            log_count = (len(rows) - dropped.sum(0)).log()
            scores[:, c] = log_sum - rate[:, c, None] * z.square().sum(0) - log_count
        scores -= (n_features * width.log() + cholesky.diagonal(dim1=1, dim2=2).log().sum(1))[..., None]
        scores = scores.mT
        best, temperature = choose_by_evidence(scores, target[judges.row])
        self.bandwidth_ = width[best]
        self.temperature_ *= temperature

    def _pull(self, width: Tensor) -> Tensor:
        r"""Share of their distance from the center at which rows carry their kernels of some width, `(*, K)`.

        In many dimensions no rule but :math:`h \approx 1` is left; kernels of the size of the class on the rows of
        the class double its covariance, and the nearest row decides alone. From :math:`h^2 = 1/2` on the rows are
        drawn to the center, until the density has the covariance of the class again.
        """
        square = width.square()
        if self.shrinkage != "auto" or self.bandwidth not in get_args(Bandwidth):
            return torch.ones_like(square)
        return (1 - square * ((square - 0.5) / 0.45).clamp(0, 1)).clamp(min=0).sqrt()

    def _store_rows(self, whitened: Tensor, target: Tensor, cholesky: Tensor, spread: Tensor, mean: Tensor) -> Tensor:
        r"""Expand :math:`-|z - z_i|^2 = -|z|^2 + 2 z^T z_i - |z_i|^2` in x, so that all classes share one product.

        Returns:
            Place of each row in the flattened tiles, shape `(N,)`.
        """
        tiles = tile(target)
        row_score = whitened.new_zeros(*tiles.row.shape, 1 + whitened.shape[1])
        row_score[..., 0] = ABSENT
        for c in range(len(mean)):
            own = (tiles.row >= 0) & (tiles.target == c)[:, None]
            z = whitened[tiles.row[own]] / spread[c]
            slope = 2 * torch.linalg.solve_triangular((cholesky[c] * spread[c]).T, z.T, upper=True).T
            row_score[own] = torch.cat([-(z.square().sum(1) + slope @ mean[c])[:, None], slope], 1)
        self.row_score_, self.tile_class_ = row_score, tiles.target
        self.class_tile_ = tiles.of_class(len(mean))
        return tiles.place

    def segment(self, x: Tensor, pair: Tensor, partner: Tensor) -> LogRatio | None:
        r"""Log-ratio :math:`\log p_{c_i} - \log p_{c_j}` along the segments from partners (at 0) to rows (at 1).

        The score of a training row is linear on a segment, so that one product at the ends serves all positions.

        Args:
            x: Rows, shape `(N, *)`, of which the first B have a partner.
            pair: Classes of these rows and of their partners, shape `(2, B)`.
            partner: Row at the other end, shape `(B,)`.

        Returns:
            The log-ratio, or None where the scores of all training rows would not fit in memory.
        """
        n_tiles, width = self.row_score_.shape[:2]
        if len(x) * n_tiles * width > MAX_SEGMENT_ELEMENTS:
            return None
        rows, pair = segment_ends(self, x, pair)
        n_classes = len(self.log_norm_)
        square = whitened_segment(rows, self.whiten_.to(rows), n_classes, pair[..., None], partner)  # (3, 2, B, 1)
        score = with_ones(rows.to(self.row_score_)) @ self.row_score_.flatten(0, 1).T
        tiles = self.class_tile_[pair]  # (2, B, T)
        ends = torch.stack([partner, torch.arange(len(partner), device=partner.device)])
        place = ends[:, None, :, None] * n_tiles + tiles.clamp(min=0)  # (2, 2, B, T)
        scores = score.view(-1, width).index_select(0, place.flatten()).view(*place.shape, width)
        if tiles.shape[2] > 1:
            scores.masked_fill_((tiles < 0)[..., None], ABSENT)
        scores = scores.flatten(3)
        scores += ((self.log_norm_ / math.log(2))[pair, None] - square[:2]).to(scores)
        return MixtureLogRatio(scores[0], scores[1], square[2].to(scores), torch.empty_like(scores[0]))

    @property
    def leaves_parents_out(self) -> bool:
        """True: their kernels are dropped."""
        return True

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._scored(x)

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        count = self.class_count_[self.present_]
        place, lost = self.places.leave(parents, count)
        return self._scored(x, place) - torch.log1p(-lost.to(x) / count)

    def _scored(self, x: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Log-densities `(B, D) -> (B, K)`, in which each row may lack two kernels, whose places are `(B, 2)`."""
        n_tiles, width = self.row_score_.shape[:2]
        rows_at_once = max(MAX_BATCH, chunk_elements(x) // (n_tiles * width))
        if len(x) > rows_at_once:
            parts = (part.split(rows_at_once) for part in (x, dropped) if part is not None)
            return torch.cat([self._scored(*part) for part in zip(*parts, strict=True)])
        query = with_ones(x)
        sums, at_once = [], tiles_per_chunk(x, width)
        for number, chunk in enumerate(self.row_score_.split(at_once)):  # each product is freed before the next
            score = query @ chunk.flatten(0, 1).T
            if dropped is not None:
                drop_(score, dropped - number * at_once * width, ABSENT)
            sums.append(log2_sum_exp2_(score.view(len(x), -1, width)))  # (B, tiles in chunk)
        log2_sum = self._sum_tiles(torch.cat(sums, 1)) - whitened_squares(query, self.whiten_, len(self.log_norm_)).T
        return torch.add(self.log_norm_, log2_sum, alpha=math.log(2))

    def _sum_tiles(self, log2_sum: Tensor) -> Tensor:
        """Log-sum-exp in base 2 over the tiles of each class, `(B, n_tiles) -> (B, K)`."""
        shape = len(log2_sum), len(self.log_norm_)
        places = self.tile_class_.expand_as(log2_sum)
        highest = log2_sum.new_full(shape, -torch.inf).scatter_reduce(1, places, log2_sum, "amax")
        share = (log2_sum - highest.gather(1, places)).exp2()
        return log2_sum.new_zeros(shape).scatter_add(1, places, share).log2() + highest
