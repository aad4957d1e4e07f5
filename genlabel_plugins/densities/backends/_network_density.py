"""NetworkDensity: the frame of a density that trains a network in units of each class."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number, check_positive
from genlabel_plugins.densities._temperature import needed_temperature
from genlabel_plugins.densities.backends._class_units import (
    MIN_ROWS,
    ClassUnits,
    class_units,
    gaussian_tail,
    standard_normal_log_prob,
    standardized,
    tail_radius,
)
from genlabel_plugins.densities.density import Density

MAX_JUDGES = 2000  # held-out rows that set the temperature


class NetworkDensity(Density):
    """Gaussians of the classes, refined by what a network learns in units of each.

    A fraction of each class is held out. It decides when training stops and how far certainty is to be trusted: rows
    that were neither trained on nor used for the units set the temperature by which `GenLabel` divides log-ratios, one
    unless these are too certain beyond doubt. Beyond a radius the densities fall off like Gaussians.

    A subclass reads the units in `_use` and `_standardize`, trains in `_train` and scores in `_network_log_prob`.
    """

    exact = False
    diagonal: ClassVar[bool] = False  # units without correlations

    mean_: Tensor  # (K, D)
    log_det_: Tensor  # (K,)
    radius_: Tensor  # (K,), where the Gaussian tail starts
    trained_: Tensor  # (T,), classes that the network knows; the others are Gaussian
    temperature_: Tensor  # ()

    def __init__(
        self,
        *,
        max_epochs: int,
        patience: int,
        learning_rate: float,
        batch_size: int,
        validation_fraction: float,
        verbose: bool,
    ) -> None:
        super().__init__()
        check_number("max_epochs", max_epochs, 0, whole=True)
        check_number("patience", patience, 0, whole=True)
        check_positive("learning_rate", learning_rate)
        check_number("batch_size", batch_size, 1, whole=True)
        check_number("validation_fraction", validation_fraction, -math.inf)
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.verbose = verbose
        self._declare("mean_", "log_det_", "radius_", "trained_", "temperature_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        count = torch.bincount(target)
        self.trained_ = (count >= MIN_ROWS).nonzero().squeeze(1)
        units = class_units(x, target, self.offset_, diagonal=self.diagonal)
        z = self._use(units, x, target)
        chosen = (count >= MIN_ROWS)[target].nonzero().squeeze(1)
        held_out = chosen[self._train(z[chosen].float(), torch.searchsorted(self.trained_, target[chosen]), generator)]
        self.temperature_ = x.new_ones(())
        self.to(dtype=x.dtype)
        if len(held_out):
            seen = torch.ones_like(target, dtype=torch.bool).index_fill_(0, held_out, 0)
            self._use(class_units(x[seen], target[seen], self.offset_, diagonal=self.diagonal), x[seen], target[seen])
            judges = held_out[:: -(-len(held_out) // MAX_JUDGES)]
            self.temperature_ *= needed_temperature(self._log_prob(x[judges]), target[judges])
            self._use(units, x, target)

    def _use(self, units: ClassUnits, x: Tensor, target: Tensor) -> Tensor:
        """Keep units, and return the rows that they were estimated from in them, `(N, D), (N,) -> (N, D)`."""
        self.mean_, self.log_det_ = units.mean.to(x), units.log_det.to(x)
        z = standardized(x, target, units.mean, units.whiten)
        self.radius_ = tail_radius(z, target, len(units.mean))
        return z

    def _standardize(self, x: Tensor) -> Tensor:
        """Rows in units of all classes, `(B, D) -> (B, K, D)`."""
        raise NotImplementedError

    def _train(self, z: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        """Train on rows `(N, D)` in the units of their class, whose place in `trained_` is `label`, `(N,)`.

        Returns:
            Indices of the rows that were held out.
        """
        raise NotImplementedError

    def _network_log_prob(self, z: Tensor) -> Tensor:
        """Log-densities in units of the trained classes, `(B, T, D) -> (B, T)`."""
        raise NotImplementedError

    def _score(self, x: Tensor) -> Tensor:
        z = self._standardize(x)
        log_prob = standard_normal_log_prob(z)  # (B, K)
        if len(self.trained_):
            inside, tail = gaussian_tail(z[:, self.trained_], self.radius_[self.trained_])
            log_prob = log_prob.index_copy(1, self.trained_, self._network_log_prob(inside) + tail)
        return log_prob + self.log_det_
