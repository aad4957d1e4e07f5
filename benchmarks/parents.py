"""Labels without the parents of a mixed row: what they cost, and how much nearer they lie to the true posterior.

    python benchmarks/parents.py

Ratios are CPU time of the log-densities of a batch of 256 mixed rows, interleaved in one process. The error is the mean
squared distance of the label from the posterior of the Gaussian classes that the rows were drawn from.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _timing import Results, add_json_option, interleave, ratios
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from genlabel_plugins import CrossFit, FromClassifier, GenLabel, Parents, make_backend

SIZES = ((1000, 10, 3), (5000, 20, 10), (20_000, 50, 10))  # rows, columns, classes
COLUMNS = (2, 10, 30)
BACKENDS = ("kde", "nn", "gm")
N_BATCH = 256
N_TREES = 25


def teacher() -> FromClassifier:
    return FromClassifier(RandomForestClassifier(N_TREES, random_state=0))


def left_out(backend: str, **options: object) -> Callable[[], GenLabel]:
    return lambda: GenLabel(make_backend(backend, **options), leave_parents_out=True)


SOURCES = {  # what labels with parents, and without
    "`kde`": 2 * (left_out("kde"),),
    "`kde`, `regularization=None`": 2 * (left_out("kde", regularization=None),),
    "`nn`": 2 * (left_out("nn"),),
    "`gm`": 2 * (left_out("gm"),),
    "a forest, `cross_fit=5`": (lambda: GenLabel(teacher()), lambda: GenLabel(CrossFit(teacher()))),
}


def mixed_rows(x: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Parents]:
    """Rows of a batch mixed with others, and their parents."""
    i, j = torch.randint(len(x), (2, N_BATCH), generator=generator)
    lam = torch.rand(N_BATCH, 1, generator=generator, dtype=x.dtype)
    return torch.lerp(x[j], x[i], lam), Parents(x[i], target[i], x[j], target[j])


def cost(rounds: int, results: Results) -> None:
    for n_rows, n_features, n_classes in SIZES:
        generator = torch.Generator().manual_seed(0)
        target = torch.arange(n_rows) % n_classes
        x = torch.randn(n_rows, n_features, generator=generator) + 0.3 * target[:, None]
        query, parents = mixed_rows(x, target, generator)
        for name in BACKENDS:
            density = make_backend(name).fit(x, target)
            calls = {
                "with": partial(density.log_prob, query),
                "without": partial(density.log_prob_without, query, parents),
            }
            seconds = interleave(calls, rounds=rounds)
            least, middle, most = ratios(seconds, "without", "with")
            results.add(f"{name} {n_rows},{n_features},{n_classes}", ratios(seconds, "with", "without"))
            more = 1e6 * (np.median(seconds["without"]) - np.median(seconds["with"]))
            shown = f"{middle:.2f} ({least:.2f} to {most:.2f}), {more:.0f} microseconds more"
            print(f"| `{name}` | {n_rows:,} x {n_features}, {n_classes} classes | {shown} |")


def error(n_problems: int, n_rows: int) -> None:
    for n_features in COLUMNS:
        found = []
        for problem in range(n_problems):
            generator = torch.Generator().manual_seed(problem)
            mean = torch.randn(3, n_features, generator=generator).double() * 2 / n_features**0.5
            target = torch.arange(n_rows) % 3
            x = torch.randn(n_rows, n_features, generator=generator).double() + mean[target]
            query, parents = mixed_rows(x, target, generator)
            truth = (-0.5 * torch.cdist(query, mean).square()).softmax(1)
            errors = []
            for make in SOURCES.values():
                seen, unseen = (each().fit(x, target) for each in make)
                labels = seen.posterior(query), unseen.relabel(query, truth, 1.0, parents)
                errors.append([float((label - truth).square().sum(1).mean()) for label in labels])
            found.append(errors)
        for name, (seen, unseen) in zip(SOURCES, np.mean(found, 0), strict=True):
            print(f"| {name} | {n_features} columns | {seen:.3f} | {unseen:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--rows", type=int, default=150, help="of each problem")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of classes with few rows
    print("| density | rows | cost of leaving parents out |\n|---|---|---|")
    cost(args.rounds, results)
    results.write("torch", "scikit-learn")
    print("\n| label of | problem | error with parents | without |\n|---|---|---|---|")
    error(args.problems, args.rows)


if __name__ == "__main__":
    main()
