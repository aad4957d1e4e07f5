"""Softmax regression: many convex problems on the same rows, solved together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MEMORY = 10  # steps that shape the next one
MAX_STEPS = 10_000
_ARMIJO = 1e-4
_SHORTEST = 1e-9  # share of a step below which rounding hides the slope
_MOST_OPEN = 0.7  # share of open problems from which on the solved ones are carried along

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax_regressions(
    x: Tensor, weight: Tensor, y: Tensor, stages: Sequence[tuple[Tensor, Tensor]], *, tol: float = 1e-13
) -> list[tuple[Tensor, Tensor]]:
    r"""Minimize ridge-penalized cross-entropies, of many tables, labels and penalties together.

    .. math:: \sum_i w_i \operatorname{CE}\big(y_{ip}, \operatorname{softmax}(W^\top x_i + b)\big)
              + \tfrac12 \lambda \lVert W \rVert^2

    Labels enter through :math:`\sum_i w_i x_i y_{ip}^\top` alone, so that a step costs two products for all problems.
    Steps are those of L-BFGS along the principal axes of the rows, in which the curvature of the start is diagonal.

    Args:
        x: Rows of F tables, shape `(F, R, D)`.
        weight: Weights of the rows, which sum to one in each table, shape `(F, R)`; 0 pads.
        y: P ways to label the rows, shape `(F, R, C, P)`; labels sum to one.
        stages: Positive penalties :math:`\lambda` for each table, shape `(F,)`, each with the labels that it is wanted
            for, indices of shape `(K,)`. A stage starts where the previous one with these labels ended: take the
            strictest first.
        tol: Decrease of the loss, as the curvature foresees it, below which a problem is solved.

    Returns:
        Coefficients `(F, D, C, K)` and intercepts `(F, C, K)` of each stage.

    Example:
        >>> x, y = torch.tensor([[-1.0], [1.0], [2.0]]).double(), torch.tensor([[1.0, 0], [1, 0], [0, 1]]).double()
        >>> stages = [(torch.ones(1).double(), torch.tensor([0]))]
        >>> [(coef, _)] = softmax_regressions(x[None], torch.full((1, 3), 1 / 3).double(), y[None, ..., None], stages)
        >>> coef.squeeze()
        tensor([-0.2742,  0.2742], dtype=torch.float64)

    Reference:
        Nocedal and Wright, Numerical Optimization, 2006, section 7.2.
    """
    n_classes = y.shape[2]
    center = weight[:, None] @ x  # (F, 1, D)
    size, axes = torch.linalg.eigh((x - center).mT @ ((x - center) * weight[..., None]))
    rows = torch.cat([(x - center) @ axes, torch.ones_like(x[..., :1])], 2)  # (F, R, D + 1)
    weighed = rows * weight[..., None]
    # Rows come last, or features do: a sum over classes then runs along memory.
    moments = (y.movedim(1, -1).movedim(2, 1).flatten(1, 2) @ weighed).unflatten(1, (-1, n_classes))  # (F, P, C, D + 1)
    # Labels that sum to one but for rounding would let the loss fall without end where all logits rise together.
    moments -= (moments.sum(2, keepdim=True) - weighed.sum(1)[:, None, None]) / n_classes
    curvature = torch.cat([size.clamp(min=0), torch.ones_like(size[:, :1])], 1) * (n_classes - 1) / n_classes**2
    is_coef = torch.ones_like(curvature)
    is_coef[:, -1] = 0
    rate = moments[..., -1:].clamp(min=torch.finfo(x.dtype).eps).log()
    latest = torch.cat([torch.zeros_like(moments[..., :-1]), rate - rate.mean(2, keepdim=True)], 3)
    across = rows.mT.contiguous()
    solutions = []
    for penalty, wanted in stages:
        ridge = (penalty.to(x)[:, None] * is_coef)[:, None, None]  # (F, 1, 1, D + 1)

        def evaluate(w: Tensor, kept: Tensor, ridge: Tensor = ridge, wanted: Tensor = wanted) -> tuple[Tensor, Tensor]:
            z = (w.flatten(1, 2) @ across).unflatten(1, w.shape[1:3])  # (F, K, C, R)
            top = z.amax(2, keepdim=True)
            p = z.sub_(top).exp_()
            total = p.sum(2, keepdim=True)
            p /= total
            moment = moments[:, wanted[kept]]
            log_sum = (total.log_().add_(top).squeeze(2) @ weight[..., None]).squeeze(2)  # (F, K)
            value = log_sum - ((moment - 0.5 * ridge * w) * w).sum((2, 3))
            return value, (p.flatten(1, 2) @ weighed).unflatten(1, w.shape[1:3]) - moment + ridge * w

        scale = curvature[:, None, None] + ridge + torch.finfo(x.dtype).eps
        found = _minimize(evaluate, latest[:, wanted], scale, tol)
        latest[:, wanted] = found
        coef = (found[..., :-1].flatten(1, 2) @ axes.mT).unflatten(1, found.shape[1:3])
        intercept = found[..., -1] - (coef.flatten(1, 2) @ center.mT).squeeze(2).unflatten(1, found.shape[1:3])
        solutions.append((coef.permute(0, 3, 2, 1), intercept.mT))
    return solutions


def _minimize(evaluate: Evaluate, w: Tensor, scale: Tensor, tol: float) -> Tensor:
    """Minimize the functions of `w[f, k]` by L-BFGS.

    Args:
        evaluate: From arguments `(F, K, C, D)` and the indices k of their functions to values `(F, K)` and gradients.
        w: Arguments to start from.
        scale: Curvature of each argument as far as it is known, shape `(F, 1, 1, D)`.
        tol: Decrease below which a function is minimal.
    """
    solved = w.clone()
    eps = torch.finfo(w.dtype).eps
    kept = torch.arange(w.shape[1], device=w.device)
    value, gradient = evaluate(w, kept)
    share = torch.ones_like(value)  # of the step, which is shortened until the value falls
    past: list[tuple[Tensor, Tensor, Tensor]] = []  # step, change of the gradient, one over their product
    step = -gradient / scale
    for _ in range(MAX_STEPS):
        slope = _dot(gradient, step)
        unsolved = (-slope > tol * value) & (share > _SHORTEST)
        columns = unsolved.any(0)
        n_open = int(columns.sum())
        if not n_open:
            break
        if n_open <= _MOST_OPEN * len(kept):
            solved[:, kept] = w
            kept = kept[columns]
            state = (w, gradient, step, value, slope, share, unsolved)
            w, gradient, step, value, slope, share, unsolved = (part[:, columns] for part in state)
            past = [(s[:, columns], y[:, columns], rho[:, columns]) for s, y, rho in past]
        moved = _each(share) * step
        new_value, new_gradient = evaluate(w + moved, kept)
        lower = unsolved & (new_value <= value + _ARMIJO * share * slope + 4 * eps * value.abs())
        change = new_gradient - gradient
        product = _dot(moved, change)
        # A step that was taken back, or met no curvature, has no say in the next one.
        past = [*past[-MEMORY + 1 :], (moved, change, torch.where(lower & (product > 0), 1 / product, 0.0))]
        parabola = -0.5 * slope * share / (new_value - value - slope * share)
        falls = _each(lower)
        w = torch.where(falls, w + moved, w)
        gradient = torch.where(falls, new_gradient, gradient)
        value = torch.where(lower, new_value, value)
        step = torch.where(falls, _direction(gradient, past, scale), step)
        share = torch.where(lower, 1.0, share * parabola.nan_to_num(0.1).clamp(0.1, 0.5))
    solved[:, kept] = w
    return solved


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Products of arguments with each other, `(F, K, C, D), (F, K, C, D) -> (F, K)`."""
    product: Tensor = torch.linalg.vecdot(a.flatten(2), b.flatten(2))
    return product


def _each(value: Tensor) -> Tensor:
    """Values `(F, K)` in a shape that multiplies arguments `(F, K, C, D)`."""
    return value[..., None, None]


def _direction(gradient: Tensor, past: Sequence[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """Minus the inverse curvature times the gradient, by the two loops of L-BFGS."""
    q = gradient.clone()
    shares = []
    for step, change, rho in reversed(past):
        shares.append(_each(rho * _dot(step, q)))
        q.addcmul_(shares[-1], change, value=-1)
    factor = torch.ones_like(past[0][2])
    for _, change, rho in past[-3:]:  # the latest curvature met scales the directions that were not tried
        factor = torch.where(rho > 0, 1 / (rho * _dot(change, change / scale)), factor)
    q *= _each(factor) / scale
    for (step, change, rho), share in zip(past, reversed(shares), strict=True):
        q.addcmul_(share - _each(rho * _dot(change, q)), step)
    return -q
