"""Where on a segment a log-ratio of two class densities takes a value: closed form, or a bracketed search."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from genlabel_plugins.density import Density, accumulator, as_rows


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

    def __call__(self, t: Tensor) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        start, stop, bulge = self.start[:, None], self.stop[:, None], self.bulge[:, None]
        return torch.lerp(start, stop, t) + t * (1 - t) * bulge


class MixtureLogRatio(NamedTuple):
    """Log-ratio of two mixtures along a segment, every component a chord plus a bulge.

    Attributes:
        start: Log weight plus log-density of the components of both classes at t = 0, shape `(2, B, M)`.
        stop: The same at t = 1, shape `(2, B, M)`.
        bulge: Half the squared length of the segment in the units of each component, shape `(2, B, M or 1)`.
    """

    start: Tensor
    stop: Tensor
    bulge: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        """Log-ratio at positions `(B, S)`."""
        return torch.stack([self._at(position[:, None]) for position in t.to(self.start).unbind(1)], 1)

    def _at(self, t: Tensor) -> Tensor:
        log_prob = torch.lerp(self.start, self.stop, t).add_(t * (1 - t) * self.bulge)  # (2, B, M)
        top = log_prob.amax(2, keepdim=True)
        # exp is slow far below zero, where most components lie, and exp2 is not.
        total = log_prob.sub_(top).mul_(math.log2(math.e)).exp2_().sum(2).log().add_(top.squeeze(2))  # (2, B)
        return total[0] - total[1]


def mixture_log_ratio(exponent: Tensor) -> QuadraticLogRatio | MixtureLogRatio:
    """Log-ratio of two mixtures whose components have these ends and bulges, `(3, 2, B, M)`; of one, a quadratic."""
    if exponent.shape[3] == 1:
        return QuadraticLogRatio(*(exponent[:, 0] - exponent[:, 1]).squeeze(2))
    # A component of weight zero: minus infinity would turn into NaN.
    return MixtureLogRatio(*exponent.clamp(min=torch.finfo(exponent.dtype).min / 4))


def segment_ends(density: Density, x: Tensor, target: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Centred rows `(N, D)`, and for each of the first B and its partner the column in `_log_prob`, `(2, B)`.

    The rows are float64: a root between two narrow classes is a small difference of large squares.
    """
    rows = (as_rows(x) - density.offset_).to(density.offset_.dtype)
    pair = torch.stack([target[: len(partner)], target[partner]])
    if len(density.present_) < density.n_classes:
        column = ((density.class_count_ > 0).cumsum(0) - 1).clamp(min=0)  # (C,); a class without rows has none
        pair = column[pair]
    return rows.to(accumulator(rows)), pair


def closest_position(
    log_ratio: LogRatio, goal: Tensor, lam: Tensor, *, n_intervals: int = 8, n_steps: int = 12
) -> Tensor:
    """Position in [0, 1] at which `log_ratio` equals `goal`, or else comes closest to it.

    Of several such positions the one nearest to `lam` is taken, where linear mixing would stand. For a
    quadratic this is exact. Any other log-ratio is scanned on a grid that has `lam` as a point, so that a
    pair of roots within one interval goes unseen; a bracket is then narrowed by Illinois steps, and an
    extremum located by a parabola.

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
        Dowell and Jarratt, A modified regula falsi method for computing the root of an equation, 1971.
    """
    if isinstance(log_ratio, QuadraticLogRatio):
        return _quadratic_position(log_ratio, goal, lam)
    return _searched_position(log_ratio, goal, lam, n_intervals, n_steps)


