"""Minimize many small functions at once by quasi-Newton steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_FIRST_STEP = 0.1  # length, for arguments of order one
_ARMIJO = 1e-4
_MIN_CURVATURE = 1e-8


def minimize(function: Callable[[Tensor], Tensor], w: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    r"""Minimize :math:`f_i(w_i)` for all rows i by batched BFGS, each step one forward and one backward pass.

    A step that does not lower :math:`f_i` enough is taken back; the next one ends at the minimum of the parabola
    through what was met. No row waits for another, and the graph of each evaluation is freed at once.

    Args:
        function: From arguments `(P, L)` to values `(P,)`, where row i depends on row i alone.
        w: Arguments to start from, shape `(P, L)`.
        n_steps: Evaluations after the first.

    Returns:
        The best arguments `(P, L)` and their values `(P,)`, never worse than the start.

    Example:
        >>> target = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
        >>> w, value = minimize(lambda w: (w - target).square().sum(1), torch.zeros(2, 2), 5)
        >>> torch.allclose(w, target, atol=1e-4)
        True

    Reference:
        Nocedal and Wright, Numerical Optimization, 2006, section 6.1.
    """
    value, gradient = _value_and_gradient(function, w)
    identity = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    length = torch.linalg.vector_norm(gradient, dim=1).clamp_min(torch.finfo(w.dtype).tiny)
    inverse = identity * (_FIRST_STEP / length).view(-1, 1, 1)  # (P, L, L)
    scaled = torch.zeros_like(value, dtype=torch.bool)
    shrink = torch.ones_like(value)
    for _ in range(n_steps):
        step = -shrink[:, None] * torch.einsum("pij,pj->pi", inverse, gradient)
        new_value, new_gradient = _value_and_gradient(function, w + step)
        slope = (gradient * step).sum(1)
        lower = new_value <= value + _ARMIJO * slope  # false for NaN
        change = new_gradient - gradient
        curvature = (step * change).sum(1)
        square = change.square().sum(1)
        curved = lower & (curvature > _MIN_CURVATURE * (step.square().sum(1) * square).sqrt())
        # The first curvature met also sets the scale of the directions not yet tried.
        rescaled = identity * (curvature / square).view(-1, 1, 1)
        previous = torch.where((curved & ~scaled).view(-1, 1, 1), rescaled, inverse)
        # A step that met no curvature may be longer next time.
        longer = torch.where((lower & ~curved).view(-1, 1, 1), 2 * inverse, inverse)
        inverse = torch.where(curved.view(-1, 1, 1), _updated(previous, step, change, curvature), longer)
        scaled |= curved
        parabola = (-0.5 * slope / (new_value - value - slope)).nan_to_num(0.0).clamp(0.1, 0.5)
        shrink = torch.where(lower, 1.0, parabola * shrink)
        w = torch.where(lower[:, None], w + step, w)
        gradient = torch.where(lower[:, None], new_gradient, gradient)
        value = torch.where(lower, new_value, value)
    return w, value


def _updated(inverse: Tensor, step: Tensor, change: Tensor, curvature: Tensor) -> Tensor:
    """The BFGS update of inverse Hessians `(P, L, L)`, expanded to two outer products."""
    applied = torch.einsum("pij,pj->pi", inverse, change)  # (P, L)
    weight = (1 + (change * applied).sum(1) / curvature)[:, None]
    half = (0.5 * weight * step - applied) / curvature[:, None]
    cross = half[:, :, None] * step[:, None, :]
    return inverse + cross + cross.mT


def _value_and_gradient(function: Callable[[Tensor], Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        w = w.detach().requires_grad_()
        value = function(w)
        (gradient,) = torch.autograd.grad(value.sum(), w)
    return value.detach(), gradient
