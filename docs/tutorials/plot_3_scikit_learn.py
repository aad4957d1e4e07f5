"""
scikit-learn
============

A classifier in place of ``LogisticRegression``, and one that asks the data whether and how to mix.
"""

# %%
# ``GenLabelClassifier`` standardizes, mixes, relabels and trains; everything else is scikit-learn's: pipelines,
# grids, metrics.

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

x, y = load_breast_cancer(return_X_y=True)
models = {
    "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression()),
    "RandomForestClassifier": RandomForestClassifier(random_state=0),
    "GenLabelClassifier('gm')": GenLabelClassifier("gm", gamma=0.5, random_state=0),
    "GenLabelClassifierCV()": GenLabelClassifierCV(random_state=0),
}
scores = {
    name: cross_validate(model, x, y, cv=3, scoring=("accuracy", "neg_log_loss")) for name, model in models.items()
}
table = pd.DataFrame(scores).loc[["test_accuracy", "test_neg_log_loss"]].map(lambda folds: folds.mean())
print(table.T.round(3).to_string())

# %%
# What the search found, best first: a scheme, a density and its options, with held-out log-loss (negative).

search = GenLabelClassifierCV(random_state=0).fit(x, y)
columns = ["mean_test_score", "standard_error_test_score", "weight", "params"]
print(pd.DataFrame(search.cv_results_).sort_values("rank_test_score")[columns].head(5).round(3).to_string(index=False))
