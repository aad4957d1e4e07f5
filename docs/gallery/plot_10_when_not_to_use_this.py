"""
When not to use this
====================

A label is only as good as the densities. Where they fit badly, trusting them does harm that plain mixup would not do.
"""

# %%
# Two moons. One Gaussian a class cannot bend; kernels can. Against the true classes, found by the nearest of 4,000
# clean rows:

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons
from sklearn.neighbors import KNeighborsClassifier

from genlabel_plugins import GenLabel, Mixup, classifier_accuracy, make_backend

x, target = (torch.from_numpy(array) for array in make_moons(200, noise=0.12, random_state=0))
x, truth = x.float(), KNeighborsClassifier(1).fit(*make_moons(4000, noise=0.12, random_state=1))
mixed = Mixup(2, per_sample=True, generator=torch.Generator().manual_seed(0))(x.repeat(4, 1), target.repeat(4))
other = mixed.target_i != mixed.target_j
x_mix, y_mix = mixed.x[other], mixed.y_mix[other]
known = torch.from_numpy(truth.predict(x_mix.numpy()))

fig, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True)
for axis, name in zip(axes, ("mixup", "gm", "kde"), strict=True):
    y, title = y_mix, "mixup's linear label"
    if name != "mixup":
        y = GenLabel(name, gamma=1.0).fit(x, target).relabel(x_mix, y_mix)
        held_out = classifier_accuracy(make_backend(name), x, target)
        title = f"{name!r}, itself right on {held_out:.0%} of clean rows"
    error = (y[torch.arange(len(y)), known] - 1).abs().mean()
    axis.scatter(*x.T, c=target, cmap="bwr", s=8, alpha=0.3)
    axis.scatter(*x_mix.T, c=y[:, 1], cmap="bwr", s=8)
    axis.set_title(f"{title}\nmean error of the label {error:.2f}", fontsize=9)
fig.tight_layout()

# %%
# So first ask how well the densities classify clean rows that they have not seen: ``classifier_accuracy``, or
# ``genlabel diagnose`` for the whole question. Leave mixing alone where
#
# * no density beats the largest class, or mixing does not beat none (``genlabel diagnose`` says so);
# * the head is linear, well regularized and trained to the end: labels make no difference there;
# * there are so few rows a class that a density is a guess: under about ten.
