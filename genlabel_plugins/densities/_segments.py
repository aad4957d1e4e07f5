"""Where on a segment a log-ratio of two class densities takes a value: closed form, or a bracketed search."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from genlabel_plugins._state import accumulator, as_rows
from genlabel_plugins.densities.density import Density

MIN_SCRATCH = 2**14  # elements, so that few components are scored at several positions at once
FINE_STEPS = 40  # of the search for what a first one misses


class LogRatio(Protocol):
    """Log-ratio of two class densities along segments; 0 is the partner's end and 1 the row's own, as for lam."""

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratios at positions, `(B, S) -> (B, S)`."""
        ...

    def take(self, rows: Tensor) -> LogRatio:
        """The log-ratio along some of the segments, indices `(R,)`."""
        ...


class QuadraticLogRatio(NamedTuple):
    r"""Log-ratio of two Gaussians along a segment, :math:`r(t) = (1-t)\,r_0 + t\,r_1 + t(1-t)\,k`.

    A quadratic given by its ends keeps its precision at both of them.

    Attributes:
        start: Log-ratio at t = 0, shape `(B,)`.
        stop: Log-ratio at t = 1, shape `(B,)`.
        bulge: Excess k over the chord, shape `(B,)`: half the squared length of the segment in the units of
            the first class, less the same of the second.
    """

    start: Tensor
    stop: Tensor
    bulge: Tensor

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        start, stop, bulge = self.start[:, None], self.stop[:, None], self.bulge[:, None]
        return torch.lerp(start, stop, t) + t * (1 - t) * bulge

    def take(self, rows: Tensor) -> QuadraticLogRatio:
        """The log-ratio along some of the segments, `(R,)`."""
        return QuadraticLogRatio(*(part[rows] for part in self))


class MixtureLogRatio(NamedTuple):
    """Log-ratio of two mixtures along segments, every component a chord plus a bulge.

    All are in base 2: the natural exponential is slow far below zero, where most components lie.

    Attributes:
        start: Log weight plus log-density of the components of both classes at t = 0, shape `(2, B, M)`.
        stop: The same at t = 1, shape `(2, B, M)`.
        bulge: Half the squared length of the segment in the units of each component, shape `(2, B, M)`, or
            `(2, B, 1)` where those of a class share their units.
        scratch: Memory for as many positions as it holds `2 * B * M` elements, one at least; new memory would cost as
            much as the arithmetic.
    """

    start: Tensor
    stop: Tensor
    bulge: Tensor
    scratch: Tensor

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        at_once = max(1, self.scratch.numel()) // max(1, self.start.numel())
        return torch.cat([self._at(positions[..., None]) for positions in t.to(self.start).split(at_once, 1)], 1)

    def take(self, rows: Tensor) -> MixtureLogRatio:
        """The log-ratio along some of the segments, `(R,)`."""
        return self._replace(start=self.start[:, rows], stop=self.stop[:, rows], bulge=self.bulge[:, rows])

    def _at(self, t: Tensor) -> Tensor:
        start, stop, bulge = self.start[:, :, None], self.stop[:, :, None], self.bulge[:, :, None]  # (2, B, 1, M)
        shape = *start.shape[:2], t.shape[1], start.shape[3]
        log2_prob = torch.lerp(start, stop, t, out=self.scratch.view(-1)[: math.prod(shape)].view(shape))
        bulge = t * (1 - t) * bulge
        shared = bulge.shape[3] == 1
        highest = (log2_prob if shared else log2_prob.add_(bulge)).amax(3, keepdim=True)
        log2_sum = log2_prob.sub_(highest).exp2_().sum(3).log2_() + highest.squeeze(3)  # (2, B, S)
        log2_sum = log2_sum + bulge.squeeze(3) if shared else log2_sum
        return (log2_sum[0] - log2_sum[1]) * math.log(2)


class TemperedLogRatio(NamedTuple):
    """A log-ratio divided by a temperature."""

    log_ratio: LogRatio
    temperature: Tensor

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        return self.log_ratio(t) / self.temperature

    def take(self, rows: Tensor) -> TemperedLogRatio:
        """The log-ratio along some of the segments, `(R,)`."""
        return self._replace(log_ratio=self.log_ratio.take(rows))


def tempered(log_ratio: LogRatio, temperature: Tensor) -> LogRatio:
    """A log-ratio divided by a temperature; a quadratic remains one."""
    if isinstance(log_ratio, QuadraticLogRatio):
        return QuadraticLogRatio(*(part / temperature for part in log_ratio))
    return TemperedLogRatio(log_ratio, temperature)


