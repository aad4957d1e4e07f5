"""
Which classes intrude
=====================

A mixed point *intrudes* when its nearest training row belongs to a third class. Where that is common, mixup's label
is wrong by construction, and a correction has something to do.
"""

# %%
# Digits of 8 x 8 pixels, mixed within each pair of classes. A cell says how often the mixture of that row's and that
# column's digit looks like something else.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from genlabel_plugins import intrusion_rates

x, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
rates = intrusion_rates(x.float(), target, generator=torch.Generator().manual_seed(0))

fig, axis = plt.subplots(figsize=(5, 4.2))
picture = axis.imshow(100 * rates.rate, cmap="viridis")
axis.set(xticks=range(10), yticks=range(10), title=f"mixtures that look like a third digit: {rates.overall:.1%}")
fig.colorbar(picture, label="%")
fig.tight_layout()
