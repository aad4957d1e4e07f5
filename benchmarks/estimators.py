"""Ten artificial tables, hard in one way each, and one real: classifiers at their defaults beside LogisticRegression.

    python benchmarks/estimators.py

Generators of scikit-learn, one split each, and five splits of breast cancer, logistic regression behind a
`StandardScaler`: accuracy in per cent, log-loss in nats and CPU seconds of fitting, on one thread. Held to: the search
loses to LogisticRegression neither two points of accuracy nor a tenth of the log-loss; the exit status says so.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from _timing import Results, add_json_option, versions
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_breast_cancer, make_blobs, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

MODELS = {
    "LogisticRegression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    'scheme="none"': lambda: GenLabelClassifier(scheme="none", random_state=0),
    "gm, gamma 0.5": lambda: GenLabelClassifier(random_state=0),
    "search": lambda: GenLabelClassifierCV(random_state=0),
}
MOST_POINTS, MOST_LOSS = 2.0, 1.1


def tables() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Title, rows, classes and how many rows to learn from."""
    generated = make_classification
    many = {"n_informative": 12, "n_redundant": 0, "n_classes": 30, "n_clusters_per_class": 1, "class_sep": 2}
    yield "300 x 20, 30 classes", *generated(3000, 20, **many, random_state=0), 300
    rare = generated(6000, 10, n_informative=6, weights=[0.98], flip_y=0, random_state=1)
    yield "1,000 x 10, classes 1:50", *rare, 1000
    rng = np.random.RandomState(0)
    code, effect = rng.randint(0, 8, (3000, 25)), rng.normal(size=(25, 8))
    y = (effect[np.arange(25), code].sum(1) + rng.normal(size=3000) > 0).astype(int)
    yield "400 x 200 dummies of 25 columns", np.eye(8)[code].reshape(3000, -1), y, 400
    X, y = generated(3000, 10, n_informative=6, random_state=2)
    yield "300 x 10, lognormal", np.exp(2 * X), y, 300
    far = np.exp(2 * X)
    far[::50, 0] *= 1e6
    yield "300 x 10, outliers", far, y, 300
    yield "20 x 8", *generated(2000, 8, n_informative=6, random_state=3), 20
    yield "100 x 5, three far blobs", *make_blobs(2000, centers=3, n_features=5, cluster_std=0.5, random_state=0), 100
    few = generated(2000, 300, n_informative=10, n_redundant=0, random_state=4, shuffle=False)
    yield "200 x 300, of which 10 matter", *few, 200
    X, y = generated(2000, 10, n_informative=5, n_redundant=5, random_state=5)
    yield "200 x 30, three times the same 10", np.c_[X, X, X], y, 200
    yield "40,000 x 30, 4 classes", *generated(50_000, 30, n_informative=15, n_classes=4, random_state=0), 40_000
    X, y = load_breast_cancer(return_X_y=True)
    for seed in range(5):
        order = np.random.RandomState(seed).permutation(len(y))
        yield f"breast cancer, 200 x 30, split {seed}", X[order], y[order], 200


def measure(model: ClassifierMixin, parts: list[np.ndarray]) -> tuple[float, float, float]:
    """Accuracy in per cent, log-loss, CPU seconds of fitting."""
    X, X_test, y, y_test = parts
    begin = time.process_time()
    model.fit(X, y)
    seconds = time.process_time() - begin
    p = model.predict_proba(X_test)
    hit = model.classes_[p.argmax(1)] == y_test
    return 100 * hit.mean(), log_loss(y_test, p.clip(1e-9), labels=model.classes_), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="tables whose titles begin so")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    threadpool_limits(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of rows far outside, and of classes with fewer rows than folds
    print(f"accuracy % / log-loss / CPU seconds; {versions('torch', 'scikit-learn', 'numpy')}\n")
    print(f"| rows x columns | {' | '.join(MODELS)} |\n|---{'|---' * len(MODELS)}|")
    missed = []
    for title, X, y, n_rows in tables():
        if not title.startswith(tuple(args.only)):
            continue
        parts = train_test_split(X, y, train_size=n_rows, stratify=y, random_state=0)
        found = {name: measure(make(), parts) for name, make in MODELS.items()}
        print(f"| {title} |", " | ".join(f"{a:.1f} / {b:.3f} / {c:.1f}" for a, b, c in found.values()), "|", flush=True)
        incumbent, search = found["LogisticRegression"], found["search"]
        if search[0] < incumbent[0] - MOST_POINTS or search[1] > MOST_LOSS * incumbent[1]:
            missed.append(title)
        results.add(f"{title}: log-loss", 3 * (incumbent[1] / search[1],))
        results.add(f"{title}: accuracy", 3 * (search[0] / incumbent[0],))
    results.write("torch", "scikit-learn", "numpy")
    sys.exit(f"the search loses on: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
