"""StackedNetworks: many small networks that read the same rows, as one module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedNetworks(nn.Module):
    r"""F x M networks of one shape: for each of F tables, M networks that differ in how they are trained.

    The networks of a table read the same rows, so that their first layers are one product of the batch with all
    weights side by side. Without hidden layers that product is all there is: M logistic regressions. Output layers
    start at zero, hidden ones at draws that the networks of a table share.

    Args:
        sizes: Width of each layer, from features to classes: `(D, C)` is logistic regression.
        n_models: Networks per table, M.
        generators: Source of randomness for the hidden layers of each table, F of them, on the CPU.

    Example:
        >>> networks = StackedNetworks((4, 3), 8, [torch.Generator(), torch.Generator()])
        >>> networks(torch.zeros(2, 5, 4)).shape  # tables, rows, classes, networks
        torch.Size([2, 5, 3, 8])
    """

    def __init__(self, sizes: Sequence[int], n_models: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.n_models = n_models
        # The first layer is (F, in, out, M), the others (F, M, in, out); biases have one row.
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            bound = 0.0 if layer == len(self.sizes) - 2 else 1 / math.sqrt(n_in)  # hidden: that of nn.Linear
            uniform = [torch.rand(1 + n_in, n_out, generator=g, dtype=torch.float32) for g in generators]
            drawn = bound * (2 * torch.stack(uniform) - 1)
            for parameters, rows in ((self.biases, drawn[:, :1]), (self.weights, drawn[:, 1:])):
                shared = rows[..., None] if layer == 0 else rows[:, None]
                axis = 3 if layer == 0 else 1
                parameters.append(nn.Parameter(shared.repeat_interleave(n_models, axis)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of all networks, `(F, B, D) -> (F, B, C, M)`."""
        weight, bias = self.weights[0], self.biases[0]
        z: Tensor = torch.baddbmm(bias.flatten(2), x, weight.flatten(2)).unflatten(2, weight.shape[2:])  # (F, B, O, M)
        if len(self.weights) == 1:
            return z
        z = z.permute(0, 3, 1, 2)  # (F, M, B, O)
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            z = z.relu() @ weight + bias
        return z.permute(0, 2, 3, 1)

    def per_network(self, value: Tensor) -> list[Tensor]:
        """One number per network, `(F, M)` or `(1, M)`, in shapes that multiply the parameters in turn."""
        others = len(self.sizes) - 2
        return [value[:, None, None], *[value[..., None, None]] * others] * 2

    @torch.no_grad()
    def of_table(self, table: int) -> StackedNetworks:
        """Copy of the networks of one table."""
        one = StackedNetworks(self.sizes, self.n_models, [torch.Generator()]).to(self.weights[0])
        one.load_state_dict({name: parameter[table : table + 1] for name, parameter in self.state_dict().items()})
        return one

    @torch.no_grad()
    def network(self, table: int, model: int) -> tuple[list[Tensor], list[Tensor]]:
        """Weights `(in, out)` and biases `(out,)` of the layers of one network."""
        layers = []
        for parameters in (self.weights, self.biases):
            first, *others = (parameter[table] for parameter in parameters)
            layers.append([first[..., model].clone(), *(parameter[model].clone() for parameter in others)])
        return layers[0], [bias.squeeze(0) for bias in layers[1]]

    @torch.no_grad()
    def set_network(self, table: int, model: int, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        """Overwrite the layers of one network, as `network` returns them."""
        for parameters, layers in ((self.weights, weights), (self.biases, [bias[None] for bias in biases])):
            for layer, (parameter, values) in enumerate(zip(parameters, layers, strict=True)):
                place = (table, ..., model) if layer == 0 else (table, model)
                parameter[place] = values
