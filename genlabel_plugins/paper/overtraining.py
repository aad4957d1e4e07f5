"""Over-training: test accuracy against epochs, for the U that Liu et al. (ICLR 2023) saw mixup turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlabel_plugins.paper.data import Rows, load_images, load_table, split
from genlabel_plugins.paper.networks import make_network, train
from genlabel_plugins.paper.objectives import make_objective
from genlabel_plugins.paper.schemes import SCHEMES, density
from genlabel_plugins.relabeler import GenLabel

REAL_SETS = (48, 187, 1005, 1413, 1465, 1499, 997, 53, 945, 1498)  # small and real
POINTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500, 2000)
N_DIGITS, N_COMPONENTS = 300, 20
LEARNING_RATE = 0.001


def curve(
    name: str, scheme: str, data: Path | None, *, n_epochs: int, seed: int, quick: bool = False
) -> dict[str, Any]:
    """Test accuracy of a network 128-128 after 1, 2, 5, ... epochs, one learning rate for all schemes.

    Densities know the inputs (Algorithm 1): features that are fitted once would not tell whether the label does it.
    """
    rows = _digits(data, seed) if name == "digits" else split(*load_table(int(name), data), seed)
    mean, scale = rows.x.mean(0), np.where(rows.x.std(0) > 0, rows.x.std(0), 1.0)
    x, x_test = (torch.tensor((part - mean) / scale, dtype=torch.float32) for part in (rows.x, rows.x_test))
    target, y_test = torch.from_numpy(rows.y), torch.from_numpy(rows.y_test)
    n_epochs = min(n_epochs, 20) if quick else n_epochs
    accuracy: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network((x.shape[1], 128, 128, rows.n_classes))
        generator = torch.Generator().manual_seed(seed)
        relabeler = None
        if SCHEMES[scheme].label == "genlabel":
            relabeler = GenLabel(density("gm"), gamma=1.0, temperature=1.0)
            relabeler.fit(x, target, n_classes=rows.n_classes)
        objective = make_objective(
            SCHEMES[scheme], x, target, rows.n_classes, alpha=1.0, generator=generator, relabeler=relabeler
        )

        def note(epoch: int) -> None:
            if epoch in POINTS:
                with torch.no_grad():
                    accuracy.append(float((network(x_test).argmax(1) == y_test).double().mean()))

        train(
            network,
            objective,
            x,
            target,
            epochs=n_epochs,
            learning_rate=LEARNING_RATE,
            weight_decay=0.0,
            batch_size=128,
            generator=generator,
            on_epoch=note,
        )
    return {"accuracy": accuracy[-1], "curve": accuracy}


def _digits(data: Path | None, seed: int) -> Rows:
    """Few digits, as principal components of the training images."""
    x, y, x_test, y_test = load_images("mnist", data)
    some = np.random.default_rng(seed).permutation(len(y))[:N_DIGITS]
    x, x_test = (part.reshape(len(part), -1) / 255.0 for part in (x[some], x_test))  # type: ignore[assignment]
    mean = x.mean(0)
    _, _, directions = np.linalg.svd(x - mean, full_matrices=False)
    basis = directions[:N_COMPONENTS].T
    return Rows((x - mean) @ basis, y[some], (x_test - mean) @ basis, y_test, 10)
