"""Temperature: how far certainty has to be toned down to be true of rows that a density has not seen."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

COLDEST, HOTTEST = 0.05, 1e6  # a perfect classifier asks for temperature zero
LEAST_GAIN = 2.0  # nats of held-out log-likelihood that a temperature must gain to be believed


def best_temperature(scored: Iterable[tuple[Tensor, Tensor]]) -> float:
    r"""Temperature T that minimizes the log-loss of :math:`\operatorname{softmax}(s / T)`.

    The loss is convex in 1/T, so bisection on the sign of its derivative finds the minimum. Rows on which the true
    class has no density tell nothing about T and are left out.

    Args:
        scored: Log-joint densities s, shape `(B, C)`, with true classes `(B,)`.

    Raises:
        ValueError: If no row is left.

    Example:
        >>> score = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
        >>> round(best_temperature(iter([(score, torch.tensor([0, 0, 0, 1]))])), 4)  # 2 / log 3
        1.8205
    """
    gaps = []
    for score, target in scored:
        score = score.double()  # noqa: PLW2901
        known = target < score.shape[1]
        score, target = score[known], target[known]  # noqa: PLW2901
        gap = score - score.gather(1, target[:, None])  # (B, C), zero at the true class
        gaps.append(gap[~(gap.isnan() | (gap == torch.inf)).any(1)])
    if not any(len(gap) for gap in gaps):
        raise ValueError("calibration needs rows whose class has a finite density, got none")

    def slope(log_temperature: float) -> float:
        """Derivative of the summed log-loss with respect to 1/T."""
        beta = math.exp(-log_temperature)
        return sum(float(((gap * beta).softmax(1) * gap.nan_to_num(neginf=0.0)).sum()) for gap in gaps)

    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp(high)


def needed_temperature(score: Tensor, target: Tensor) -> float:
    """Temperature above 1 if held-out scores `(B, C)` of classes `(B,)` are too certain beyond doubt, else 1."""
    temperature = max(1.0, best_temperature([(score, target)])) if len(score) else 1.0
    own = target[:, None]
    before, after = ((score.double() / t).log_softmax(1).gather(1, own).sum() for t in (1.0, temperature))
    return temperature if float(after - before) > LEAST_GAIN else 1.0


def tone_down(log_prob: Tensor, temperature: Tensor) -> Tensor:
    r"""Class densities whose posterior is that of :math:`\log p_c / T`, about the same marginal, `(B, K) -> (B, K)`.

    .. math:: \log p_c \leftarrow \log\bar p + (\log p_c - \log\bar p) / T, \qquad
              \bar p = \tfrac1K \textstyle\sum_c p_c

    Example:
        >>> tone_down(torch.tensor([[2.0, 0.0]]), torch.tensor(2.0)).softmax(1)[0, 0].item()
        0.7310585975646973
    """
    marginal = log_prob.logsumexp(1, keepdim=True) - math.log(log_prob.shape[1])
    return marginal * (1 - 1 / temperature) + log_prob / temperature
