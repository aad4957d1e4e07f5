"""Label policies: what a mixed input is called. Each maps a `Mixed` batch to soft labels `(B, C)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from genlabel_plugins._checks import check_labels, check_positive, check_relabels, check_tensor
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.mixing.inputs import Inputs, one_hot
from genlabel_plugins.mixing.intrusion import TrainingSamples
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.relabeling import Relabeling, shows_mixture

LabelPolicy: TypeAlias = Callable[[Mixed], Tensor]


def linear_label(mixed: Mixed) -> Tensor:
    r"""Label of mixup, :math:`\lambda y_i + (1 - \lambda) y_j`, shape `(B, C)`."""
    return mixed.y_mix


class LogisticLabel:
    r"""Label that turns from one class to the other in the middle, as the posterior of two Gaussians does.

    .. math:: \rho\, y_i + (1 - \rho)\, y_j, \qquad \rho = \frac{1}{1 + \exp(-(\lambda - 1/2) / \sigma)}

    Args:
        sigma: Width of the turn; a small one gives the class of the nearer end.

    Raises:
        ValueError: If `sigma` is not positive.

    Example:
        >>> ends = {"x": torch.zeros(1, 1), "y_mix": torch.zeros(1, 2), "partner": torch.tensor([0])}
        >>> pair = {"target_i": torch.tensor([0]), "target_j": torch.tensor([1]), "lam": torch.tensor([0.6])}
        >>> LogisticLabel(sigma=0.1)(Mixed(**ends, **pair))
        tensor([[0.7311, 0.2689]])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 3.2.
    """

    def __init__(self, sigma: float) -> None:
        check_positive("sigma", sigma)
        self.sigma = sigma

    def __call__(self, mixed: Mixed) -> Tensor:
        """Labels of a mixed batch, shape `(B, C)`."""
        rho = torch.sigmoid((mixed.lam - 0.5) / self.sigma)[:, None]
        y_i, y_j = (one_hot(t, mixed.y_mix.shape[1], mixed.y_mix) for t in (mixed.target_i, mixed.target_j))
        return torch.lerp(y_j, y_i, rho)

    def __repr__(self) -> str:
        return f"LogisticLabel(sigma={self.sigma})"


class NearestLabel(nn.Module):
    """Label of the nearest training sample, whatever was mixed; equally near ones share.

    Args:
        x: Training inputs, shape `(N, *)`.
        target: Their classes, shape `(N,)`.
    """

    def __init__(self, x: Inputs, target: Tensor) -> None:
        super().__init__()
        self.samples = TrainingSamples(x, target)

    def forward(self, mixed: Mixed) -> Tensor:
        """Labels of a mixed batch, shape `(B, C)`."""
        share = self.samples.class_share(mixed.x).to(torch.promote_types(mixed.y_mix.dtype, torch.float32))
        return functional.pad(share, (0, mixed.y_mix.shape[1] - share.shape[1]))


class PosteriorLabel(nn.Module):
    """Label of GenLabel: the posterior of class-conditional densities, blended with the linear label.

    Rows that were not mixed keep their label. `GenLabel(..., top_k=2)` keeps the two most likely classes (Algorithm 3).

    Args:
        relabeler: Fitted relabeler, an object with `relabel(x, y_mix)`, or a `Relabeling`.
        embed: Callable from inputs to the features `(B, D)` that the relabeler was fitted on (Algorithm 2); called
            without gradient. By default the inputs themselves.
    """

    def __init__(self, relabeler: Any, embed: Callable[[Any], Tensor] | None = None) -> None:
        super().__init__()
        if not isinstance(relabeler, Relabeling):
            check_relabels(relabeler)
        if embed is not None and not callable(embed):
            raise TypeError(f"embed must be callable or None, got {embed!r}")
        self.relabeler = relabeler
        self.embed = embed
        self._checked = False  # the first labels are; a check waits for the device

    def forward(self, mixed: Mixed) -> Tensor:
        """Labels of a mixed batch, shape `(B, C)`."""
        parents = None
        if self.wants_parents and mixed.clean is not None:
            parents = mixed.parents(self.features(mixed.clean))
        return self.relabel(mixed.x, mixed.y_mix, mixed.is_mixed, parents)

    @property
    def wants_parents(self) -> bool:
        """Whether the relabeler leaves out the rows that a mixed one was made of."""
        return bool(getattr(self.relabeler, "wants_parents", False))

    def refuse_parents(self, why: str) -> None:
        """Raise `ValueError` if the relabeler leaves parents out, which cannot be known for the reason given."""
        if self.wants_parents:
            raise ValueError(f"leave_parents_out and cross_fit need the parents of mixed rows, but {why}")

    @torch.no_grad()
    def observe(self, x: Any, target: Tensor) -> None:
        """Show clean inputs `(B, *)` and their classes `(B,)` to a `Relabeling` that wants to see them."""
        if isinstance(self.relabeler, Relabeling) and self.relabeler.wants_clean:
            self.relabeler.observe(self.features(x), target)

    @torch.no_grad()
    def relabel(self, x_mix: Any, y_mix: Tensor, mixed: Tensor | None = None, parents: Parents | None = None) -> Tensor:
        """Labels of mixed inputs, `(B, *), (B, C) -> (B, C)`.

        Args:
            x_mix: Mixed inputs, shape `(B, *)`.
            y_mix: Mixed labels, shape `(B, C)`.
            mixed: Which rows are mixtures, shape `(B,)`; by default those whose label shows two classes.
            parents: The rows that each was made of, for a relabeler that leaves them out.

        Raises:
            ValueError: For a mapping of several inputs without `embed`, or if the first labels are no probabilities.
        """
        features = self.features(x_mix)
        if isinstance(self.relabeler, Relabeling):
            return self.relabeler.label(features, y_mix, mixed, parents)
        if not self._checked:
            check_labels(y_mix)
            self._checked = True
        y_mix = y_mix.to(torch.promote_types(y_mix.dtype, torch.float32))
        mixed = shows_mixture(y_mix) if mixed is None else mixed
        known = {"parents": parents} if self.wants_parents else {}
        return torch.where(mixed[:, None], self.relabeler.relabel(features, y_mix, **known), y_mix)

    @torch.no_grad()
    def features(self, x: Any) -> Tensor:
        """Features of inputs as the relabeler knows them, `(B, *) -> (B, D)`."""
        features = x if self.embed is None else self.embed(x)
        if isinstance(features, Mapping):
            raise ValueError(f"embed must make one tensor of the inputs {sorted(features)}, got {self.embed}")
        check_tensor("x" if self.embed is None else "features", features)
        return features
