"""
Generative mixing
=================

Interpolation decides where a mixed point lies, and its label follows. Generative mixing turns that round: draw
``lam``, then find the point on the way between two rows at which the densities themselves give that ratio.
"""

# %%
# Nine Gaussian classes. Mixed points are colored by their most likely class.

import matplotlib.pyplot as plt
import torch

from genlabel_plugins import GenerativeMixup, GenLabel, Mixup, RatioSearch, make_backend

side = torch.tensor([-10.0, 0.0, 10.0])
target = torch.arange(9).repeat_interleave(100)
x = torch.cartesian_prod(side, side)[target] + torch.randn(900, 2, generator=torch.Generator().manual_seed(0))
density = make_backend("gm").fit(x, target)
rows = torch.randint(900, (1200,), generator=torch.Generator().manual_seed(1))

mixed = Mixup(9, per_sample=True, generator=torch.Generator().manual_seed(0))(x[rows], target[rows])
y_gen = GenLabel(density, gamma=1.0).relabel(mixed.x, mixed.y_mix)
generated = GenerativeMixup(RatioSearch(density), generator=torch.Generator().manual_seed(0))(x[rows], target[rows])

fig, axes = plt.subplots(1, 3, figsize=(12, 4), sharex=True, sharey=True)
for axis, points, label, title in (
    (axes[0], mixed.x, mixed.y_mix, "mixup, linear label"),
    (axes[1], mixed.x, y_gen, "mixup, GenLabel"),
    (axes[2], generated.x, generated.y_mix, "generative mixing"),
):
    axis.scatter(*points.T, c=label.argmax(1), cmap="Set1", vmin=0, vmax=8, s=6)
    axis.set(title=title, xticks=[], yticks=[], aspect="equal")
fig.tight_layout()
