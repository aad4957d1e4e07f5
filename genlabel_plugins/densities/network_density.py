"""NetworkDensity: the frame of a density that trains a network in units of each class."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number, check_positive, check_switch
from genlabel_plugins._state import rank_in_class
from genlabel_plugins.densities._temperature import needed_temperature
from genlabel_plugins.densities._training import hold_out, private_rng, train
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

CHUNK_ROWS = 16_384  # pairs of a row and a class that are scored together
FEWEST_FIRST = 16  # rows of a class that a network sees before it is trained
MAX_JUDGES = 2000  # held-out rows that set the temperature


class NetworkDensity(Density):
    r"""Densities by a network, in the frame that `flow` and `vae` share; the author writes the network and its loss.

    .. math:: \log p_c(x) = \log q_c\big(W_c (x - \mu_c)\big) + \log |\det W_c|

    with q the network's density of rows in units of their class, where the training rows have mean zero and variance
    one. A class with fewer than 20 rows is a Gaussian. A fraction of each class is held out. It decides when training
    stops and how far certainty is to be trusted: rows that were neither trained on nor used for the units set the
    temperature by which `GenLabel` divides log-ratios, one unless these are too certain beyond doubt. Beyond 1.5 times
    the norm of the farthest training row the densities fall off like Gaussians, so that they are finite everywhere.

    A subclass defines `_network`. Its module maps rows and classes, `(N, D), (N,) -> (N,)`, to log-densities, and is
    trained by maximum likelihood; with another `_loss` or `_class_log_prob` it may be anything. All of it runs in
    float32 while it trains, and afterwards in the dtype of the training rows.

    Args:
        max_epochs: Passes over the training rows at most.
        patience: Epochs without a better held-out loss after which training stops.
        learning_rate: Step size of Adam.
        batch_size: Rows a training step.
        validation_fraction: Fraction of each class that is held out, in (0, 1).
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        diagonal: Units without correlations: variances alone, in place of a whitening.
        network_: The trained module; None if no class has enough rows.
        trained_: Which of the classes with rows the network knows, shape `(T,)`; the network counts classes 0..T-1.
        report_: How the training went; not saved.

    Raises:
        ValueError: On an option out of range.

    Example:
        >>> class Scales(torch.nn.Module):
        ...     def __init__(self, n_classes, n_features):
        ...         super().__init__()
        ...         self.log_scale = torch.nn.Parameter(torch.zeros(n_classes, n_features))
        ...
        ...     def forward(self, z, label):
        ...         scale = self.log_scale[label].exp()
        ...         return torch.distributions.Laplace(0.0, scale).log_prob(z).sum(1)
        >>> class Laplace(NetworkDensity):
        ...     def _network(self):
        ...         return Scales(len(self.trained_), len(self.offset_))
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> Laplace(max_epochs=2).fit(x, torch.arange(60) % 2).log_prob(x).shape
        torch.Size([60, 2])
    """

    exact = False
    diagonal: ClassVar[bool] = False

    mean_: Tensor  # (K, D)
    whiten_: Tensor  # (K, D, D), unless diagonal
    scale_: Tensor  # (K, D), if diagonal
    log_det_: Tensor  # (K,)
    radius_: Tensor  # (K,), where the Gaussian tail starts
    trained_: Tensor  # (T,), classes that the network knows; the others are Gaussian
    temperature_: Tensor  # ()

    def __init__(
        self,
        *,
        max_epochs: int = 200,
        patience: int = 20,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        validation_fraction: float = 0.2,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        check_number("max_epochs", max_epochs, 0, whole=True)
        check_number("patience", patience, 0, whole=True)
        check_positive("learning_rate", learning_rate)
        check_number("batch_size", batch_size, 1, whole=True)
        check_switch("verbose", verbose)
        check_number("validation_fraction", validation_fraction, -math.inf)
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.verbose = verbose
        self.report_: Any = None
        self.network_: nn.Module | None = None
        units = "scale_" if self.diagonal else "whiten_"
        self._declare("mean_", units, "log_det_", "radius_", "trained_", "temperature_")

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
        if self.diagonal:
            self.scale_ = units.factor.to(x)
        else:
            self.whiten_ = units.whiten.to(x)
        z = standardized(x, target, units.mean, units.whiten)
        self.radius_ = tail_radius(z, target, len(units.mean))
        return z

    def _standardize(self, x: Tensor) -> Tensor:
        """Rows in units of all classes, `(B, D) -> (B, K, D)`."""
        centered = x.unsqueeze(1) - self.mean_
        return centered / self.scale_ if self.diagonal else torch.einsum("bkd,ked->bke", centered, self.whiten_)

    def _network(self) -> nn.Module:
        """An untrained network for `len(self.offset_)` features and `len(self.trained_)` classes.

        Its weights are drawn from torch's global generators, which are seeded before and restored after.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _network")

    def _loss(self, network: nn.Module, z: Tensor, label: Tensor) -> Tensor:
        """Mean loss of a batch of rows in units of their class, `(N, D), (N,) -> ()`; by default of the likelihood.

        It may draw from torch's global generators.
        """
        return -_one_per_row(network(z, label), z).mean()

    def _class_log_prob(self, z: Tensor, label: Tensor) -> Tensor:
        """Log-densities of rows in units of their class, `(N, D), (N,) -> (N,)`; by default what the network says."""
        assert self.network_ is not None
        log_prob: Tensor = self.network_(z, label)
        return log_prob

    def _train(self, z: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        """Train on rows `(N, D)` in the units of their class, whose place in `trained_` is `label`, `(N,)`.

        Returns:
            Indices of the rows that were held out.
        """
        self.network_ = self.report_ = None
        if not len(self.trained_):
            return label
        with private_rng(generator):
            network = self._network().to(z.device)
        rows, held_out = hold_out(label, self.validation_fraction, generator)
        first = rows[rank_in_class(label[rows]) < max(FEWEST_FIRST, CHUNK_ROWS // len(self.trained_))]
        with torch.no_grad(), torch.random.fork_rng():
            # Layers as ActNorm of normflows take their scale from what they see first, which in a batch may be one row.
            self._loss(network, z[first], label[first])
        self.report_ = train(
            network,
            lambda batch: self._loss(network, z[batch], label[batch]),
            rows,
            held_out,
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            generator=generator,
            verbose=self.verbose,
            description=type(self).__name__,
        )
        self.network_ = network
        return held_out

    def _build(self) -> None:
        if self.trained_ is None or not len(self.trained_):
            self.network_ = None
            return
        with torch.random.fork_rng():  # a state dict is about to replace the draws
            self.network_ = self._network().to(self.offset_).eval().requires_grad_(False)

    def _network_log_prob(self, z: Tensor) -> Tensor:
        """Log-densities in units of the trained classes, `(B, T, D) -> (B, T)`."""
        label = torch.arange(z.shape[1], device=z.device).repeat(len(z))
        rows = z.flatten(0, 1)
        return _one_per_row(self._class_log_prob(rows, label), rows).view(-1, z.shape[1])

    def _log_prob(self, x: Tensor) -> Tensor:
        chunks = x.split(max(1, CHUNK_ROWS // len(self.mean_)))
        return torch.cat([self._score(rows) for rows in chunks])

    def _score(self, x: Tensor) -> Tensor:
        z = self._standardize(x)
        log_prob = standard_normal_log_prob(z)  # (B, K)
        if len(self.trained_):
            inside, tail = gaussian_tail(z[:, self.trained_], self.radius_[self.trained_])
            log_prob = log_prob.index_copy(1, self.trained_, self._network_log_prob(inside) + tail)
        return log_prob + self.log_det_


def _one_per_row(log_prob: Any, z: Tensor) -> Tensor:
    """Log-densities as they are.

    Raises:
        ValueError: If there is not one for each row, as where the sum over features was left out.
    """
    if not isinstance(log_prob, Tensor) or log_prob.shape != (len(z),):
        got = tuple(log_prob.shape) if isinstance(log_prob, Tensor) else type(log_prob).__name__
        raise ValueError(f"the network must give one log-density per row, ({len(z)},), got {got}")
    return log_prob
