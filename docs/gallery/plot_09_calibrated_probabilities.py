"""
Calibrated posteriors
=====================

Densities that are right as classifiers are often far too sure of it, since each feature adds its log-ratio as if it
were news. One number, the temperature, mends most of that; ``calibrate`` finds it on held-out folds of the training
rows.
"""

# %%
# Digits, 150 training rows. Of the rows whose class was given some probability, how many were of that class?

import warnings

import matplotlib.pyplot as plt
import torch
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from genlabel_plugins import GenLabel

warnings.filterwarnings("ignore", message=".*no more rows than")  # true, and no surprise here
x, target = load_digits(return_X_y=True)
parts = train_test_split(x / 16, target, train_size=150, stratify=target, random_state=0)
x_train, x_test, train_target, test_target = (torch.from_numpy(part) for part in parts)

relabeler = GenLabel("kde").fit(x_train.float(), train_target)
fig, axis = plt.subplots(figsize=(4.5, 4))
axis.plot([0, 1], [0, 1], color="gray", linewidth=1)
for _ in range(2):
    confidence, predicted = relabeler.posterior(x_test.float()).max(1)
    loss = log_loss(test_target, relabeler.posterior(x_test))
    share, given = calibration_curve(predicted == test_target, confidence, n_bins=6, strategy="quantile")
    axis.plot(given, share, "o-", label=f"temperature {relabeler.temperature:.1f}: log-loss {loss:.2f}")
    relabeler.calibrate(x_train.float(), train_target)
axis.set(xlabel="probability given to the likeliest class", ylabel="share of rows of that class")
axis.legend(fontsize=8)
fig.tight_layout()
