"""GenLabel in scikit-learn: choose how to mix by cross-validation, and judge the choice by nested cross-validation."""

from __future__ import annotations

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV


def main() -> None:
    X, y = load_wine(return_X_y=True, as_frame=True)
    train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

    # One classifier: any scikit-learn code that takes LogisticRegression takes it.
    plain = GenLabelClassifier("gm", gamma=0.5, random_state=0).fit(train_X, train_y)
    print(f"GenLabelClassifier: {plain.score(test_X, test_y):.3f}")

    # In a pipeline, behind any preparation of the columns.
    binned = make_column_transformer(
        (KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), ["alcohol"]),
        remainder="passthrough",
    )
    pipeline = make_pipeline(binned, GenLabelClassifier("gm", random_state=0)).fit(train_X, train_y)
    print(f"in a pipeline:      {pipeline.score(test_X, test_y):.3f}")

    # No mixing, mixup, GenLabel and the densities themselves compete; all splits and candidates are one program.
    search = GenLabelClassifierCV(random_state=0).fit(train_X, train_y)
    print(f"GenLabelClassifierCV: {search.score(test_X, test_y):.3f}")
    results = pd.DataFrame(search.cv_results_).sort_values("weight", ascending=False)
    columns = ["param_scheme", "param_backend", "param_gamma", "param_C"]
    columns += ["mean_test_score", "standard_error_test_score", "weight"]
    print(results[columns].head(5).round(3).to_string(index=False))

    # The paper's protocol chooses one of mixup and GenLabel.
    paper = GenLabelClassifierCV(
        schemes=("mixup", "genlabel"),
        gammas=(0.2, 0.4, 0.6, 0.8, 1.0),
        learning_rates=(0.1, 0.01, 0.001, 0.0001),
        n_repeats=1,
        scoring="accuracy",
        selection="best",
        random_state=0,
    )
    ways = {"logistic regression": make_pipeline(StandardScaler(), LogisticRegression()), "GenLabel (CV)": paper}
    ways["GenLabelClassifierCV"] = GenLabelClassifierCV(n_repeats=1, random_state=0)
    for name, way in ways.items():  # nested: the choice is made anew within each outer fold
        scores = cross_val_score(way, X, y, cv=5)
        print(f"{name:22}{scores.mean():.3f} +- {scores.std():.3f}")


if __name__ == "__main__":
    main()
