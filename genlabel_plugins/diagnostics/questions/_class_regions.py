"""Decision regions of the generative classifier and of logistic regression under each scheme, for two columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.mixing.mixers import Mixup
from genlabel_plugins.mixing.pairing import flat_rows
from genlabel_plugins.relabeler import GenLabel

GRID = 80  # points a side
N_MIXED = 20  # mixed rows for each row
WEIGHT_DECAY = 1e-4


class ClassRegions(NamedTuple):
    """Posterior of one classifier over the plane.

    Attributes:
        name: Of the classifier.
        posterior: Shape `(GRID, GRID, C)`, from the lower left corner, the vertical axis first.
    """

    name: str
    posterior: Tensor


def class_regions(
    x: Tensor, target: Tensor, relabeler: GenLabel, *, low: Tensor, high: Tensor, generator: torch.Generator
) -> tuple[ClassRegions, ...]:
    """Posteriors over a grid of two columns.

    Args:
        x: Rows, shape `(N, 2)`.
        target: Class indices, shape `(N,)`.
        relabeler: Fitted.
        low: Lower left corner, shape `(2,)`.
        high: Upper right corner, shape `(2,)`.
        generator: Source of randomness.

    Example:
        >>> x, target = torch.randn(40, 2), torch.arange(40) % 2
        >>> ends = {"low": x.amin(0), "high": x.amax(0)}
        >>> regions = class_regions(x, target, GenLabel("gm").fit(x, target), **ends, generator=torch.Generator())
        >>> [region.name for region in regions]
        ['densities alone', 'no mixing', 'mixup', 'GenLabel, gamma 1']
    """
    steps = torch.linspace(0, 1, GRID)[:, None]
    across, up = (low + steps * (high - low)).T
    vertical, horizontal = torch.meshgrid(up, across, indexing="ij")
    grid = torch.stack([horizontal, vertical], -1).view(-1, 2)
    n_classes = int(target.max()) + 1
    mixed = Mixup(n_classes, per_sample=True, generator=generator)(x.repeat(N_MIXED, 1), target.repeat(N_MIXED))
    x_mix = flat_rows(mixed.x)
    lines = {
        "no mixing": logistic_posterior(x, one_hot(target, n_classes, x), grid),
        "mixup": logistic_posterior(x_mix, mixed.y_mix, grid),
        "GenLabel, gamma 1": logistic_posterior(x_mix, relabeler.relabel(x_mix, mixed.y_mix, gamma=1.0), grid),
    }
    posteriors = {"densities alone": relabeler.posterior(grid), **lines}
    return tuple(ClassRegions(name, posterior.view(GRID, GRID, -1)) for name, posterior in posteriors.items())


def logistic_posterior(x: Tensor, y: Tensor, x_test: Tensor) -> Tensor:
    """Posterior of a logistic regression on soft labels, `(N, D), (N, C), (B, D) -> (B, C)`.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> logistic_posterior(x, torch.tensor([[0.75, 0.25], [0.25, 0.75]]), x).round(decimals=2)
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """
    weight = torch.zeros(x.shape[1] + 1, y.shape[1], requires_grad=True)
    inputs, tested = (F.pad(rows, (0, 1), value=1.0) for rows in (x, x_test))
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weight, y) + WEIGHT_DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return (tested @ weight.detach()).softmax(1)
