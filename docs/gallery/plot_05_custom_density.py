"""
A density of your own
=====================

Any density with a log-probability can label. Here each class is a Laplace distribution, which one outlier cannot pull
away.
"""

# %%
# ``PerClass`` lifts a density of one class to all; ``check_relabeler`` holds it to the contract of the built-in ones.

import matplotlib.pyplot as plt
import torch
from torch.distributions import Independent, Laplace

from genlabel_plugins import GenLabel, PerClass, register_backend
from genlabel_plugins.testing import check_relabeler


@register_backend("laplace")
class LaplaceDensity(PerClass):
    """Independent Laplace features about the median."""

    def fit_class(self, x):
        median = x.median(0).values
        spread = (x - median).abs().mean(0)
        return Independent(Laplace(median, spread.clamp(min=float(spread.max()) * 1e-3 + 1e-12)), 1)


check_relabeler("laplace")

# %%
# One stray row of the blue class far to the right moves the Gaussian's boundary, not the Laplace density's.

generator = torch.Generator().manual_seed(3)
target = torch.arange(40) % 2
x = 0.6 * torch.randn(40, 2, generator=generator) + torch.stack([3.0 * target, torch.zeros(40)], 1)
x[0] = torch.tensor([9.0, 0.5])

side = torch.linspace(-3, 10, 131)
grid = torch.cartesian_prod(side, torch.linspace(-4, 4, 81))
fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
for axis, backend in zip(axes, ("gm", "laplace"), strict=True):
    posterior = GenLabel(backend).fit(x, target).posterior(grid)[:, 1].view(131, 81)
    axis.contourf(side, torch.linspace(-4, 4, 81), posterior.T, levels=10, cmap="bwr", alpha=0.5)
    axis.scatter(*x.T, c=target, cmap="bwr", edgecolor="k", s=20)
    axis.set_title(f"posterior by {backend!r}")
fig.tight_layout()
