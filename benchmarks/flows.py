"""Flows by both engines and the VAE beside a Gaussian and a mixture: `python benchmarks/flows.py`.

One class of 500 rows in 2, 10 and 20 features, each with other rows per round: D/2 independent bananas, rotated, so
that the true density is known and no method's axes are favoured. The score is the mean log-density of 5,000 unseen
rows minus its true value, in nats: 0 is perfect. Times are CPU seconds of the process on one thread; the candidates
take turns within a round. `--classes 10` prints the fit of ten such classes, to divide by ten.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
import warnings
from collections import defaultdict
from statistics import mean, stdev

import torch
from _timing import Results, add_json_option, cpu_seconds, ratios, versions
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from genlabel_plugins import make_backend

N_ROWS, N_UNSEEN = 500, 5000
CANDIDATES = {
    "gm, 1 component": ("gm", {}),
    "gm, 4 components": ("gm", {"n_components": 4}),
    **{
        f"flow, {engine} {flow}": ("flow", {"engine": engine, "flow": flow})
        for engine in ("normflows", "zuko")
        for flow in ("nsf", "maf", "realnvp")
    },
    "vae": ("vae", {}),
}


def bananas(n_rows: int, n_features: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of D/2 bananas x1 ~ N(0, 1), x2 | x1 ~ N(x1^2, 0.3^2), rotated, and their log-density."""
    generator = torch.Generator().manual_seed(n_features)
    rotation = torch.linalg.qr(torch.randn(n_features, n_features, generator=generator)).Q
    noise = torch.randn(n_rows, n_features, generator=generator.manual_seed(seed))
    straight, bent = noise.chunk(2, 1)
    x = torch.cat([straight, straight.square() + 0.3 * bent], 1) @ rotation
    log_prob = -0.5 * noise.square().sum(1) - n_features / 2 * math.log(2 * math.pi * 0.3)
    return x, log_prob


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[2, 10, 20])
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    results = Results(options.json)
    warnings.filterwarnings("ignore", message=".*rows per feature")
    torch.set_num_threads(1)
    table = Table(
        title=f"{options.classes} classes of {N_ROWS} rows, {options.rounds} rounds, mean ± standard deviation; "
        f"{versions('torch', 'normflows', 'zuko')}, {platform.machine()}, 1 thread"
    )
    for column in ("features", "density", "nats from the truth", "fit, CPU s", "1000 densities a CPU s"):
        table.add_column(column, justify="left" if column == "density" else "right")
    for n_features in options.features:
        measured = defaultdict(list)
        for seed in track(range(options.rounds), f"{n_features} features", transient=True):
            for name, (backend, params) in CANDIDATES.items():
                measured[name].append(measure(backend, params, n_features, options.classes, seed))
        last = list(measured)[-1]  # whose fit the others' are compared with
        for name, rounds in measured.items():
            fits = {way: [fit for _, fit, _ in measured[way]] for way in (last, name)}
            results.add(f"{name}, {n_features}: fit", ratios(fits, last, name))
            table.add_row(str(n_features), name, *(spread(values) for values in zip(*rounds, strict=True)))
        table.add_section()
    Console(width=120).print(table)
    results.write("torch", "normflows", "zuko")


def measure(backend: str, params: dict, n_features: int, n_classes: int, seed: int) -> tuple[float, float, float]:
    """Score, seconds to fit, and thousands of log-densities, of a row under a class, per second."""
    target = torch.arange(n_classes).repeat_interleave(N_ROWS)
    x, _ = bananas(len(target), n_features, seed)
    shift = 10.0 * torch.arange(n_classes)[:, None]
    unseen, truth = bananas(N_UNSEEN, n_features, 1000 + seed)
    density = make_backend(backend, **params)
    start = time.process_time()
    density.fit(x + shift[target], target)
    fit = time.process_time() - start
    score = float((density.log_prob(unseen)[:, 0] - truth).mean())
    seconds = cpu_seconds(lambda: density.log_prob(unseen), 3)
    return score, fit, N_UNSEEN * n_classes / seconds / 1e3


def spread(values: tuple[float, ...]) -> str:
    digits = 0 if mean(values) > 100 else 2
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
