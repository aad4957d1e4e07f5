"""
Collapse, and how to see it
===========================

Under Algorithm 3 the densities live in the features of the network that they teach. With ``gamma=1`` and no clean
rows in the loss, network and densities can agree on nonsense: all rows get the class that all rows get.
"""

# %%
# Three ways to train one network on scikit-learn's digits. ``report()`` says how far the densities, as a classifier
# of clean rows, are right; training loops log it, and a warning comes when it falls (silenced here).

import warnings

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from genlabel_plugins import GenLabelLoss, HeadFeatures, LabeledMix, Mixup, Relabeling

x, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
x, target = x.float()[:600] / 16, target[:600]
warnings.filterwarnings("ignore", message="GenLabel's labels degenerate")


def curve(gamma: float, keep_clean: bool) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))
    mix = LabeledMix(Mixup(10), keep_clean=keep_clean)
    loss = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(model, "4"), Relabeling(10, gamma=gamma))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    clean_accuracy = []
    for _ in range(25):
        for rows in torch.randperm(len(x)).split(100):
            x_mix, y = mix(x[rows], target[rows])
            optimizer.zero_grad()
            loss(model(x_mix), y).backward()
            optimizer.step()
        clean_accuracy.append(float(loss.report()["clean_accuracy"]))
    return clean_accuracy


fig, axis = plt.subplots(figsize=(5.5, 3.5))
for gamma, keep_clean in ((1.0, False), (0.5, False), (0.5, True)):
    axis.plot(curve(gamma, keep_clean), label=f"gamma {gamma:g}{', clean rows kept' if keep_clean else ''}")
axis.set(xlabel="epoch", ylabel="accuracy of the densities", ylim=(0, 1.02))
axis.legend()
fig.tight_layout()
