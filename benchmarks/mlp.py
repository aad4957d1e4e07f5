"""Networks with hidden layers: `GenLabelClassifier(head="mlp")` against scikit-learn's MLPClassifier.

    python benchmarks/mlp.py

Real tables that scikit-learn ships, behind a `StandardScaler`, half of the rows to learn from. Both have two hidden
layers of 128 and Adam. Ours has a decaying rate and early stopping by default; MLPClassifier is shown as it comes and
with its early stopping. Means over splits of accuracy in per cent, log-loss in nats, and CPU seconds of fitting.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from _timing import Results, add_json_option, ratios, versions
from rich.console import Console
from rich.table import Table
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from genlabel_sklearn import GenLabelClassifier

HIDDEN = (128, 128)


def models(seed: int) -> dict[str, ClassifierMixin]:
    shared = {"hidden_layer_sizes": HIDDEN, "random_state": seed}
    return {
        "MLPClassifier": MLPClassifier(max_iter=200, **shared),
        "+ early_stopping": MLPClassifier(max_iter=200, early_stopping=True, **shared),
        'scheme="none"': GenLabelClassifier(scheme="none", head="mlp", **shared),
        "mixup": GenLabelClassifier(scheme="mixup", head="mlp", **shared),
        "gm, gamma 0.5": GenLabelClassifier(head="mlp", **shared),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    threadpool_limits(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of networks that have not converged, and of classes with few rows
    shown = Table("table", *models(0), title=f"accuracy % / log-loss / CPU seconds, means of {args.seeds} splits")
    for load in (load_wine, load_breast_cancer, load_digits):
        X, y = load(return_X_y=True)
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models(0)}
        for seed in range(args.seeds):
            X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
            for name, model in models(seed).items():
                begin = time.process_time()
                pipeline = make_pipeline(StandardScaler(), model).fit(X_train, y_train)
                seconds = time.process_time() - begin
                p = pipeline.predict_proba(X_test)
                found[name].append(((p.argmax(1) == y_test).mean(), log_loss(y_test, p.clip(1e-7, 1)), seconds))
        means = (np.mean(runs, 0) for runs in found.values())
        taken = {name: [seconds for *_, seconds in runs] for name, runs in found.items()}
        for name in taken:
            results.add(f"{load.__name__}: {name}", ratios(taken, "MLPClassifier", name))
        title = f"{load.__name__.removeprefix('load_')}, {len(X) // 2} x {X.shape[1]}"
        shown.add_row(title, *(f"{100 * a:.1f} / {b:.3f} / {c:.1f}" for a, b, c in means))
    console = Console(width=160)
    console.print(shown)
    console.print(versions("torch", "scikit-learn", "numpy"))
    results.write("torch", "scikit-learn", "numpy")


if __name__ == "__main__":
    main()
