"""Softmax regression: many convex problems on the same rows, solved together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genlabel_plugins.selection._lbfgs import Point, dot, minimize

SAFE = 80.0  # logits up to which exponentials need no shift, in float32 too


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
        stages: Positive penalties :math:`\lambda`, shape `(F, K)` or `(F, 1)`, and the labels that each is wanted for,
            indices of shape `(K,)`. A stage starts where the previous one with these labels ended: take the strictest
            first.
        tol: Decrease of the loss, as the curvature foresees it, below which a problem is solved.

    Returns:
        Coefficients `(F, D, C, K)` and intercepts `(F, C, K)` of each stage.

    Example:
        >>> x, y = torch.tensor([[-1.0], [1.0], [2.0]]).double(), torch.tensor([[1.0, 0], [1, 0], [0, 1]]).double()
        >>> stages = [(torch.ones(1, 1).double(), torch.tensor([0]))]
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
    w = torch.cat([torch.zeros_like(moments[..., :-1]), rate - rate.mean(2, keepdim=True)], 3)
    across = rows.mT.contiguous()
    reach = rows.norm(dim=2).amax()

    def evaluate(w: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropies `(F, K)` and their gradients at coefficients `(F, K, C, D + 1)`."""
        z = (w.flatten(1, 2) @ across).unflatten(1, w.shape[1:3])  # (F, K, C, R)
        moment = moments[:, ways]
        top = z.amax(2, keepdim=True) if float(w.norm(dim=3).amax() * reach) > SAFE else None
        p = (z if top is None else z.sub_(top)).exp_()
        total = p.sum(2, keepdim=True)
        p /= total
        log_total = total.log_() if top is None else total.log_().add_(top)
        value = (log_total.squeeze(2) @ weight[..., None]).squeeze(2) - dot(moment, w)
        return value, (p.flatten(1, 2) @ weighed).unflatten(1, w.shape[1:3]) - moment

    latest = Point(w, *evaluate(w, torch.arange(w.shape[1], device=w.device)))
    solutions = []
    for penalty, wanted in stages:
        ridge = penalty.to(x)[..., None, None] * is_coef[:, None, None]  # (F, K, 1, D + 1)
        start, known = latest.of(wanted), curvature[:, None, None]
        solution = minimize(evaluate, start, wanted, ridge=ridge, curvature=known, tol=tol)
        latest.put(wanted, solution)
        found = solution.w
        coef = (found[..., :-1].flatten(1, 2) @ axes.mT).unflatten(1, found.shape[1:3])
        intercept = found[..., -1] - (coef.flatten(1, 2) @ center.mT).squeeze(2).unflatten(1, found.shape[1:3])
        solutions.append((coef.permute(0, 3, 2, 1), intercept.mT))
    return solutions
