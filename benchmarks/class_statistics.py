"""Where Algorithm 3's class statistics may come from when a loader mixes in its workers: the bias of each source.

    python -m benchmarks.class_statistics --seeds 3

A timm model is trained on digits; then the running statistics of its features are gathered from clean rows (the
reference, and a second pass), from mixed rows taken for clean ones of their larger label, and from rows un-mixed on
the device. Errors of the class means are in units of the spread of the classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.data import Mixup
from torch import Tensor

from examples.demo import digits, train
from genlabel_plugins import RunningGaussian
from genlabel_timm import ModelFeatures

N_TRAIN, BATCH = 1000, 100
Rows = Iterator[tuple[Tensor, Tensor]]


def clean(x: Tensor, target: Tensor) -> Rows:
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(BATCH):
            yield x[rows], target[rows]


def mixed(x: Tensor, target: Tensor) -> Rows:
    mixup = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=10)
    for images, classes in clean(x, target):
        x_mix, y_mix = mixup(images.clone(), classes)
        yield x_mix, y_mix.argmax(1)


def unmixed(x: Tensor, target: Tensor) -> Rows:
    """Solve each mix and its mirror image for the clean rows, from 8-bit pixels, where lam is away from one half."""
    pixel = 1 / 255 / 0.3081
    for images, classes in clean(x, target):
        lam = np.random.beta(1.0, 1.0)  # noqa: NPY002  # timm's generator
        if abs(2 * lam - 1) >= 0.25:
            x_mix = (torch.lerp(images.flip(0), images, lam) / pixel).round() * pixel
            yield (lam * x_mix - (1 - lam) * x_mix.flip(0)) / (2 * lam - 1), classes


SOURCES = {"clean rows, a second pass": clean, "mixed rows by their larger label": mixed, "un-mixed rows": unmixed}


def statistics(features: ModelFeatures, rows: Rows) -> RunningGaussian:
    running = RunningGaussian(10, beta=0.9)
    for x, target in rows:
        running.update(features(x), target)
    return running


def errors(seed: int) -> dict[str, tuple[float, float, float]]:
    """Error of the means, ratio of the variances and held-out accuracy of the densities, by source."""
    torch.manual_seed(seed)
    model = train(None, seed, n_train=N_TRAIN, epochs=10)["model"].train()
    x, target, x_test, target_test = digits(N_TRAIN, 1000, seed)
    features = ModelFeatures(model)
    reference = statistics(features, clean(x, target))
    spread = (reference.mean_ - reference.mean_.mean(0)).norm(dim=1).mean()
    found = {}
    for name, source in SOURCES.items():
        running = statistics(features, source(x, target))
        shift = (running.mean_ - reference.mean_).norm(dim=1).mean() / spread
        ratio = (running.variance_ / reference.variance_).mean()
        accuracy = (running.log_prob(features(x_test)).argmax(1) == target_test).float().mean()
        found[name] = (shift.item(), ratio.item(), accuracy.item())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    runs = [errors(seed) for seed in track(range(args.seeds), description="Training")]
    table = Table("source of class statistics", "error of means", "variance ratio", "accuracy of the densities")
    for name in SOURCES:
        values = np.array([run[name] for run in runs])
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
