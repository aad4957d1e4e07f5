"""`vae`: the importance-weighted bound of a class-conditional variational autoencoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number
from genlabel_plugins._state import as_rows
from genlabel_plugins.densities._training import TrainingReport
from genlabel_plugins.densities.backends._class_units import MIN_ROWS, standard_normal_log_prob
from genlabel_plugins.densities.backends._quasi_random import normal_draws
from genlabel_plugins.densities.network_density import NetworkDensity

CHUNK_POINTS = 65_536  # decoded points that are held at once
TRAINING_DRAWS = 8  # importance samples in a training step
MIN_LOG_SCALE = -5.0  # of the decoder, in units of the class: a constant feature has no density


class VAE(NetworkDensity):
    r"""Bound :math:`\log \frac{1}{S} \sum_s \frac{p_c(x \mid w_s)\, p(w_s)}{q_c(w_s \mid x)} \le \log p_c(x)`.

    One network for all classes takes the class as input; the decoder is Gaussian, with a learnt variance for each
    class and feature. The S draws are fixed when fitting, so that the bound is a function of x alone; it tightens
    as S grows. A class with fewer than 20 rows is a Gaussian with independent features. Beyond 1.5 times the norm
    of the farthest training row, in units of the class, the bound falls off like a Gaussian.

    Args:
        latent_dim: Dimension L of the latent space; superfluous ones stay unused.
        hidden_features: Width of the two hidden layers of encoder and decoder.
        n_samples: Draws S of the bound.
        max_epochs: Passes over the training rows at most.
        patience: Epochs without a better held-out bound after which training stops.
        learning_rate: Step size of Adam.
        batch_size: Rows a training step.
        validation_fraction: Fraction of each class that is held out, in (0, 1).
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        report_: How the training went, None if no class has enough rows; not saved.

    Raises:
        ValueError: On an option out of range.

    Example:
        >>> x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
        >>> vae = VAE(latent_dim=2, max_epochs=2).fit(x, torch.arange(60) % 2)
        >>> vae.log_prob(x).shape, vae.encode(x, torch.arange(60) % 2).shape
        (torch.Size([60, 2]), torch.Size([60, 2]))

    Reference:
        Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.
    """

    normalized = False  # a lower bound
    diagonal = True

    draws_: Tensor  # (S, L), standard normal

    def __init__(
        self,
        *,
        latent_dim: int = 4,
        hidden_features: int = 64,
        n_samples: int = 64,
        max_epochs: int = 300,
        patience: int = 50,
        learning_rate: float = 2e-3,
        batch_size: int = 128,
        validation_fraction: float = 0.2,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs,
            patience=patience,
            learning_rate=learning_rate,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            verbose=verbose,
        )
        sizes = {"latent_dim": latent_dim, "hidden_features": hidden_features, "n_samples": n_samples}
        for name, number in sizes.items():
            check_number(name, number, 1, whole=True)
        self.latent_dim = latent_dim
        self.hidden_features = hidden_features
        self.n_samples = n_samples
        self.report_: TrainingReport | None
        self._declare("draws_")

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        """Mean of the latent code of rows as members of classes, `(B, *), (B,) -> (B, L)`; differentiable in x.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If a class has no trained network.
        """
        label = self._label(c)
        rows = (as_rows(x) - self.offset_).to(self.offset_.dtype)
        z = (rows - self.mean_[self.trained_[label]]) / self.scale_[self.trained_[label]]
        return self._autoencoder.encode(z, self._autoencoder.seen[label])[0]

    def decode(self, w: Tensor, c: Tensor) -> Tensor:
        """Mean of the rows of classes at latent codes, `(B, L), (B,) -> (B, D)`; differentiable in w.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If a class has no trained network.
        """
        label = self._label(c)
        z: Tensor = self._autoencoder.decode(w, self._autoencoder.known[label])
        return z * self.scale_[self.trained_[label]] + self.mean_[self.trained_[label]] + self.offset_

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        self.draws_ = normal_draws(self.n_samples, self.latent_dim, generator).to(x)
        super()._fit(x, target, generator)

    def _network(self) -> Autoencoder:
        return Autoencoder(len(self.offset_), len(self.trained_), self.latent_dim, self.hidden_features)

    def _loss(self, network: nn.Module, z: Tensor, label: Tensor) -> Tensor:
        draws = torch.randn(len(z), TRAINING_DRAWS, self.latent_dim, dtype=z.dtype, device=z.device)
        bound: Tensor = network(z, label, draws)
        return -bound.mean()

    def _log_prob(self, x: Tensor) -> Tensor:
        chunks = x.split(max(1, CHUNK_POINTS // (len(self.mean_) * self.n_samples)))
        return torch.cat([self._score(rows) for rows in chunks])

    def _class_log_prob(self, z: Tensor, label: Tensor) -> Tensor:
        bound: Tensor = self._autoencoder(z, label, self.draws_)
        return bound

    @property
    def _autoencoder(self) -> Autoencoder:
        assert isinstance(self.network_, Autoencoder)
        return self.network_

    def _label(self, c: Tensor) -> Tensor:
        """Positions of classes `(B,)` among those that the network knows."""
        self.check_fitted()
        known = self.present_[self.trained_]
        # Where every class has one, no device is waited for.
        if len(known) < self.n_classes and not bool(torch.isin(c, known).all()):
            given = c.unique().tolist()
            raise ValueError(
                f"c must hold classes with at least {MIN_ROWS} training rows, {known.tolist()}, got {given}"
            )
        return torch.searchsorted(known, c.contiguous())


class Autoencoder(nn.Module):
    """Encoder and decoder that take the class as input, in units of the class.

    Args:
        n_features: Features D.
        n_classes: Classes T.
        latent_dim: Latent dimension L.
        hidden_features: Width H of the hidden layers.
    """

    def __init__(self, n_features: int, n_classes: int, latent_dim: int, hidden_features: int) -> None:
        super().__init__()
        self.encode_in = nn.Linear(n_features, hidden_features)
        self.encode_out = _head(hidden_features, 2 * latent_dim)
        self.decode_in = nn.Linear(latent_dim, hidden_features)
        self.decode_out = _head(hidden_features, n_features)
        # Classes start equal: their numbering is arbitrary.
        self.seen = nn.Parameter(torch.zeros(n_classes, hidden_features))
        self.known = nn.Parameter(torch.zeros(n_classes, hidden_features))
        # A decoder that starts as wide as the data leaves the code unused, and stays there (posterior collapse).
        self.log_scale = nn.Parameter(torch.full((n_classes, n_features), -1.0))

    def encode(self, z: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of the code, `(*, D), (*, H) -> (*, L), (*, L)`."""
        mean, log_scale = self.encode_out(self.encode_in(z) + seen).chunk(2, -1)
        return mean, log_scale.clamp(-7, 2)

    def decode(self, w: Tensor, known: Tensor) -> Tensor:
        """Mean of the row, `(*, L), (*, H) -> (*, D)`."""
        z: Tensor = self.decode_out(self.decode_in(w) + known)
        return z

    def forward(self, z: Tensor, label: Tensor, draws: Tensor) -> Tensor:
        """Importance-weighted bound, `(*, D), (*,), (*, S, L) -> (*)`."""
        mean, log_scale = self.encode(z, self.seen[label])
        w = mean.unsqueeze(-2) + log_scale.exp().unsqueeze(-2) * draws  # (*, S, L)
        spread = self.log_scale[label].clamp(min=MIN_LOG_SCALE).unsqueeze(-2)  # (*, 1, D)
        residual = (z.unsqueeze(-2) - self.decode(w, self.known[label].unsqueeze(-2))) * (-spread).exp()
        log_joint = standard_normal_log_prob(residual) - spread.sum(-1) + standard_normal_log_prob(w)  # (*, S)
        log_proposal = standard_normal_log_prob(draws) - log_scale.sum(-1, keepdim=True)
        bound: Tensor = (log_joint - log_proposal).logsumexp(-1) - math.log(draws.shape[-2])
        return bound


def _head(hidden_features: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.SiLU(), nn.Linear(hidden_features, hidden_features), nn.SiLU(), nn.Linear(hidden_features, n_out)
    )
