"""
What mixup does to your labels
==============================

Three clouds in a row. A point half way between the outer two lies in the middle one, yet mixup calls it half of each.
"""

# %%
# The posterior of three class densities knows better. ``gamma`` blends the two.

import matplotlib.pyplot as plt
import torch

from genlabel_plugins import GenLabel

generator = torch.Generator().manual_seed(0)
target = torch.arange(300) % 3
x = 0.4 * torch.randn(300, 2, generator=generator) + torch.stack([2.0 * target - 2, torch.zeros(300)], 1)

lam = torch.linspace(0, 1, 101)
x_mix = torch.lerp(torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.0]), lam[:, None])
y_mix = torch.stack([lam, torch.zeros_like(lam), 1 - lam], 1)
relabeler = GenLabel("gm", gamma=1.0).fit(x, target)
y_gen = relabeler.relabel(x_mix, y_mix)

fig, (scatter, linear, genlabel) = plt.subplots(1, 3, figsize=(11, 3.2))
scatter.scatter(*x.T, c=target, cmap="brg", s=8)
scatter.set_title("three classes")
for axis, label, title in ((linear, y_mix, "mixup's label"), (genlabel, y_gen, "GenLabel's label, gamma 1")):
    for c, color in enumerate("brg"):
        axis.plot(x_mix[:, 0], label[:, c], color=color, label=f"class {c}")
    axis.set(xlabel="place between the outer classes", title=title, ylim=(-0.05, 1.05))
linear.legend()
fig.tight_layout()
