"""
Densities in a frozen latent space
==================================

Pixels are no place for a Gaussian; the features of a trained network are. Algorithm 2 freezes a network, fits the
densities to its features, and labels mixed images there, while the images themselves are mixed as ever.
"""

# %%
# A small network learns 300 of scikit-learn's digits. How well do Gaussians classify held-out digits, by pixels and
# by features?

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from genlabel_plugins import GenLabel, GenLabelMix

x, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
x, x_test, target, target_test = x.float()[:300] / 16, x.float()[300:] / 16, target[:300], target[300:]
torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
model = nn.Sequential(trunk, nn.ReLU(), nn.Linear(16, 10))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(150):
    for rows in torch.randperm(300).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), target[rows]).backward()
        optimizer.step()
trunk.requires_grad_(False)

pixels = GenLabel("gm", gamma=1.0).fit(x, target)
features = GenLabel("gm", gamma=1.0).fit(trunk(x), target)
for name, posterior in (("pixels", pixels.posterior(x_test)), ("features", features.posterior(trunk(x_test)))):
    print(f"Gaussians of {name}: {(posterior.argmax(1) == target_test).float().mean():.1%} of held-out digits")

# %%
# ``embed`` is all that a mixer needs to know of it. Six mixtures on which the two disagree most:

mix = GenLabelMix(features, embed=trunk, alpha=8.0, per_sample=True, generator=torch.Generator().manual_seed(0))
x_mix, y = mix(x, target)
y_pixels = pixels.posterior(x_mix)
differ = (y - y_pixels).abs().sum(1).argsort(descending=True)[:6]
x_mix, y, y_pixels = x_mix[differ], y[differ], y_pixels[differ]
fig, axes = plt.subplots(2, 6, figsize=(11, 3.4), height_ratios=(1.4, 1))
for column in range(6):
    axes[0, column].imshow(x_mix[column].view(8, 8), cmap="gray_r")
    axes[0, column].axis("off")
    axes[1, column].bar(range(10), y[column], color="tab:blue", label="features")
    axes[1, column].step(range(10), y_pixels[column], where="mid", color="tab:orange", label="pixels")
    axes[1, column].set(ylim=(0, 1.05), xticks=range(10))
axes[1, 0].legend(fontsize=7)
fig.tight_layout()
