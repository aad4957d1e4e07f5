#!/usr/bin/env bash
# imbalanced-learn 0.14.2: SVMSMOTE and BorderlineSMOTE make fewer rows than asked, without a warning. Of 30 rows against 10 that
# lie far away SVMSMOTE makes 8 of 20 and BorderlineSMOTE none: the classes stay 30 to 18, and 30 to 10. SMOTE makes all 20.
# SVMSMOTE makes a random share of the rows, Beta(10, 10), from support vectors among rows of other classes and the rest from
# safe ones, and drops the share of a kind that has none; BorderlineSMOTE hands the table back where no row is in danger.
# Consequence: a pipeline "balanced" by either may not be, and only counting the rows tells.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "imbalanced-learn==0.14.2" "scikit-learn==1.9.1"
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
from imblearn.over_sampling import SMOTE, SVMSMOTE, BorderlineSMOTE

rng = np.random.RandomState(0)
X, y = np.concatenate([rng.randn(30, 2), rng.randn(10, 2) + 20]), np.repeat([0, 1], [30, 10])
for sampler, seen in ((SMOTE, 20), (SVMSMOTE, 8), (BorderlineSMOTE, 0)):
    made = len(sampler(random_state=0).fit_resample(X, y)[0]) - len(X)
    print(f"{sampler.__name__}: {made} rows of 20 asked")
    assert made == seen, (made, seen)
PYTHON