def mixture_log_ratio(log_weight: Tensor, square: Tensor) -> QuadraticLogRatio | MixtureLogRatio:
    """Log-ratio of two Gaussian mixtures; of one component, a quadratic.

    Args:
        log_weight: Log weight and normalizer of each component, shape `(2, B, M)`.
        square: Squared distance of the component from t = 0 and from t = 1, and squared length of the segment, in
            the units of the component, shape `(3, 2, B, M)`.
    """
    if log_weight.shape[2] == 1:
        constant = (log_weight[0] - log_weight[1]).squeeze(1)
        start, stop, length = (square[:, 0] - square[:, 1]).squeeze(2).mul_(0.5)
        return QuadraticLogRatio(constant - start, constant - stop, length)
    start, stop = ((log_weight - 0.5 * distance).div(math.log(2)).clamp(min=lowest(square)) for distance in square[:2])
    scratch = start.new_empty(max(start.numel(), MIN_SCRATCH))
    return MixtureLogRatio(start, stop, square[2] / (2 * math.log(2)), scratch)


def lowest(x: Tensor) -> float:
    """Stands for the logarithm of a weight of zero, where arithmetic on minus infinity would give NaN."""
    return torch.finfo(x.dtype).min / 4


def segment_ends(density: Density, x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Centered rows, `(N, *) -> (N, D)`, and the columns of classes in `_log_prob`, `(2, B) -> (2, B)`.

    The rows are float64: a root between two narrow classes is a small difference of large squares.
    """
    rows = (as_rows(x) - density.offset_).to(density.offset_.dtype)
    if len(density.present_) < density.n_classes:
        column = ((density.class_count_ > 0).cumsum(0) - 1).clamp(min=0)  # (C,); a class without rows has none
        pair = column[pair]
    return rows.to(accumulator(rows)), pair


def closest_position(
    log_ratio: LogRatio,
    goal: Tensor,
    lam: Tensor,
    *,
    n_intervals: int = 6,
    n_steps: int = 6,
    n_fine: int = 64,
    tolerance: float = 1e-4,
) -> Tensor:
    """Position in [0, 1] at which `log_ratio` equals `goal`, or else comes closest to it.

    Of several such positions the one nearest to `lam` is taken, where linear mixing would stand. For a
    quadratic this is exact. Any other log-ratio is scanned on a grid that has `lam` as a point; then a parabola
    through three positions says where to look next, in a bracket that is halved where it shrinks too slowly, or,
    without a change of sign, for the extremum. What still misses the goal is searched again on a fine grid, which
    waits for the device.

    Args:
        log_ratio: Log-ratio along each segment.
        goal: Value to attain, finite, shape `(B,)`.
        lam: Preferred position, shape `(B,)`.
        n_intervals: Grid intervals between the ends, an even number.
        n_steps: Evaluations after those of the grid.
        n_fine: Intervals of the fine grid, an even number; 0 leaves what misses the goal as it is.
        tolerance: Largest difference between the logistic of `goal` and that of a log-ratio that attains it.

    Returns:
        Positions, shape `(B,)`; where the log-ratio is NaN all along, the end nearer to `lam`.

    Example:
        >>> line = QuadraticLogRatio(torch.tensor([-1.0]), torch.tensor([3.0]), torch.tensor([0.0]))
        >>> closest_position(line, torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.2500])

    Reference:
        Muller, A Method for Solving Algebraic Equations Using an Automatic Computer, 1956: the parabola, which meets a
        log-ratio of two Gaussians exactly, and that of two mixtures once one component of each prevails.
    """
    if isinstance(log_ratio, QuadraticLogRatio):
        return _quadratic_position(log_ratio, goal, lam)
    t, missed = _searched_position(log_ratio, goal, lam, tolerance, n_intervals=n_intervals, n_steps=n_steps)
    rows = missed.nonzero().squeeze(1) if n_fine else missed.new_empty(0)
    if len(rows):
        again = log_ratio.take(rows), goal[rows], lam[rows], tolerance
        t[rows], _ = _searched_position(*again, n_intervals=n_fine, n_steps=FINE_STEPS, stop_early=True)
    return t


def _quadratic_position(log_ratio: QuadraticLogRatio, goal: Tensor, lam: Tensor) -> Tensor:
    k = log_ratio.bulge
    b = log_ratio.stop - log_ratio.start + k
    c = log_ratio.start - goal  # the excess is c + b t - k t^2
    square = torch.addcmul(b.square(), k, c, value=4).clamp_(min=0)  # without a root, the vertex stands for both
    q = b + torch.copysign(square.sqrt_(), b)  # no cancellation
    # A root outside falls on the end that comes closest; on a constant excess there is none but lam.
    t = torch.stack([lam, q / (2 * k), -2 * c / q]).clamp_(0, 1).nan_to_num_(0.0)  # (3, B)
    gap = torch.addcmul(c, t, b - k * t).abs_()
    best = _closeness(gap, t, lam).argmin(0, keepdim=True)
    return t.gather(0, best).squeeze(0)


def _closeness(gap: Tensor, t: Tensor, lam: Tensor) -> Tensor:
    """How close positions come to the goal; where that differs by rounding alone, how close they are to lam."""
    return torch.add(gap, (t - lam).abs_(), alpha=torch.finfo(gap.dtype).eps ** 0.5)


def _searched_position(
    log_ratio: LogRatio,
    goal: Tensor,
    lam: Tensor,
    tolerance: float,
    *,
    n_intervals: int,
    n_steps: int,
    stop_early: bool = False,
) -> tuple[Tensor, Tensor]:
    """Positions, and where a finer search may come closer, `(B,)` each."""
    half = torch.linspace(0, 1, n_intervals // 2 + 1, dtype=lam.dtype, device=lam.device)
    grid = torch.cat([lam[:, None] * half, torch.lerp(lam[:, None], torch.ones_like(lam[:, None]), half[1:])], 1)
    value = log_ratio(grid)  # (B, n_intervals + 1)
    eps = torch.finfo(value.dtype).eps
    value = value - goal[:, None]
    gaps = torch.where(torch.isnan(value), torch.inf, value.abs())
    score, closest = _closeness(gaps, grid, lam[:, None]).min(1)
    crosses = value[:, :-1] * value[:, 1:] <= 0  # (B, n_intervals); false next to a NaN
    distance = torch.where(crosses, ((grid[:, :-1] + grid[:, 1:]) / 2 - lam[:, None]).abs(), torch.inf)
    nearest, left = distance.min(1)
    bracketed = torch.isfinite(nearest)
    # Three positions: the bracket from a to b and one beside it, or the closest one and its neighbors.
    middle = torch.where(bracketed, left + 1, closest.clamp(1, n_intervals - 1))
    place = torch.stack([middle - 1, middle, torch.where(middle < n_intervals, middle + 1, middle - 2)], 1)
    (a, b, c), (f_a, f_b, f_c) = (ends.gather(1, place).unbind(1) for ends in (grid, value))
    t, gap = (ends.gather(1, closest[:, None]).squeeze(1) for ends in (grid, gaps))
    low, high, width = a, c, b - a
    rounding = 4 * eps * gaps.nan_to_num(posinf=0.0).amax(1)  # closer than this is chance

    def missed() -> Tensor:
        return (gap > rounding) & (torch.sigmoid(goal + gap) - torch.sigmoid(goal - gap) > tolerance)

    for step in range(n_steps):
        span = b - a
        low, high = torch.where(bracketed, a, low), torch.where(bracketed, b, high)
        center, reach = (low + high) / 2, (high - low).abs() / 2
        # The parabola is f_a + slope s + curve s^2 at a + s; of its roots, without cancellation, or the vertex.
        chord = (f_b - f_a) / span
        curve = ((f_c - f_a) / (c - a) - chord) / (c - b)
        slope = chord - curve * span
        square = slope.square() - 4 * curve * f_a
        q = -0.5 * (slope + torch.copysign(square.clamp(min=0).sqrt(), slope))
        root = a + f_a / q
        root = torch.where((square >= 0) & ((root - center).abs() <= reach), root, a + q / curve)
        sound = (root - center).abs() <= reach
        if step % 4 == 3:  # halve a bracket that three steps have not halved: no log-ratio takes for ever
            sound &= ~bracketed | (span.abs() <= width.abs() / 2)
            width = span
        at = torch.where(sound, root, torch.where(bracketed, center, b))
        f = log_ratio(at[:, None]).squeeze(1) - goal
        f_score = _closeness(f.abs(), at, lam)
        t, gap, score = (torch.where(f_score < score, *ends) for ends in ((at, t), (f.abs(), gap), (f_score, score)))
        crossed = f * f_b <= 0
        moved = crossed | ~bracketed
        a, c, f_a, f_c = (torch.where(moved, *ends) for ends in ((b, a), (a, b), (f_b, f_a), (f_a, f_b)))
        b, f_b, bracketed = at, f, bracketed | crossed
        if stop_early and step > 0 and not bool((bracketed & missed()).any()):
            break
    varies = value.amax(1) - value.amin(1) > eps**0.5  # a constant log-ratio has nothing to find
    return torch.where(torch.isfinite(gap), t, lam.round()), varies & missed()
