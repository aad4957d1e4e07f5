"""AdaMixUp: mixing weights that a network chooses, so that mixed rows can be told from real ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from genlabel_plugins.mixing import interpolate, one_hot

WIDTH = 64  # of the hidden layer of each of the two networks


class AdaMixUp(nn.Module):
    r"""The loss of AdaMixUp, with its policy network and its intrusion discriminator.

    The policy sees both rows and gates: of :math:`(a, \Delta, \cdot) = \operatorname{softmax}(\pi(x_i, x_j))` it takes
    the interval :math:`[a, a + \Delta]`, from which :math:`\lambda = a + \Delta\,\epsilon` with uniform
    :math:`\epsilon` is drawn. The discriminator tells real rows from mixed ones. All three networks descend on

    .. math:: L = L(x, y) + L(x_\lambda, y_\lambda) + L_\text{intr},

    the last being the log-loss of the discriminator: the policy learns weights at which mixed rows look unlike real
    ones.

    Args:
        n_features: Features D of a row, after flattening.
        n_classes: Number of classes C.
        generator: Source of randomness on the CPU for pairs and weights.

    Example:
        >>> adamixup = AdaMixUp(2, 3)
        >>> gate = adamixup.gate(torch.zeros(4, 2), torch.ones(4, 2))  # (B, 2), ends of the intervals
        >>> bool((gate[:, 0] > 0).all() and (gate[:, 1] < 1).all() and (gate[:, 0] < gate[:, 1]).all())
        True

    Reference:
        Guo et al., MixUp as Locally Linear Out-Of-Manifold Regularization, AAAI 2019.
    """

    def __init__(self, n_features: int, n_classes: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.generator = generator
        self.policy = nn.Sequential(nn.Linear(2 * n_features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
        self.discriminator = nn.Sequential(nn.Linear(n_features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def gate(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        """Ends of the interval of weights of each pair, `(B, *), (B, *) -> (B, 2)`."""
        share: Tensor = self.policy(torch.cat([x_i.flatten(1), x_j.flatten(1)], 1)).softmax(1)
        return share[:, :2].cumsum(1)

    def forward(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """The loss on a batch of inputs `(B, *)` and class indices `(B,)`."""
        partner = torch.randperm(len(x), generator=self.generator)
        low, high = self.gate(x, x[partner]).unbind(1)
        epsilon = torch.rand(len(x), generator=self.generator, dtype=x.dtype)
        lam = low + (high - low) * epsilon
        x_mix = interpolate(x, x[partner], lam)
        y, share = one_hot(target, self.n_classes, x), lam[:, None]
        y_mix = share * y + (1 - share) * y[partner]
        both = self.discriminator(torch.cat([x, x_mix]).flatten(1)).squeeze(1)
        real = torch.cat([torch.ones_like(lam), torch.zeros_like(lam)])
        loss: Tensor = (
            cross_entropy(model(x), target)
            + cross_entropy(model(x_mix), y_mix)
            + binary_cross_entropy_with_logits(both, real)
        )
        return loss
