"""What generative mixing costs, beside a bisection of 30 steps and beside plain GenLabel.

    python benchmarks/generative_mixing.py

20 features, 10 classes of 500 rows, batches of 256, one thread, CPU time of the process, candidates in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from _timing import Results, add_json_option, interleave, ratios, versions
from torch import Tensor

from genlabel_plugins import GenerativeMix, GenLabel, GenLabelMix, RatioSearch, make_backend

N_FEATURES, N_CLASSES, N_ROWS, N_BATCH, N_STEPS = 20, 10, 500, 256, 30
DENSITIES: dict[str, dict[str, Any]] = {
    "gm": {},
    "gm tied": {"covariance_type": "tied"},
    "gm diag": {"covariance_type": "diag"},
    "gm, 3 components": {"n_components": 3},
    "kde": {},
}


class Bisection(RatioSearch):
    """The same mixer, with a position found by halving [0, 1] and one log-density of all classes a step."""

    def _position(self, path, x, pair, partner, lam):
        goal, rows = torch.logit(lam, eps=1e-7), torch.arange(len(partner))
        low, high = torch.zeros_like(lam), torch.ones_like(lam)
        for _ in range(N_STEPS):
            middle = (low + high) / 2
            log_prob = self.relabeler.log_prob(path(middle[:, None]))
            above = log_prob[rows, pair[0]] - log_prob[rows, pair[1]] > goal
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


def table(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Whitened rows of Gaussian classes of unlike covariances."""
    target = torch.arange(N_CLASSES).repeat_interleave(N_ROWS)
    mean = torch.randn(N_CLASSES, N_FEATURES, generator=generator)
    spread = torch.eye(N_FEATURES) + 0.1 * torch.randn(N_CLASSES, N_FEATURES, N_FEATURES, generator=generator)
    noise = torch.randn(len(target), N_FEATURES, generator=generator)
    x = mean[target] + torch.einsum("nij,nj->ni", spread[target], noise)
    return (x - x.mean(0)) / x.std(0), target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_json_option(parser)
    results = Results(parser.parse_args().json)
    torch.set_num_threads(1)
    print(versions("torch", "genlabel-plugins"))
    generator = torch.Generator().manual_seed(0)
    x, target = table(generator)
    batch = torch.randperm(len(x), generator=generator)[:N_BATCH]
    x_batch, c = x[batch], target[batch]
    partner = torch.randperm(N_BATCH, generator=generator)
    lam = torch.rand(N_BATCH, generator=generator)
    other = c != c[partner]
    print(f"{N_STEPS}-step bisection over generative mixing, CPU time: least, median and greatest of the rounds")
    for name, params in DENSITIES.items():
        density = make_backend(name[:3].strip(" ,"), **params).fit(x, target)
        mixers = {"ours": RatioSearch(density), "bisection": Bisection(density)}
        pair = torch.stack([c, c[partner]])
        on_path = mixers["ours"]._path(x_batch, c, pair, partner), x_batch, pair, partner, lam
        positions = {key: lambda m=m, at=on_path: m._position(*at) for key, m in mixers.items()}
        whole = {key: lambda m=m: m.mix(x_batch, c, partner, lam) for key, m in mixers.items()}
        attained = [call()[2][other].float().mean() for call in whole.values()]
        alone, measured = (
            report(ways, results, f"{name}, {what}") for ways, what in ((positions, "position"), (whole, "mix"))
        )
        print(f"{name:22} position {alone}; with the ratio measured {measured}; ", end="")
        print("attained {:.1%}, bisected {:.1%}".format(*attained))
    print("One batch from drawing to labels, generative mixing over GenLabel with mixup, one lam per row")
    for name in ("gm", "gm tied", "gm diag"):
        relabeler = GenLabel(make_backend("gm", **DENSITIES[name])).fit(x, target)
        mixes = {"GenLabel": GenLabelMix(relabeler, per_sample=True), "generative": GenerativeMix(relabeler)}
        calls = {key: lambda m=m: m(x_batch, c) for key, m in mixes.items()}
        print(f"{name:22} {report(calls, results, f'{name}, batch', rounds=15)}")
    results.write("torch")


def report(candidates: dict[str, Callable[[], Any]], results: Results, title: str, rounds: int = 7) -> str:
    """Median times of two candidates, and the ratio of the second to the first."""
    seconds = interleave(candidates, rounds=rounds)
    first, second = candidates
    least, middle, greatest = ratios(seconds, second, first)
    if first == "ours":
        results.add(f"{title}: {second} / ours", (least, middle, greatest))
    else:
        results.add(f"{title}: {first} / {second}", ratios(seconds, first, second))
    times = [f"{median(values) * 1e3:.2f}" for values in seconds.values()]
    return f"{times[0]} and {times[1]} ms, {least:.1f} {middle:.1f} {greatest:.1f}"


if __name__ == "__main__":
    main()
