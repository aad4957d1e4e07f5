"""Where on a segment a log-ratio of two class densities takes a value: closed form, or a bracketed search."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from genlabel_plugins._state import accumulator, as_rows
from genlabel_plugins.densities.density import Density


class LogRatio(Protocol):
    """Log-ratio of two class densities along segments; 0 is the partner's end and 1 the row's own, as for lam."""

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratios at positions, `(B, S) -> (B, S)`."""
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


class MixtureLogRatio(NamedTuple):
    """Log-ratio of two mixtures along segments, every component a chord plus a bulge.

    All are in base 2: the natural exponential is slow far below zero, where most components lie.

    Attributes:
        start: Log weight plus log-density of the components of both classes at t = 0, shape `(2, B, M)`.
        stop: The same at t = 1, shape `(2, B, M)`.
        bulge: Half the squared length of the segment in the units of each component, shape `(2, B, M)`, or
            `(2, B, 1)` where those of a class share their units.
        scratch: Memory for one position, shape `(2, B, M)`; new memory would cost as much as the arithmetic.
    """

    start: Tensor
    stop: Tensor
    bulge: Tensor
    scratch: Tensor

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        return torch.stack([self._at(position[:, None]) for position in t.to(self.start).unbind(1)], 1)

    def _at(self, t: Tensor) -> Tensor:
        log2_prob = torch.lerp(self.start, self.stop, t, out=self.scratch)
        bulge = t * (1 - t) * self.bulge
        shared = bulge.shape[2] == 1
        highest = (log2_prob if shared else log2_prob.add_(bulge)).amax(2, keepdim=True)
        log2_sum = log2_prob.sub_(highest).exp2_().sum(2).log2_() + highest.squeeze(2)  # (2, B)
        log2_sum = log2_sum + bulge.squeeze(2) if shared else log2_sum
        return (log2_sum[0] - log2_sum[1]) * math.log(2)


def mixture_log_ratio(log_weight: Tensor, square: Tensor) -> QuadraticLogRatio | MixtureLogRatio:
    """Log-ratio of two Gaussian mixtures; of one component, a quadratic.

    Args:
        log_weight: Log weight and normaliser of each component, shape `(2, B, M)`.
        square: Squared distance of the component from t = 0 and from t = 1, and squared length of the segment, in
            the units of the component, shape `(3, 2, B, M)`.
    """
    if log_weight.shape[2] == 1:
        constant = (log_weight[0] - log_weight[1]).squeeze(1)
        start, stop, length = (square[:, 0] - square[:, 1]).squeeze(2).mul_(0.5)
        return QuadraticLogRatio(constant - start, constant - stop, length)
    start, stop = ((log_weight - 0.5 * distance).div(math.log(2)).clamp(min=lowest(square)) for distance in square[:2])
    return MixtureLogRatio(start, stop, square[2] / (2 * math.log(2)), torch.empty_like(start))


def lowest(x: Tensor) -> float:
    """Stands for the logarithm of a weight of zero, where arithmetic on minus infinity would give NaN."""
    return torch.finfo(x.dtype).min / 4


