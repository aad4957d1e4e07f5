"""
imbalanced-learn
================

An over-sampler that stands where SMOTE stands, and knows how sure its new rows are of their class.
"""

# %%
# Breast cancer with few malignant rows.

import matplotlib.pyplot as plt
import pandas as pd
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_validate
from sklearn.preprocessing import StandardScaler

from genlabel_imblearn import GenLabelSampler

X, y = load_breast_cancer(return_X_y=True)
kept = [*range(60), *(y[60:] == 1).nonzero()[0] + 60]
X, y = X[kept], y[kept]
print(f"{(y == 0).sum()} malignant rows, {(y == 1).sum()} benign ones")

# %%
# ``gamma`` is the share of the densities in a new row's label; where another class is ahead there, the row is dropped.

samplers = {
    "none": "passthrough",
    "SMOTE": SMOTE(random_state=0),
    "GenLabelSampler": GenLabelSampler("gm", gamma=0.5, random_state=0),
}
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
found = {}
for name, sampler in samplers.items():
    model = make_pipeline(StandardScaler(), sampler, LogisticRegression())
    scores = cross_validate(model, X, y, cv=folds, scoring=("balanced_accuracy", "neg_log_loss"))
    found[name] = {
        "balanced accuracy": scores["test_balanced_accuracy"].mean(),
        "log-loss": -scores["test_neg_log_loss"].mean(),
    }
print(pd.DataFrame(found).T.round(3).to_string())

# %%
# Over-samplers trade the log-loss of all rows for the small class: where probabilities count, ask whether to sample at
# all. What it adds, in two of the thirty columns:

scaled = StandardScaler().fit_transform(X)
X_more, y_more = samplers["GenLabelSampler"].fit_resample(scaled, y)
fig, axis = plt.subplots(figsize=(5.5, 3.2))
for c, name in enumerate(("malignant", "benign")):
    axis.scatter(*scaled[y == c][:, :2].T, s=12, alpha=0.6, label=name)
new = X_more[len(scaled) :]
axis.scatter(*new[:, :2].T, s=12, marker="x", color="black", linewidths=0.6, label="new")
axis.set(xlabel="mean radius", ylabel="mean texture")
axis.legend()
fig.tight_layout()

# %%
# Soft labels, pipelines, ensembles, and what over-samplers do to probabilities: :doc:`/imbalanced_learn`.
