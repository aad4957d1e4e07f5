"""The bandwidth of a class by the likelihood of rows that are left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genlabel_plugins.densities.backends._tiles import chunk_elements

MAX_LEFT_OUT = 500


def best_bandwidth(z: Tensor, scott: float, generator: torch.Generator) -> float:
    """Bandwidth of the highest leave-one-out likelihood for whitened rows `(n, D)` of one class.

    At most `MAX_LEFT_OUT` random rows are left out; a lone row keeps Scott's width.
    """
    if len(z) == 1:
        return scott
    candidates = scott * torch.logspace(-4, 1, 21, base=2, dtype=z.dtype, device=z.device)
    likelihood = torch.zeros_like(candidates)
    left_out = torch.randperm(len(z), generator=generator)[:MAX_LEFT_OUT].to(z.device)
    for rows in left_out.split(max(1, chunk_elements(z) // len(z))):
        exponent = -torch.cdist(z[rows], z).square() / (2 * math.log(2))
        exponent[torch.arange(len(rows), device=z.device), rows] = -torch.inf
        for i, h in enumerate(candidates):
            likelihood[i] += (log2_sum_exp2_(exponent / h.square()) * math.log(2) - z.shape[1] * h.log()).sum()
    return float(candidates[likelihood.argmax()])


def log2_sum_exp2_(score: Tensor) -> Tensor:
    """Log-sum-exp in base 2 over the last dimension, overwriting `score`."""
    highest = score.amax(-1, keepdim=True)
    return score.sub_(highest).exp2_().sum(-1).log2_() + highest.squeeze(-1)
