"""What do over-samplers bring where a class is rare, and what do they do to probabilities?

    python benchmarks/imbalanced.py

Real sets of at most 1,500 rows. Rows are split 70/30, stratified, once per seed; of the smallest class of the training
rows one in ten of the largest class's number is kept, at least ten rows. All test rows are scored, those of the thinned
class with the weight that gives it its share in the training rows: balanced accuracy minds no shares, and log-loss and
calibration are those of a world as imbalanced as the training rows. Nothing is chosen on test rows.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _data import SETS, add_data_option, load
from imblearn.over_sampling import ADASYN, SMOTE, SVMSMOTE, BorderlineSMOTE, RandomOverSampler
from scipy.stats import wilcoxon
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from genlabel_imblearn import GenerativeMixSampler, GenLabelSampler

MAX_ROWS, RATIO, LEAST = 1500, 10, 10
N_BINS = 15
SAMPLERS: dict[str, Any] = {
    "as they are": None,
    "RandomOverSampler": RandomOverSampler,
    "SMOTE": SMOTE,
    "BorderlineSMOTE": BorderlineSMOTE,
    "SVMSMOTE": SVMSMOTE,
    "ADASYN": ADASYN,
    "GenLabelSampler, gamma 0 (mixup)": lambda **seed: GenLabelSampler(gamma=0.0, **seed),
    "GenLabelSampler": GenLabelSampler,
    "GenLabelSampler, soft labels": lambda **seed: GenLabelSampler(soft_labels=True, **seed),
    "GenerativeMixSampler": GenerativeMixSampler,
    "GenerativeMixSampler, soft labels": lambda **seed: GenerativeMixSampler(soft_labels=True, **seed),
}
EQUAL = "as they are, probabilities divided by shares"
CLASSIFIERS = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
    "random forest": lambda seed: RandomForestClassifier(50, random_state=seed),
}
COLUMNS = [
    "rows made / asked",
    "balanced accuracy",
    "log-loss",
    "ECE",
    "log-loss, shares put back",
    "ECE, shares put back",
]


def suite() -> list[str]:
    """Real sets whose largest class leaves `LEAST` rows of the smallest."""
    kept = (SETS.n_rows <= MAX_ROWS) & (SETS.simulated == "no") & (0.7 * SETS.largest_class >= RATIO * LEAST)
    return sorted(SETS.index[kept])


def thinned(data: Path | None, name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Training rows and classes with a rare class, test rows and classes, and the weights of these."""
    X, y = load(data, name)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    count = np.bincount(y)
    rare = int(count.argmin())
    rows = np.random.RandomState(seed).permutation(np.flatnonzero(y == rare))
    keep = np.setdiff1d(np.arange(len(y)), rows[max(LEAST, count.max() // RATIO) :])
    scaler = StandardScaler().fit(X[keep])
    weight = (np.bincount(y[keep]) / len(keep) / np.bincount(y_test) * len(y_test))[y_test]
    return scaler.transform(X[keep]), y[keep], scaler.transform(X_test), y_test, weight


def scores(p: np.ndarray, y: np.ndarray, weight: np.ndarray) -> list[float]:
    """Balanced accuracy, log-loss and expected calibration error."""
    chosen, likelihood = p.argmax(1), p[np.arange(len(y)), y].clip(np.finfo(np.float32).eps, 1)
    place = np.minimum((p.max(1) * N_BINS).astype(int), N_BINS - 1)
    gap = np.bincount(place, weight * (p.max(1) - (chosen == y)), N_BINS)
    recall = [(chosen[y == c] == c).mean() for c in np.unique(y)]
    return [np.mean(recall), -np.average(np.log(likelihood), weights=weight), np.abs(gap).sum() / weight.sum()]


def measured(p: np.ndarray, back: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Scores of probabilities, and of what they are with other shares of the classes."""
    both = [scores(q / q.sum(1, keepdims=True), y, weight) for q in (p, back)]
    return dict(zip(COLUMNS[1:], both[0] + both[1][1:], strict=True))


def run(data: Path | None, name: str, seed: int) -> list[dict[str, Any]]:
    """Scores of every sampler and classifier on one split."""
    X, y, X_test, y_test, weight = thinned(data, name, seed)
    share = np.bincount(y) / len(y)
    asked = int((np.bincount(y).max() - np.bincount(y)).sum())
    found = []
    for way, make in SAMPLERS.items():
        X_more, y_more, failed = X, y, False
        try:
            if make:
                X_more, y_more = make(random_state=seed).fit_resample(X, y)
        except (ValueError, RuntimeError) as error:
            print(f"{name} {seed} {way}: {error}", file=sys.stderr)
            failed = True
        outcome = {"set": name, "seed": seed, "failed": failed}
        outcome |= {"made": len(X_more) - len(X), "asked": asked if make else 0}
        soft = y_more if y_more.ndim == 2 else np.eye(len(share))[y_more]
        row, c = soft.nonzero()  # a soft label is a row for each class, with its weight
        for title, classifier in CLASSIFIERS.items():
            p = classifier(seed).fit(X_more[row], c, sample_weight=soft[row, c]).predict_proba(X_test)
            back = p * share / soft.mean(0)  # to the shares of the classes before
            found.append(outcome | {"classifier": title, "way": way} | measured(p, back, y_test, weight))
            if not make:
                found.append(outcome | {"classifier": title, "way": EQUAL} | measured(p / share, p, y_test, weight))
    return found


def table(frame: pd.DataFrame) -> str:
    """Means over sets, with their spread over seeds, and balanced accuracy set by set beside that of SMOTE."""
    heads = ["rows", *COLUMNS[:2], "sets above / below SMOTE in it", *COLUMNS[2:]]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    by_set = frame.groupby(["way", "set"])["balanced accuracy"].mean()
    for way, part in frame.groupby("way", sort=False):
        failed = f", {part.failed.sum()} of {len(part)} runs failed" if part.failed.any() else ""
        exact = f"{100 * part.made.sum() / max(1, part.asked.sum()):.0f} %{failed}" if part.asked.any() else ""
        by_seed = part.groupby("seed")[COLUMNS[1:]].mean()
        cells = [
            f"{scale * mean:.{digits}f} ± {scale * spread:.{digits}f}"
            for mean, spread, scale, digits in zip(
                by_seed.mean(), by_seed.std(), (100, 1, 100, 1, 100), (1, 3, 1, 3, 1), strict=True
            )
        ]
        difference, against = by_set[way] - by_set["SMOTE"], ""
        if difference.any():
            p = wilcoxon(difference).pvalue
            shown = f"p {p:.3f}" if p >= 1e-3 else "p < 0.001"
            against = f"{(difference > 0).sum()} / {(difference < 0).sum()}, {shown}"
        lines.append(f"| {' | '.join([way, exact, cells[0], against, *cells[1:]])} |")
    return "\n".join(lines)


def far_away() -> str:
    """Rows made of 20 asked, 30 rows against 10 that lie far away."""
    rng = np.random.RandomState(0)
    X, y = np.concatenate([rng.randn(30, 2), rng.randn(10, 2) + 20]), np.repeat([0, 1], [30, 10])
    made = {}
    for way, make in SAMPLERS.items():
        if make:
            try:
                made[way] = len(make(random_state=0).fit_resample(X, y)[0]) - 40
            except (ValueError, RuntimeError) as error:
                made[way] = f"none: {error}"
    return ", ".join(f"{way} {n}" for way, n in made.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="by default all that leave enough rows")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of densities of small classes
    names = args.sets or suite()
    frame = pd.DataFrame([row for seed in range(args.seeds) for name in names for row in run(args.data, name, seed)])
    print(f"30 rows against 10 far away, rows made of 20 asked: {far_away()}\n\n{len(names)} sets, {args.seeds} splits")
    for title in CLASSIFIERS:
        print(f"\n{title}\n\n{table(frame[frame.classifier == title])}")


if __name__ == "__main__":
    main()
