"""
Plain PyTorch
=============

A relabeler, a mixer, and a loop that you own: torchvision's transforms, loaders and Accelerate take the same objects.
"""

# %%
# Fit the densities once, on clean training rows, in a space where they mean something.

import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genlabel_plugins import BatchMix, GenLabel, GenLabelMix

x, target = (torch.from_numpy(array) for array in load_iris(return_X_y=True))
x = ((x - x.mean(0)) / x.std(0)).float()
relabeler = GenLabel("gm", gamma=0.5).fit(x, target)

# %%
# In the loop, on the device, between the batch and the model:

generator = torch.Generator().manual_seed(0)
mix = GenLabelMix(relabeler, alpha=1.0, keep_clean=True, generator=generator)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
for _ in range(20):
    for rows, classes in DataLoader(TensorDataset(x, target), batch_size=50, shuffle=True):
        x_mix, y = mix(rows, classes)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x_mix), y).backward()
        optimizer.step()
print(f"loss on clean rows: {nn.functional.cross_entropy(model(x), target):.3f}")

# %%
# Or inside the loader, in its workers:

loader = DataLoader(TensorDataset(x, target), batch_size=50, collate_fn=BatchMix(GenLabelMix(relabeler)))
x_mix, y = next(iter(loader))
print(x_mix.shape, y.shape, y.sum(1).unique())

# %%
# Features of the network in training, other mixers and labels, saving and resuming: :doc:`/mixing`.
