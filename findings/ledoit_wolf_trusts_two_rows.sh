#!/usr/bin/env bash
# scikit-learn 1.9.1: LedoitWolf on two rows shrinks by 0 (1e-16): it returns the sample covariance of rank one as it is, where
# three rows of the same numbers are shrunk by 0.32 and OAS shrinks the two rows by 0.74. With two rows the centered rows are
# mirror images, their products do not vary, and the estimate of the covariance's own error is zero.
# Consequence: the automatic shrinkage is silent just where it is needed most, and the covariance stays singular.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "scikit-learn==1.9.1"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from sklearn.covariance import OAS, LedoitWolf

for n_rows in (2, 3, 4, 6):
    x = np.random.RandomState(1).randn(n_rows, 10)
    ledoit_wolf, oas = LedoitWolf().fit(x), OAS().fit(x)
    rank = np.linalg.matrix_rank(ledoit_wolf.covariance_, tol=1e-8)
    print(f"{n_rows} rows of 10 columns: LedoitWolf {ledoit_wolf.shrinkage_:.3f} (rank {rank}), OAS {oas.shrinkage_:.3f}")
    assert (ledoit_wolf.shrinkage_ < 1e-9) == (n_rows == 2)
    assert (rank == 1) == (n_rows == 2)
    assert oas.shrinkage_ > 0.7
PYTHON
