"""Small tables of OpenML: from a folder that has them, or fetched once and kept by scikit-learn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import fetch_openml
from sklearn.preprocessing import LabelEncoder, OneHotEncoder

SETS = pd.read_csv(Path(__file__).with_name("openml_sets.csv"), index_col="name")


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """`--data FOLDER`; without it, tables are fetched."""
    text = "folder with tabular/<name>.csv.gz, the last column called class; without it, tables are fetched from OpenML"
    parser.add_argument("--data", type=Path, help=text)


def load(data: Path | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and classes 0 to C - 1."""
    if data is None:
        fetched = fetch_openml(data_id=int(SETS.openml_id[name]), as_frame=True)
        return encode(fetched.data, fetched.target)
    path = data / "tabular" / f"{name}.csv.gz"
    if not path.exists():
        sys.exit(f"--data {data} has no {path.relative_to(data)}: leave --data out to fetch {name} from OpenML")
    frame = pd.read_csv(path)
    return frame.drop(columns="class").to_numpy(float), frame["class"].to_numpy()


def encode(rows: pd.DataFrame, target: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Levels as columns of 0 and 1, one for two of them; rows with a gap are left out."""
    whole = rows.notna().all(axis=1)
    levels = OneHotEncoder(drop="if_binary", sparse_output=False)
    columns = make_column_transformer((levels, make_column_selector(dtype_exclude="number")), remainder="passthrough")
    return columns.fit_transform(rows[whole]).astype(float), LabelEncoder().fit_transform(target[whole])
