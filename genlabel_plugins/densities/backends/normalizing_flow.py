"""`flow`: normalizing flows, conditional on the class or one per class."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number, check_switch, warn_of_few_rows
from genlabel_plugins.densities._training import TrainingReport, hold_out, private_rng, train
from genlabel_plugins.densities.backends._class_units import standard_normal_log_prob
from genlabel_plugins.densities.network_density import NetworkDensity

Flow = Literal["nsf", "maf", "realnvp"]
Engine = Literal["normflows", "zuko"]

ROWS_PER_FEATURE = 50  # below, one Gaussian or a small mixture is often as good


class NormalizingFlow(NetworkDensity):
    r"""Flow class densities :math:`p_c(x) = N(f_c(z); 0, I)\, |\det \partial f_c / \partial z|\, |\det W_c|`.

    Rows are first whitened by the Gaussian of their class, :math:`z = W_c (x - \mu_c)`, and the invertible
    network :math:`f_c` starts as the identity: training starts from that Gaussian and keeps the state with the best
    held-out likelihood, so a flow that learns nothing falls back to it. A class with fewer than 20 rows stays
    Gaussian. Beyond 1.5 times the norm of the farthest training row the density falls off like a Gaussian,
    so that it is finite everywhere; the tail's mass is the error of its normalization.

    Args:
        flow: `"nsf"` (autoregressive rational-quadratic spline), `"maf"` (masked autoregressive affine) or
            `"realnvp"` (affine coupling).
        engine: Library of the layers, `"normflows"` or `"zuko"`.
        conditional: One network that takes the class as context, scored for all classes at once, instead of one
            network per class, scored one after another.
        n_layers: Invertible layers.
        hidden_features: Width of the networks within the layers.
        max_epochs: Passes over the training rows at most.
        patience: Epochs without a better held-out likelihood after which training stops.
        learning_rate: Step size of Adam.
        batch_size: Rows a training step.
        validation_fraction: Fraction of each class that is held out, in (0, 1).
        verbose: Show a progress bar, if tqdm is installed.

    Attributes:
        report_: How each training went; not saved.

    Raises:
        ValueError: On an option out of range.
        ModuleNotFoundError: In `fit`, if the engine is not installed.

    Example:
        >>> import warnings
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> with warnings.catch_warnings(action="ignore"):  # few rows
        ...     flow = NormalizingFlow(max_epochs=2).fit(x, torch.arange(60) % 2)
        >>> flow.log_prob(x).shape
        torch.Size([60, 2])

    Reference:
        Durkan et al., Neural Spline Flows, NeurIPS 2019; Papamakarios et al., Masked Autoregressive Flow for Density
        Estimation, NeurIPS 2017; Dinh et al., Density Estimation Using Real NVP, ICLR 2017.
    """

    def __init__(
        self,
        *,
        flow: Flow = "nsf",
        engine: Engine = "normflows",
        conditional: bool = True,
        n_layers: int = 3,
        hidden_features: int = 64,
        max_epochs: int = 200,
        patience: int = 20,
        learning_rate: float = 1e-3,
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
        if flow not in get_args(Flow):
            raise ValueError(f"flow must be one of {get_args(Flow)}, got {flow!r}")
        if engine not in get_args(Engine):
            raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
        for name, number in (("n_layers", n_layers), ("hidden_features", hidden_features)):
            check_number(name, number, 1, whole=True)
        check_switch("conditional", conditional)
        self.flow = flow
        self.engine = engine
        self.conditional = conditional
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.report_: list[TrainingReport] = []
        self.networks_ = nn.ModuleList()

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        self._warn_if_few(torch.bincount(target), x.shape[1])
        super()._fit(x, target, generator)

    def _train(self, z: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        self.report_ = []
        self.networks_ = nn.ModuleList()
        if self.conditional and len(self.trained_):
            return self._train_one(z, nn.functional.one_hot(label, len(self.trained_)).to(z.dtype), generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        held_out = [label[:0]]
        for t in range(len(self.trained_)):  # one seed for all: the order of the classes does not matter
            rows = (label == t).nonzero().squeeze(1)
            held_out.append(rows[self._train_one(z[rows], None, torch.Generator().manual_seed(seed))])
        return torch.cat(held_out)

    def _train_one(self, z: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
        """Train one network on rows `(N, D)` with contexts `(N, T)`; returns those that were held out, as indices."""
        with private_rng(generator):
            network = self._network().to(z.device)

        def loss(rows: Tensor) -> Tensor:
            return -_log_prob(network, z[rows], None if context is None else context[rows]).mean()

        label = torch.zeros_like(z[:, 0], dtype=torch.long) if context is None else context.argmax(1)
        rows, held_out = hold_out(label, self.validation_fraction, generator)
        report = train(
            network,
            loss,
            rows,
            held_out,
            max_epochs=0 if any(earlier.interrupted for earlier in self.report_) else self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            generator=generator,
            verbose=self.verbose,
            description=f"{self.engine} {self.flow}",
        )
        self.report_.append(report)
        self.networks_.append(network)
        return held_out

    def _network(self) -> nn.Module:
        """An untrained network for the shapes of the learnt buffers; draws from torch's global generators."""
        engine = import_module(f"genlabel_plugins.densities.backends._flow_{self.engine}")
        n_context = len(self.trained_) if self.conditional else 0
        network: nn.Module = engine.InvertibleNetwork(
            self.flow, len(self.offset_), n_context, self.n_layers, self.hidden_features
        )
        return network

    def _build(self) -> None:
        if self.trained_ is None:
            return
        n_networks = min(1, len(self.trained_)) if self.conditional else len(self.trained_)
        with torch.random.fork_rng():  # a state dict is about to replace the draws
            networks = nn.ModuleList(self._network() for _ in range(n_networks))
        self.networks_ = networks.to(self.offset_).eval().requires_grad_(False)

    def _network_log_prob(self, z: Tensor) -> Tensor:
        n_classes = z.shape[1]
        if not self.conditional:
            return torch.stack([_log_prob(flow, z[:, t], None) for t, flow in enumerate(self.networks_)], 1)
        context = torch.eye(n_classes, dtype=z.dtype, device=z.device).repeat(len(z), 1)  # (B*T, T)
        return _log_prob(self.networks_[0], z.flatten(0, 1), context).view(-1, n_classes)

    def _warn_if_few(self, count: Tensor, n_features: int) -> None:
        few = count < ROWS_PER_FEATURE * n_features
        if bool(few.any()):
            warn_of_few_rows(
                f"{int(few.sum())} of {len(count)} classes have fewer than {ROWS_PER_FEATURE} rows per feature (the "
                f"smallest has {int(count.min())} rows of {n_features} features), often too few for a flow to be "
                "worth it: compare with backend 'gm'",
                stacklevel=2,
            )


def _log_prob(network: nn.Module, z: Tensor, context: Tensor | None) -> Tensor:
    noise, log_det = network(z, context)  # (N, D), (N,)
    log_prob: Tensor = standard_normal_log_prob(noise) + log_det
    return log_prob
