"""Pairing: the partner of each row, and the Beta numbers that weigh the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from genlabel_plugins._checks import check_positive
from genlabel_plugins._state import accumulator, as_rows, floating

PairingName = Literal["permutation", "flip", "nearest_other"]
LEAST_ALPHA = 0.01  # of a Beta whose numbers do not underflow in float64
Pairing: TypeAlias = "PairingName | Callable[[Tensor, Tensor, torch.Generator | None], Tensor]"


def draw_partner(
    x: Tensor | Mapping[str, Tensor], target: Tensor, pairing: Pairing, generator: torch.Generator | None = None
) -> Tensor:
    """Row that each row of a batch is mixed with.

    Args:
        x: Inputs, shape `(B, *)`, or a mapping of several.
        target: Class indices, shape `(B,)`.
        pairing: `"permutation"` draws one at random, `"flip"` mirrors the batch (what timm does),
            `"nearest_other"` takes the nearest row of another class, or the row itself if there is none;
            or a callable `(rows, target, generator) -> partner`.
        generator: Source of randomness; by default the global one of the inputs' device.

    Returns:
        Indices, shape `(B,)`.

    Raises:
        ValueError: On an unknown name.

    Example:
        >>> draw_partner(torch.tensor([[0.0], [1.0], [1.5]]), torch.tensor([0, 0, 1]), "nearest_other")
        tensor([2, 2, 1])
    """
    if callable(pairing):
        return pairing(flat_rows(x), target, generator)
    if pairing not in get_args(PairingName):
        raise ValueError(f"pairing must be one of {get_args(PairingName)} or a callable, got {pairing!r}")
    if pairing == "nearest_other":
        return nearest_other(flat_rows(x), target)
    device = target.device
    if pairing == "flip":
        return torch.arange(len(target), device=device).flip(0)
    drawn = torch.randperm(len(target), generator=generator, device=draw_device(device, generator))
    return drawn.to(device, non_blocking=True)


def nearest_other(x: Tensor, target: Tensor) -> Tensor:
    """Nearest row of another class in the batch, the row itself if there is none, `(B, D), (B,) -> (B,)`.

    Between near rows another class seldom lies. Local Mixup weighs distant pairs down in the loss for the same
    reason; choosing partners by distance is what distance-based sample selection does.

    Reference:
        Baena, Drumetz and Gripon, Preventing Manifold Intrusion with Locality: Local Mixup, 2022. Zhang, Jiang and
        Tan, Dynamic Nonlinear Mixup with Distance-based Sample Selection, COLING 2022.
    """
    same = target[:, None] == target
    rows = x.to(accumulator(x))  # cdist subtracts squares: far from zero, float32 would order rows by its rounding
    rows = rows - rows.nanmean(0)
    distance = torch.cdist(rows, rows).masked_fill(same, torch.inf)
    nearest = distance.argmin(1)
    alone = same.all(1)
    return torch.where(alone, torch.arange(len(target), device=target.device), nearest)


class DistanceAlpha:
    r"""Concentration that falls with distance: near rows are mixed strongly, far ones hardly.

    .. math:: \lambda \sim \operatorname{Beta}(\tau, \tau), \qquad
              \tau = \tau_\text{max} \exp\Big(-\frac{d / \bar d - 1}{2 \tau_\text{std}^2}\Big)

    where :math:`d` is the squared distance of a pair and :math:`\bar d` its mean over the batch.

    Args:
        tau_max: Concentration of a pair at the mean distance.
        tau_std: Width of the kernel; a small one leaves far pairs unmixed.

    Raises:
        ValueError: If either is not positive.

    Example:
        >>> DistanceAlpha()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor([4.9530, 0.2019])

    Reference:
        Bouniot, Mozharovskyi and d'Alché-Buc, Tailoring Mixup to Data for Calibration, ICLR 2025.
    """

    def __init__(self, tau_max: float = 1.0, tau_std: float = 0.5) -> None:
        check_positive("tau_max", tau_max)
        check_positive("tau_std", tau_std)
        self.tau_max = tau_max
        self.tau_std = tau_std

    def __call__(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        """Concentration of each pair, `(B, D), (B, D) -> (B,)`."""
        square = (x_i - x_j).square().sum(1)
        mean = square.mean().clamp(min=torch.finfo(square.dtype).tiny)
        tau = self.tau_max * torch.exp((1 - square / mean) / (2 * self.tau_std**2))
        return tau.clamp(LEAST_ALPHA, 1e4)  # a Beta beyond is a coin or a constant

    def __repr__(self) -> str:
        return f"DistanceAlpha(tau_max={self.tau_max}, tau_std={self.tau_std})"


def draw_beta(alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One number of `Beta(alpha, alpha)` per concentration, `(B,) -> (B,)`, in float64.

    `torch.distributions` draws in the same way, but takes no generator. In float32 the tenth of `Beta(0.1, 0.1)`
    that lies next to one would be a single number. Below `LEAST_ALPHA` both Gamma numbers underflow, and torch would
    answer one half where the Beta is nearly a coin; there the logit, whose scale is 1 / alpha, is stretched instead.
    """
    alpha = alpha.to(draw_device(alpha.device, generator), torch.float64)
    drawn = alpha.clamp(min=LEAST_ALPHA)
    lam = torch._sample_dirichlet(torch.stack([drawn, drawn], -1), generator)[..., 0]
    return torch.where(alpha < LEAST_ALPHA, torch.sigmoid(torch.logit(lam) * (drawn / alpha)), lam)


def draw_device(device: torch.device, generator: torch.Generator | None) -> torch.device:
    """Device to draw on: the generator's, else that of the inputs; MPS cannot draw Beta numbers."""
    if generator is not None:
        return generator.device
    return torch.device("cpu") if device.type == "mps" else device


def flat_rows(x: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Rows to measure distances between, `(B, *) -> (B, D)`, in float32 or better; a mapping is concatenated."""
    tensors = [tensor for tensor in x.values() if 0 not in tensor.shape[1:]] if isinstance(x, Mapping) else [x]
    rows = [floating(as_rows(tensor).detach()) for tensor in tensors]
    return torch.cat(rows, 1) if len(rows) > 1 else rows[0]
