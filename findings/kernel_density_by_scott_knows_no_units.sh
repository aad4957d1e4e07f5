#!/usr/bin/env bash
# scikit-learn 1.9.1: KernelDensity(bandwidth="scott") and "silverman" take n ** (-1 / (d + 4)) and its like as the bandwidth
# itself, where the rules of that name, and scipy 1.17.1, multiply it by the spread of the data. Iris measured in metres in place of
# centimetres: the densest of three class densities is that of the right class for 26.7 % of held-out rows in place of 96.0 %, and
# the log-density of the right class lies 17.5 nats lower. scipy's are the same in every unit.
# Consequence: the unit decides over the result, in silence, and among columns of different units the largest alone counts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from scipy.stats import gaussian_kde
from sklearn.datasets import load_iris
from sklearn.neighbors import KernelDensity

X, y = load_iris(return_X_y=True)
order = np.random.RandomState(0).permutation(len(X))
train, test = order[:75], order[75:]
for unit, seen in ((1.0, (0.960, -3.00)), (0.01, (0.267, -20.50))):
    z, n_features = X * unit, X.shape[1]
    learns = np.stack([KernelDensity(bandwidth="scott").fit(z[train][y[train] == c]).score_samples(z[test]) for c in range(3)])
    scipys = np.stack([gaussian_kde(z[train][y[train] == c].T, "scott").logpdf(z[test].T) for c in range(3)])
    shift = n_features * np.log(unit)  # what a change of units does to a density
    for name, score, expected in (("scikit-learn", learns, seen), ("scipy", scipys, (0.960, -0.97))):
        right = np.mean(score.argmax(0) == y[test])
        own = score[y[test], np.arange(len(test))].mean() + shift
        print(f"unit {unit:g}, {name}: right class densest {right:.3f}, its log-density {own:.2f}")
        assert np.allclose((right, own), expected, atol=0.006), (right, own)
PYTHON
