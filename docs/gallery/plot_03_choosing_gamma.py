"""
Choosing gamma
==============

``gamma`` is the trust in the densities: 0 is the host's own mixup, 1 the posterior alone. Here is what it does to a
linear classifier of wine with 60 training rows, over ten draws.
"""

# %%
# One Gaussian a class. Measured on the rows that were not drawn; the band is the standard error over draws.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedShuffleSplit

from genlabel_sklearn import GenLabelClassifier

x, y = load_wine(return_X_y=True)
splits = list(StratifiedShuffleSplit(10, train_size=60, random_state=0).split(x, y))


def loss(gamma: float, train: np.ndarray, test: np.ndarray) -> float:
    model = GenLabelClassifier("gm", gamma=gamma, random_state=0).fit(x[train], y[train])
    return log_loss(y[test], model.predict_proba(x[test]))


gammas = np.linspace(0, 1, 6)
losses = np.array([[loss(gamma, *split) for split in splits] for gamma in gammas])
mean, error = losses.mean(1), losses.std(1, ddof=1) / np.sqrt(losses.shape[1])

fig, axis = plt.subplots(figsize=(5.5, 3.5))
axis.plot(gammas, mean, "o-")
axis.fill_between(gammas, mean - error, mean + error, alpha=0.2)
axis.set(xlabel="gamma", ylabel="log-loss on held-out rows")
fig.tight_layout()

# %%
# No value is right everywhere: ``GenLabelClassifierCV`` and ``genlabel diagnose`` let the data choose.
