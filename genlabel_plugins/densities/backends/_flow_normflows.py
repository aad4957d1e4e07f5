"""Invertible networks by normflows that start as the identity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

try:
    import normflows
except ModuleNotFoundError as error:
    if error.name != "normflows":
        raise
    raise ModuleNotFoundError(
        "backend 'flow' with engine='normflows' needs normflows: pip install 'genlabel-plugins[flows]'"
    ) from error

N_BINS = 8
SPLINE_BOUND = 5.0  # features are in units of the class
MAX_SHIFT = 7.0  # of a shift and of a log-scale in one coupling layer, so that no row overflows


class InvertibleNetwork(nn.Module):
    """Layers from data to noise; the order of the features is reversed after each.

    Args:
        flow: `"nsf"`, `"maf"` or `"realnvp"`.
        n_features: Features D.
        n_context: Context features E; 0 for none.
        n_layers: Number of layers.
        hidden_features: Width of the layers' networks.
    """

    def __init__(self, flow: str, n_features: int, n_context: int, n_layers: int, hidden_features: int) -> None:
        super().__init__()
        # One feature leaves nothing for a coupling to depend on: its autoregressive twin has the same form.
        layer = _Maf if flow == "realnvp" and n_features == 1 else {"nsf": _Nsf, "maf": _Maf, "realnvp": _RealNvp}[flow]
        self.layers = nn.ModuleList(layer(n_features, n_context, hidden_features) for _ in range(n_layers))
        for module in self.modules():
            if isinstance(context_layer := getattr(module, "context_layer", None), nn.Linear):
                nn.init.zeros_(context_layer.weight)  # classes start equal: their numbering is arbitrary

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Noise and log-determinant, `(N, D), (N, E) -> (N, D), (N,)`."""
        log_det = z.new_zeros(len(z))
        for layer in self.layers:
            z, change = layer(z, context)
            z, log_det = z.flip(1), log_det + change
        return z, log_det


class _Nsf(nn.Module):
    """Autoregressive rational-quadratic spline."""

    def __init__(self, n_features: int, n_context: int, hidden_features: int) -> None:
        super().__init__()
        self.spline = normflows.flows.AutoregressiveRationalQuadraticSpline(
            n_features,
            num_blocks=1,
            num_hidden_channels=hidden_features,
            num_context_channels=n_context or None,
            num_bins=N_BINS,
            tail_bound=SPLINE_BOUND,
        )

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        noise, log_det = self.spline.inverse(z, context)
        return noise, log_det


class _Maf(nn.Module):
    """Masked autoregressive affine map, its scale of at most one balanced by a constant factor per feature."""

    def __init__(self, n_features: int, n_context: int, hidden_features: int) -> None:
        super().__init__()
        # Its forward pass is the one that takes a single evaluation of the network.
        self.affine = normflows.flows.MaskedAffineAutoregressive(
            n_features, hidden_features, context_features=n_context or None, num_blocks=1
        )
        last = self.affine.autoregressive_net.final_layer
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.constant = normflows.flows.AffineConstFlow((n_features,))
        nn.init.constant_(self.constant.s, -math.log(1 / (1 + math.exp(-2)) + 1e-3))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = self.affine(z, context)
        noise, constant = self.constant(z)
        return noise, log_det + constant


class _RealNvp(nn.Module):
    """Affine coupling: one half of the features, and the context, move the other half."""

    def __init__(self, n_features: int, n_context: int, hidden_features: int) -> None:
        super().__init__()
        self.n_fixed = n_features // 2
        n_moved = n_features - self.n_fixed
        network = normflows.nets.MLP(
            [self.n_fixed + n_context, hidden_features, hidden_features, 2 * n_moved],
            init_zeros=True,
            output_fn="tanh",
            output_scale=MAX_SHIFT,
        )
        nn.init.zeros_(network.net[0].weight[:, self.n_fixed :])
        self.coupling = normflows.flows.AffineCoupling(network)

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        fixed, moved = z[:, : self.n_fixed], z[:, self.n_fixed :]
        given = fixed if context is None else torch.cat([fixed, context], 1)
        (_, moved), log_det = self.coupling.inverse([given, moved])
        return torch.cat([fixed, moved], 1), log_det
