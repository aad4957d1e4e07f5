"""Fitted models as plain arrays, which pickle and skops store without torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genlabel_plugins import Density, GenLabel, make_backend
from genlabel_plugins.selection._training_table import TrainingTable

Array = NDArray[np.float64]


class Networks:
    """M feed-forward networks of one shape with ReLU between their layers, on rows in the units of the data.

    Args:
        coefs: Weights of the layers, shapes `(M, in, out)`.
        intercepts: Biases of the layers, shapes `(M, 1, out)`.
    """

    def __init__(self, coefs: Sequence[Array], intercepts: Sequence[Array]) -> None:
        self.coefs = list(coefs)
        self.intercepts = list(intercepts)

    @classmethod
    def of(cls, networks: Sequence[tuple[list[Tensor], list[Tensor]]], table: TrainingTable) -> Networks:
        """Store weights and biases of networks that were trained on the standardized rows of a table."""
        weights, biases = zip(*networks, strict=True)
        coefs = [np.stack([w.double().numpy(force=True) for w in layer]) for layer in zip(*weights, strict=True)]
        intercepts = [
            np.stack([b.double().numpy(force=True)[None] for b in layer]) for layer in zip(*biases, strict=True)
        ]
        mean, scale = table.mean.numpy(force=True), table.scale.numpy(force=True)
        if table.basis is not None:
            coefs[0] = table.basis.numpy(force=True) @ coefs[0]
        coefs[0] = coefs[0] / scale[:, None]
        intercepts[0] = intercepts[0] - mean @ coefs[0][:, None]
        return cls(coefs, intercepts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of each layer, from features to classes."""
        return (self.coefs[0].shape[1], *(coef.shape[2] for coef in self.coefs))

    def on(self, table: TrainingTable) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases of the first network for the standardized rows of another table."""
        mean, scale = table.mean.numpy(force=True), table.scale.numpy(force=True)
        coefs, intercepts = ([part[0] for part in parts] for parts in (self.coefs, self.intercepts))
        intercepts[0] = intercepts[0] + mean @ coefs[0]
        coefs[0] = coefs[0] * scale[:, None]
        if table.basis is not None:
            coefs[0] = table.basis.numpy(force=True).T @ coefs[0]
        weights = [torch.from_numpy(coef).float() for coef in coefs]
        return weights, [torch.from_numpy(intercept[0]).float() for intercept in intercepts]

    def log_probability(self, X: Array) -> Array:
        """Log-probabilities, `(B, D) -> (M, B, C)`."""
        h = X
        for layer, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            h = (np.maximum(h, 0) if layer else h) @ coef + intercept
        h = h - h.max(2, keepdims=True)
        log_probability: Array = h - np.log(np.exp(h).sum(2, keepdims=True))
        return log_probability


class DensityClassifier:
    """The posterior of class densities.

    Args:
        backend: Name of the density, or the object.
        relabeler: Relabeler with that density and priors, fitted to the standardized rows of `table`.
        table: These rows.
    """

    _relabeler: GenLabel | None = None  # made when first needed, and not stored

    def __init__(self, backend: Any, relabeler: GenLabel, table: TrainingTable) -> None:
        density = relabeler.density
        as_arrays = isinstance(density, Density)
        self.backend = backend if as_arrays else density
        state = density.state_dict() if as_arrays else {}
        self.state = {name: tensor.numpy(force=True) for name, tensor in state.items()}
        assert relabeler.prior is not None
        self.prior: list[float] = relabeler.prior.tolist()
        self.mean, self.scale = table.mean.numpy(force=True), table.scale.numpy(force=True)
        self.basis = None if table.basis is None else table.basis.numpy(force=True)

    def log_probability(self, X: Array) -> Array:
        """Log-probabilities, `(B, D) -> (1, B, C)`."""
        if self._relabeler is None:
            density = make_backend(copy.deepcopy(self.backend))
            if self.state:
                density.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()})
                density.double()
            self._relabeler = GenLabel(density, priors=self.prior)
        z = (X - self.mean) / self.scale
        x = torch.from_numpy(z if self.basis is None else z @ self.basis)
        x = x if self.state else x.float()
        probability: Array = self._relabeler.posterior(x).double().numpy(force=True)
        with np.errstate(divide="ignore"):
            log_probability: Array = np.log(probability / probability.sum(1, keepdims=True))
        return log_probability[None]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_relabeler"}


Model = Networks | DensityClassifier