def _quadratic_position(log_ratio: QuadraticLogRatio, goal: Tensor, lam: Tensor) -> Tensor:
    k = log_ratio.bulge
    b = log_ratio.stop - log_ratio.start + k
    c = log_ratio.start - goal  # the excess is c + b t - k t^2
    square = torch.addcmul(b.square(), k, c, value=4)
    q = b + torch.copysign(square.sqrt(), b)  # no cancellation; NaN without a root
    two_k = 2 * k
    # Roots or vertex outside fall on the end that comes closest; on a constant excess any position does.
    t = torch.stack([lam, q, -2 * c, b]) / torch.stack([torch.ones_like(q), two_k, q, two_k])  # (4, B)
    t = t.clamp(0, 1).nan_to_num(0.0)
    gap = torch.addcmul(c, t, b - k * t).abs()
    rounding = torch.finfo(t.dtype).eps ** 0.5
    # A root counts by its distance from lam, and before anything that is none.
    best = torch.where(gap <= rounding, (t - lam).abs() - 2, gap).argmin(0, keepdim=True)
    return t.gather(0, best).squeeze(0)


def _searched_position(log_ratio: LogRatio, goal: Tensor, lam: Tensor, n_intervals: int, n_steps: int) -> Tensor:
    def excess(t: Tensor) -> Tensor:
        return log_ratio(t[:, None]).squeeze(1) - goal

    half = torch.linspace(0, 1, n_intervals // 2 + 1).to(lam)
    grid = torch.cat([lam[:, None] * half, torch.lerp(lam[:, None], torch.ones_like(lam[:, None]), half[1:])], 1)
    value = log_ratio(grid) - goal[:, None]  # (B, n_intervals + 1)
    crosses = value[:, :-1].sign() * value[:, 1:].sign() <= 0  # (B, n_intervals); false next to a NaN
    distance = torch.where(crosses, ((grid[:, :-1] + grid[:, 1:]) / 2 - lam[:, None]).abs(), torch.inf)
    nearest, left = distance.min(1)
    bracketed = torch.isfinite(nearest)

    a, b, f_a, f_b = (ends.gather(1, left[:, None] + shift).squeeze(1) for ends in (grid, value) for shift in (0, 1))
    best, f_best = torch.where(f_a.abs() < f_b.abs(), a, b), torch.minimum(f_a.abs(), f_b.abs())
    for step in range(n_steps):
        middle = (a + b) / 2
        secant = b - f_b * (b - a) / (f_b - f_a)
        # Every third step halves the bracket, which bounds the error whatever the log-ratio does.
        inside = (secant - middle).abs() <= (b - a).abs() / 2
        t = middle if step % 3 == 2 else torch.where(inside, secant, middle)
        f = excess(t)
        better = f.abs() < f_best
        best, f_best = torch.where(better, t, best), torch.where(better, f.abs(), f_best)
        crossed = f.sign() * f_b.sign() <= 0
        # An end that stays has its value halved, or a curved log-ratio would keep it for ever.
        a, f_a = torch.where(crossed, b, a), torch.where(crossed, f_b, f_a / 2)
        b, f_b = t, f

    peak = _parabola_vertex(grid, value)
    candidates = torch.cat([lam[:, None], grid, peak[:, None]], 1)
    gap = torch.cat([excess(lam)[:, None], value, excess(peak)[:, None]], 1)
    return torch.where(bracketed, best, _closest(candidates, gap))


def _parabola_vertex(grid: Tensor, value: Tensor) -> Tensor:
    """Extremum of the parabola through the grid point closest to zero and its neighbours, shape `(B,)`."""
    gap = torch.where(torch.isnan(value), torch.inf, value.abs())
    middle = gap[:, 1:-1].argmin(1, keepdim=True) + 1
    t0, t1, t2 = (grid.gather(1, middle + shift).squeeze(1) for shift in (-1, 0, 1))
    v0, v1, v2 = (value.gather(1, middle + shift).squeeze(1) for shift in (-1, 0, 1))
    left, right = (t1 - t0) * (v1 - v2), (t1 - t2) * (v1 - v0)
    vertex = t1 - 0.5 * ((t1 - t0) * left - (t1 - t2) * right) / (left - right)
    return torch.where((vertex >= t0) & (vertex <= t2), vertex, t1)


def _closest(t: Tensor, excess: Tensor) -> Tensor:
    """The first of the positions `(B, S)` with the smallest excess in absolute value, shape `(B,)`."""
    gap = torch.where(torch.isnan(excess), torch.inf, excess.abs())
    return t.gather(1, gap.argmin(1, keepdim=True)).squeeze(1)
