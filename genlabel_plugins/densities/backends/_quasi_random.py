"""Standard normal draws that fill a latent space evenly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine


def normal_draws(n_draws: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    """Standard normal draws of low discrepancy in float64, `(S, L)`: a scrambled Sobol sequence through the quantiles.

    Example:
        >>> normal_draws(4, 1, torch.Generator().manual_seed(0)).sort(dim=0).values.diff(dim=0).min() > 0.1
        tensor(True)
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    uniform = SobolEngine(latent_dim, scramble=True, seed=seed).draw(n_draws, dtype=torch.float64)
    draws: Tensor = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    return draws
