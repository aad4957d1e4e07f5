"""Members: fitted classifiers as plain arrays, which pickle and skops store without torch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from genlabel_plugins import Density, GenLabel, make_backend
from genlabel_plugins.selection._table import Table

Array = NDArray[np.float64]


class Network:
    """A feed-forward network with ReLU between its layers, on rows in the units of the data.

    Args:
        coefs: Weights of the layers, shapes `(in, out)`.
        intercepts: Biases of the layers, shapes `(out,)`.
    """

    def __init__(self, coefs: list[Array], intercepts: list[Array]) -> None:
        self.coefs = coefs
        self.intercepts = intercepts

    @classmethod
    def of(cls, weights: list[Tensor], biases: list[Tensor], table: Table) -> Network:
        """A network that was trained on the standardised rows of a table."""
        coefs = [weight.double().numpy(force=True) for weight in weights]
        intercepts = [bias.double().numpy(force=True) for bias in biases]
        mean, scale = table.mean.numpy(force=True), table.scale.numpy(force=True)
        coefs[0] = coefs[0] / scale[:, None]
        intercepts[0] = intercepts[0] - mean @ coefs[0]
        return cls(coefs, intercepts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of each layer, from features to classes."""
        return (len(self.coefs[0]), *(coef.shape[1] for coef in self.coefs))

    def on(self, table: Table) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases for the standardised rows of another table."""
        mean, scale = table.mean.numpy(force=True), table.scale.numpy(force=True)
        coefs, intercepts = list(self.coefs), list(self.intercepts)
        intercepts[0] = intercepts[0] + mean @ coefs[0]
        coefs[0] = coefs[0] * scale[:, None]
        weights, biases = ([torch.from_numpy(part).float() for part in parts] for parts in (coefs, intercepts))
        return weights, biases

    def predict_proba(self, X: Array) -> Array:
        """Probabilities, `(B, D) -> (B, C)`."""
        h = X
        for layer, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            h = (np.maximum(h, 0) if layer else h) @ coef + intercept
        probability: Array = softmax(h, axis=1)
        return probability


class GenerativeClassifier:
    """The posterior of class densities.

    Args:
        backend: Name of the density, or the object.
        relabeler: Relabeler with that density and priors, fitted to the standardised rows of `table`.
        table: These rows.
    """

    def __init__(self, backend: Any, relabeler: GenLabel, table: Table) -> None:
        density = relabeler.density
        as_arrays = isinstance(density, Density)
        self.backend = backend if as_arrays else density
        state = density.state_dict() if as_arrays else {}
        self.state = {name: tensor.numpy(force=True) for name, tensor in state.items()}
        assert relabeler.prior is not None
        self.prior: list[float] = relabeler.prior.tolist()
        self.mean, self.scale = table.mean.numpy(force=True), table.scale.numpy(force=True)

    def predict_proba(self, X: Array) -> Array:
        """Probabilities, `(B, D) -> (B, C)`."""
        density = make_backend(copy.deepcopy(self.backend))
        if self.state:
            density.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()})
        x = torch.from_numpy((X - self.mean) / self.scale).float()
        probability: Array = GenLabel(density, priors=self.prior).posterior(x).double().numpy()
        probability /= probability.sum(1, keepdims=True)
        return probability