def segment_ends(density: Density, x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Centred rows, `(N, *) -> (N, D)`, and the columns of classes in `_log_prob`, `(2, B) -> (2, B)`.

    The rows are float64: a root between two narrow classes is a small difference of large squares.
    """
    rows = (as_rows(x) - density.offset_).to(density.offset_.dtype)
    if len(density.present_) < density.n_classes:
        column = ((density.class_count_ > 0).cumsum(0) - 1).clamp(min=0)  # (C,); a class without rows has none
        pair = column[pair]
    return rows.to(accumulator(rows)), pair


def closest_position(
    log_ratio: LogRatio, goal: Tensor, lam: Tensor, *, n_intervals: int = 4, n_steps: int = 8
) -> Tensor:
    """Position in [0, 1] at which `log_ratio` equals `goal`, or else comes closest to it.

    Of several such positions the one nearest to `lam` is taken, where linear mixing would stand. For a
    quadratic this is exact. Any other log-ratio is scanned on a grid that has `lam` as a point, so that a
    pair of roots within one interval goes unseen; a bracket is then narrowed by regula falsi in the version of
    Anderson and Björck, and an extremum located by a parabola.

    Args:
        log_ratio: Log-ratio along each segment.
        goal: Value to attain, finite, shape `(B,)`.
        lam: Preferred position, shape `(B,)`.
        n_intervals: Grid intervals between the ends, an even number.
        n_steps: Evaluations spent on narrowing a bracket.

    Returns:
        Positions, shape `(B,)`; where the log-ratio is NaN all along, the end nearer to `lam`.

    Example:
        >>> line = QuadraticLogRatio(torch.tensor([-1.0]), torch.tensor([3.0]), torch.tensor([0.0]))
        >>> closest_position(line, torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.2500])

    Reference:
        Anderson and Björck, A new high order method of regula falsi type for computing a root of an equation, 1973.
    """
    if isinstance(log_ratio, QuadraticLogRatio):
        return _quadratic_position(log_ratio, goal, lam)
    return _searched_position(log_ratio, goal, lam, n_intervals, n_steps)


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


def _searched_position(log_ratio: LogRatio, goal: Tensor, lam: Tensor, n_intervals: int, n_steps: int) -> Tensor:
    half = torch.linspace(0, 1, n_intervals // 2 + 1, dtype=lam.dtype, device=lam.device)
    grid = torch.cat([lam[:, None] * half, torch.lerp(lam[:, None], torch.ones_like(lam[:, None]), half[1:])], 1)
    value = log_ratio(grid) - goal[:, None]  # (B, n_intervals + 1)
    crosses = value[:, :-1] * value[:, 1:] <= 0  # (B, n_intervals); false next to a NaN
    distance = torch.where(crosses, ((grid[:, :-1] + grid[:, 1:]) / 2 - lam[:, None]).abs(), torch.inf)
    nearest, left = distance.min(1)
    a, b, f_a, f_b = (ends.gather(1, left[:, None] + shift).squeeze(1) for ends in (grid, value) for shift in (0, 1))
    best, gap, vertex = _closest(grid, value)
    bracketed, width = torch.isfinite(nearest), b - a
    for step in range(n_steps):
        span = b - a
        middle, secant = a + span / 2, b - f_b * span / (f_b - f_a)
        sound = (secant - middle).abs() <= span.abs() / 2
        if step % 4 == 3:  # halve a bracket that three steps have not halved: no log-ratio takes for ever
            sound &= span.abs() <= width.abs() / 2
            width = span
        t = torch.where(bracketed, torch.where(sound, secant, middle), vertex)
        f = log_ratio(t[:, None]).squeeze(1) - goal
        f_gap = f.abs()
        best, gap = torch.where(f_gap < gap, t, best), torch.fmin(f_gap, gap)
        # An end that stays is given a smaller value, or a curved log-ratio would keep it for ever.
        crossed, shrink = f * f_b <= 0, 1 - f / f_b
        f_a = torch.where(crossed, f_b, f_a * torch.where(shrink > 0, shrink, 0.5))
        a = torch.where(crossed, b, a)
        b, f_b = t, f
    return torch.where(torch.isfinite(gap), best, lam.round())


def _closest(grid: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Grid point closest to a value of zero, that distance, and the vertex of the parabola there, `(B,)` each."""
    gap = torch.where(torch.isnan(value), torch.inf, value.abs())
    middle = grid.shape[1] // 2  # lam
    place = _closeness(gap, grid, grid[:, middle, None]).argmin(1, keepdim=True)
    inner = place.clamp(1, grid.shape[1] - 2)
    t0, t1, t2 = (grid.gather(1, inner + shift).squeeze(1) for shift in (-1, 0, 1))
    v0, v1, v2 = (value.gather(1, inner + shift).squeeze(1) for shift in (-1, 0, 1))
    left, right = (t1 - t0) * (v1 - v2), (t1 - t2) * (v1 - v0)
    vertex = t1 - 0.5 * ((t1 - t0) * left - (t1 - t2) * right) / (left - right)
    vertex = torch.where((vertex >= t0) & (vertex <= t2), vertex, t1)
    return grid.gather(1, place).squeeze(1), gap.gather(1, place).squeeze(1), vertex
