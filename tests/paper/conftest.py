"""A folder of data in the layout that `--data` expects, made of scikit-learn's sets."""

import gzip

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    import pandas as pd

    folder = tmp_path_factory.mktemp("data")
    (folder / "tabular").mkdir()
    (folder / "images").mkdir()
    for name, load in (("iris", load_iris), ("wine", load_wine)):
        x, y = load(return_X_y=True)
        frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(**{"class": y})
        with gzip.open(folder / "tabular" / f"{name}.csv.gz", "wt") as file:
            frame.to_csv(file, index=False)
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8) * 15.0, np.ones((2, 2))).astype(np.uint8)  # 16 x 16
    np.savez(folder / "images" / "mnist_train_600.npz", images=images[:600], labels=labels[:600])
    np.savez(folder / "images" / "mnist_test_300.npz", images=images[600:900], labels=labels[600:900])
    color = np.repeat(images[..., None], 3, axis=3)
    np.savez(folder / "images" / "cifar10_train_300.npz", images=color[:300], labels=labels[:300])
    np.savez(folder / "images" / "cifar10_test_200.npz", images=color[600:800], labels=labels[600:800])
    return folder
