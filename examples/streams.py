"""A table that outgrows one machine: densities learnt on the partitions of a Parquet data set by dask, then merged.

    pip install 'dask[distributed]' pyarrow

Each task reads one file and learns from it; densities are merged in a tree. What travels between workers is the
state of a density, whose size does not depend on the number of rows.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from dask import delayed
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits

from genlabel_plugins import GenLabel, make_backend

N_CLASSES = 10


def read(file):
    table = pq.read_table(file)
    x = np.stack([column.to_numpy() for column in table.drop_columns("target").columns], 1)
    return torch.from_numpy(x), torch.tensor(table["target"].to_numpy())


def learn(file):
    x, target = read(file)
    return make_backend("gm", covariance_type="diag").partial_fit(x, target, n_classes=N_CLASSES)


def merge(a, b):
    return a.merge(b)


def main():
    X, y = load_digits(return_X_y=True)
    with tempfile.TemporaryDirectory() as folder:
        for i, rows in enumerate(np.array_split(np.arange(len(y)), 6)):
            columns = {f"pixel{j}": X[rows, j].astype(np.float32) for j in range(X.shape[1])}
            pq.write_table(pa.table(columns | {"target": y[rows]}), Path(folder) / f"{i}.parquet")
        files = sorted(Path(folder).iterdir())

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
            densities = [delayed(learn)(file) for file in files]
            while len(densities) > 1:
                pairs = zip(densities[::2], densities[1::2], strict=False)
                left_over = densities[len(densities) // 2 * 2 :]
                densities = [delayed(merge)(a, b) for a, b in pairs] + left_over
            density = densities[0].compute()

        x, target = (torch.cat(parts) for parts in zip(*map(read, files), strict=True))
    at_once = make_backend("gm", covariance_type="diag").fit(x, target)
    apart = (GenLabel(density).posterior(x) - GenLabel(at_once).posterior(x)).abs().max()
    print(f"{int(density.class_count_.sum())} rows; labels differ from those of one fit by at most {apart:.1e}")
    assert apart < 1e-3


if __name__ == "__main__":
    main()
