"""L-BFGS: many functions of as many arguments, each with a ridge, minimized together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MEMORY = 10  # steps that shape the next one
MAX_STEPS = 10_000
_ARMIJO = 1e-4
_SHORTEST = 1e-9  # share of a step below which rounding hides the slope
_MOST_OPEN = 0.85  # share of open problems from which on the solved ones are carried along

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Point(NamedTuple):
    """Arguments, and what functions are there, but for the ridge.

    Attributes:
        w: Arguments, shape `(F, K, C, D)`.
        value: Shape `(F, K)`.
        gradient: Shape `(F, K, C, D)`.
    """

    w: Tensor
    value: Tensor
    gradient: Tensor

    def of(self, functions: Tensor) -> Point:
        """The points of some functions, indices or a mask `(K,)`."""
        return Point(*(part[:, functions] for part in self))

    def put(self, functions: Tensor, other: Point) -> None:
        """Take over the points of some functions, indices `(K,)`."""
        for part, new in zip(self, other, strict=True):
            part[:, functions] = new


def minimize(
    evaluate: Evaluate, start: Point, functions: Tensor, *, ridge: Tensor, curvature: Tensor, tol: float
) -> Point:
    r"""Minimize :math:`f_{fk}(w) + \tfrac12 \sum_d r_{fkd} w_d^2`, for all f and k at once.

    Args:
        evaluate: From arguments `(F, K, C, D)` and the indices of their functions to values `(F, K)` and gradients.
        start: Where to start.
        functions: Indices of the functions, as `evaluate` takes them, shape `(K,)`.
        ridge: Weights of the squared arguments, shape `(F, K, 1, D)`.
        curvature: Curvature of each argument, as far as it is known, shape `(F, 1, 1, D)`.
        tol: Decrease, as the curvature foresees it, below which a function is minimal, as a share of its value.

    Reference:
        Nocedal and Wright, Numerical Optimization, 2006, section 7.2.
    """
    eps = torch.finfo(start.w.dtype).eps
    solved, kept = Point(*map(torch.clone, start)), torch.arange(start.w.shape[1], device=start.w.device)
    now = start
    value, gradient = _with_ridge(now, ridge)
    past = _Past(curvature + ridge + eps, start.w)
    share = torch.ones_like(value)  # of the step, which is shortened until the value falls
    step = -gradient / past.scale
    for _ in range(MAX_STEPS):
        slope = dot(gradient, step)
        unsolved = (-slope > tol * value) & (share > _SHORTEST)
        open_ = unsolved.any(0)
        n_open = int(open_.sum())
        if not n_open:
            break
        if n_open <= _MOST_OPEN * len(kept):
            solved.put(kept, now)
            now, kept = now.of(open_), kept[open_]
            past.keep(open_)
            state = (value, gradient, ridge, slope, share, step, unsolved)
            value, gradient, ridge, slope, share, step, unsolved = (part[:, open_] for part in state)
        moved = _each(share) * step
        w = now.w + moved
        new = Point(w, *evaluate(w, functions[kept]))
        new_value, new_gradient = _with_ridge(new, ridge)
        lower = unsolved & (new_value <= value + _ARMIJO * share * slope + 4 * eps * value.abs())
        falls = _each(lower)
        parabola = -0.5 * slope * share / (new_value - value - slope * share)
        change = new_gradient - gradient
        now = Point(*(torch.where(lower if a.ndim == 2 else falls, a, b) for a, b in zip(new, now, strict=True)))
        value, gradient = torch.where(lower, new_value, value), torch.where(falls, new_gradient, gradient)
        # A step that was taken back has no say in the next one.
        next_step = past.step(moved, change, lower, gradient)
        rises = _each(dot(gradient, next_step) >= 0)  # by rounding alone
        step = torch.where(falls, torch.where(rises, -gradient / past.scale, next_step), step)
        share = torch.where(lower, 1.0, share * parabola.nan_to_num(0.1).clamp(0.1, 0.5))
    solved.put(kept, now)
    return solved


class _Past:
    r"""The latest steps s and the changes y of the gradient that they met, as the inverse curvature H sees them.

    .. math:: H = H_0 + \begin{bmatrix} S & H_0 Y \end{bmatrix} \begin{bmatrix}
              R^{-T} (D + Y^T H_0 Y) R^{-1} & -R^{-T} \\ -R^{-1} & 0 \end{bmatrix}
              \begin{bmatrix} S^T \\ Y^T H_0 \end{bmatrix}

    R is the upper triangle of :math:`S^T Y`, D its diagonal; two products take the place of two loops over the steps.

    Args:
        scale: Curvature of each argument, as far as it is known, shape `(F, K, 1, D)`.
        w: Arguments, shape `(F, K, C, D)`.

    Reference:
        Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices and their use in limited memory methods,
        1994.
    """

    def __init__(self, scale: Tensor, w: Tensor) -> None:
        self.scale = scale
        shape = *w.shape[:2], 2 * MEMORY, 2
        self.pairs = w.new_empty(*shape, w.shape[2] * w.shape[3])  # steps, and changes over the scale
        self.products = w.new_zeros(*shape, 2 * MEMORY)  # of the pairs with changes
        self.factor = torch.ones_like(w[..., 0, 0])  # the latest curvature met scales what was not tried
        self.end = 0  # slots that are filled

    def keep(self, functions: Tensor) -> None:
        """Forget all but some functions, a mask `(K,)`."""
        state = (self.scale, self.pairs, self.products, self.factor)
        self.scale, self.pairs, self.products, self.factor = (part[:, functions] for part in state)

    def step(self, moved: Tensor, change: Tensor, counts: Tensor, gradient: Tensor) -> Tensor:
        """Take in the latest step `(F, K, C, D)`, where it `counts`, `(F, K)`, and return the next one."""
        if self.end == 2 * MEMORY:
            first, self.end = MEMORY + 1, MEMORY - 1
            self.pairs[:, :, : self.end] = self.pairs[:, :, first:]
            self.products[:, :, : self.end, :, : self.end] = self.products[:, :, first:, :, first:]
        latest, self.end = self.end, self.end + 1
        window = slice(max(0, self.end - MEMORY), self.end)
        counts = counts & (dot(moved, change) > 0)
        said = counts.to(moved)[..., None]
        torch.mul(moved.flatten(2), said, out=self.pairs[:, :, latest, 0])
        torch.mul((change / self.scale).flatten(2), said, out=self.pairs[:, :, latest, 1])
        pairs = self.pairs[:, :, window].flatten(2, 3)  # (F, K, 2m, C * D)
        both = torch.stack([change.flatten(2), gradient.flatten(2)], 2) @ pairs.mT
        product, slope = both.unflatten(3, (-1, 2)).unbind(2)  # (F, K, m, 2)
        product = product * said[..., None]
        self.products[:, :, window, :, latest] = product
        self.products[:, :, latest, 1, window] = product[..., 1]
        self.products[:, :, latest, 0, latest] += ~counts
        self.factor = torch.where(counts, product[:, :, -1, 0] / product[:, :, -1, 1], self.factor)
        s_y, y_y = self.products[:, :, window, :, window].unbind(3)
        along_s, along_y = slope[..., None].unbind(3)
        upper, factor = s_y.triu(), _each(self.factor)
        a = torch.linalg.solve_triangular(upper, along_s, upper=True)
        b = upper.diagonal(dim1=2, dim2=3)[..., None] * a + factor * (y_y @ a - along_y)
        b = torch.linalg.solve_triangular(upper.mT, b, upper=False)
        back = torch.stack([b, -factor * a], 3).flatten(2)[:, :, None] @ pairs  # (F, K, 1, C * D)
        return (gradient / self.scale).mul_(-factor).sub_(back.view_as(gradient))


def _with_ridge(point: Point, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients with the ridge."""
    pull = ridge * point.w
    return point.value + 0.5 * dot(pull, point.w), pull.add_(point.gradient)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Products of arguments with each other, `(F, K, C, D), (F, K, C, D) -> (F, K)`."""
    product: Tensor = torch.linalg.vecdot(a.flatten(2), b.flatten(2))
    return product


def _each(value: Tensor) -> Tensor:
    """Values `(F, K)` in a shape that multiplies arguments `(F, K, C, D)`."""
    return value[..., None, None]
