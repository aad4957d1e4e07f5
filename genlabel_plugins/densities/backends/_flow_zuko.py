"""Invertible networks by zuko that start as the identity."""

from __future__ import annotations

from torch import Tensor, nn

try:
    import zuko
except ModuleNotFoundError as error:
    if error.name != "zuko":
        raise
    raise ModuleNotFoundError(
        "backend 'flow' with engine='zuko' needs zuko: pip install 'genlabel-plugins[flows]'"
    ) from error


class InvertibleNetwork(nn.Module):
    """Layers from data to noise, in alternating order of the features.

    Args:
        flow: `"nsf"`, `"maf"` or `"realnvp"`.
        n_features: Features D.
        n_context: Context features E; 0 for none.
        n_layers: Number of layers.
        hidden_features: Width of the layers' networks.
    """

    def __init__(self, flow: str, n_features: int, n_context: int, n_layers: int, hidden_features: int) -> None:
        super().__init__()
        make = {"nsf": zuko.flows.NSF, "maf": zuko.flows.MAF, "realnvp": zuko.flows.RealNVP}[flow]
        hidden = (hidden_features, hidden_features)
        self.transform = make(n_features, n_context, transforms=n_layers, hidden_features=hidden).transform
        for layer in self.transform.transforms:
            if hasattr(layer, "hyper"):
                nn.init.zeros_(layer.hyper[-1].weight)
                nn.init.zeros_(layer.hyper[-1].bias)
                if n_context:  # classes start equal: their numbering is arbitrary
                    nn.init.zeros_(layer.hyper[0].weight[:, -n_context:])
            else:
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Noise and log-determinant, `(N, D), (N, E) -> (N, D), (N,)`."""
        noise, log_det = self.transform(context).call_and_ladj(z)
        return noise, log_det
