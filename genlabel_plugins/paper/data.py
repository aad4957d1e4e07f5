"""Sets of the paper by OpenML id: from a folder, or from OpenML."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml
from sklearn.model_selection import train_test_split

TEST_SHARE = 0.3  # the printed accuracies of Iris, Wine and Kidney are multiples of 1/45, 1/54 and 1/23
MOST_LEVELS = 12  # of a nominal column that is coded
ALIASES = {40984: 36, 61: 1413, 292: 40981}  # ids that hold the same rows


class DataError(ValueError):
    """Data that is not to be had, in one sentence."""


class Rows(NamedTuple):
    """Rows of one split, in the units of their columns.

    Attributes:
        x: Training rows, shape `(N, D)`, float64.
        y: Their classes, shape `(N,)`.
        x_test: Test rows, shape `(T, D)`.
        y_test: Their classes, shape `(T,)`.
        n_classes: Number of classes C.
    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    x_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    n_classes: int


@cache
def sets() -> pd.DataFrame:
    """The tables of the paper that are at hand, by OpenML id: size, balance, whether artificial, match of the data."""
    with (files(__package__) / "sets.csv").open() as file:
        return pd.read_csv(file, index_col="openml_id")


def load_table(openml_id: int, data: Path | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows `(N, D)` and classes `(N,)` of a set.

    Args:
        openml_id: Id of the set on OpenML.
        data: Folder with `tabular/<name>.csv.gz`, whose last column is `class`; None fetches from OpenML and keeps the
            file in the cache of scikit-learn.

    Raises:
        DataError: If neither has it.
    """
    openml_id = ALIASES.get(openml_id, openml_id)
    if data is None:
        return _fetch(openml_id)
    name = sets().name.get(openml_id)
    path = data / "tabular" / f"{name}.csv.gz"
    if not path.exists():
        raise DataError(f"set {openml_id} is not in --data {str(data)!r}: there is no file {str(path)!r}")
    frame = pd.read_csv(path)
    return frame.drop(columns="class").to_numpy(float), frame["class"].to_numpy(np.int64)


def load_images(
    name: str, data: Path | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Training images `(N, H, W, *)` with classes, and test images with theirs.

    Args:
        name: `"mnist"` or `"cifar10"`.
        data: Folder with `images/<name>_train_*.npz`; None asks torchvision, which downloads.

    Raises:
        DataError: If neither has them.
    """
    if data is None:
        return _download(name)
    parts = []
    for part in ("train", "test"):
        found = sorted((data / "images").glob(f"{name}_{part}_*.npz"))
        if not found:
            raise DataError(f"{name} is not in --data {str(data)!r}: there is no file images/{name}_{part}_*.npz")
        with np.load(found[-1]) as stored:
            parts += [stored["images"], stored["labels"].astype(np.int64)]
    return parts[0], parts[1], parts[2], parts[3]


def split(x: NDArray[np.float64], y: NDArray[np.int64], seed: int) -> Rows:
    """Split rows 70/30, stratified by class."""
    x, x_test, y, y_test = train_test_split(x, y, test_size=TEST_SHARE, stratify=y, random_state=seed)
    return Rows(x, y, x_test, y_test, int(max(y.max(), y_test.max())) + 1)


def code(frame: pd.DataFrame, target: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers of a table: rows with gaps dropped, nominal columns of two levels 0/1, of up to 12 one-hot, else dropped.

    Example:
        >>> frame = pd.DataFrame({"size": [1.0, 2.0, None], "color": ["red", "blue", "red"]})
        >>> code(frame, pd.Series(["b", "a", "a"]))
        (array([[1., 1.],
               [2., 0.]]), array([1, 0]))
    """
    whole = frame.notna().all(axis=1) & target.notna()
    frame, target = frame[whole], target[whole]
    columns: list[NDArray[np.float64]] = []
    for name in frame:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not isinstance(column.dtype, pd.CategoricalDtype):
            columns.append(column.to_numpy(float)[:, None])
            continue
        places, levels = pd.factorize(column.astype(str), sort=True)
        if len(levels) <= 2:
            columns.append(places[:, None].astype(float))
        elif len(levels) <= MOST_LEVELS:
            columns.append(np.eye(len(levels))[places])
    return np.concatenate(columns, axis=1), pd.factorize(target.astype(str), sort=True)[0].astype(np.int64)


def _fetch(openml_id: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        found = fetch_openml(data_id=openml_id, as_frame=True, parser="auto", n_retries=1)
    except OSError as error:  # also those of urllib
        raise DataError(
            f"set {openml_id} can neither be fetched from OpenML ({error}) nor is there --data: name a folder with it"
        ) from error
    return code(found.data, found.target)


def _download(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    from torchvision import datasets  # noqa: PLC0415

    kind = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[name]
    parts = []
    for train in (True, False):
        try:
            found = kind(Path.home() / ".cache" / "genlabel", train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{name} can neither be downloaded ({error}) nor is there --data: name a folder with it"
            ) from error
        parts += [np.asarray(found.data), np.asarray(found.targets, dtype=np.int64)]
    return parts[0], parts[1], parts[2], parts[3]
