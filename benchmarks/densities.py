"""Speed of densities, posteriors, intrusion and moments beside what one would use: `python benchmarks/densities.py`.

Log-densities of all classes for a batch (posteriors where scikit-learn gives nothing else), on one thread, candidates
in turn; a ratio is taken within a round and its median printed with its extremes. torch and faiss work in float32,
scipy in float64 as it always does, scikit-learn in float64 as on arrays of NumPy's default type, and in float32 for
information. "published recipe" is the step of the published scripts: a scipy distribution made anew for each class,
its density at the batch, once more in logarithms if a row underflows, normalized. `--device cuda` times the torch
candidates by device events and adds the memory bandwidth reached. The nearest-neighbor rows need faiss
(`pip install faiss-cpu`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from _density_cases import (
    COMPILED,
    COMPILED_DENSITY,
    OURS,
    POSTERIOR,
    Case,
    Problem,
    faiss,
    gm_cases,
    intrusion_cases,
    kde_cases,
    moment_cases,
    nn_cases,
    posterior_cases,
)
from _timing import Results, add_json_option, interleave, peak_bytes, ratios, versions

from genlabel_plugins import make_backend

POSTERIORS = {"published recipe", "sklearn", "sklearn float32"}  # what gives posteriors, not densities
# The arithmetic that no form can avoid, or the library's own form.
LIMITS = {"product", "full product form", "product + exp2", "product + exp2 + sum", "torch.softmax", "backend nn"}


def report(case: Case, device: str, rounds: int, results: Results) -> None:
    on_cpu = {"published recipe", "sklearn", "sklearn float32", "scipy", "faiss Flat", "EmpiricalCovariance"}
    on_device = frozenset(case.candidates.keys() - on_cpu) if device == "cuda" else frozenset()
    seconds = interleave(case.candidates, rounds=rounds, on_device=on_device)
    ours = sorted(seconds[OURS])[rounds // 2]
    bandwidth = f", {case.n_bytes / ours / 1e9:.0f} GB/s of learnt state" if device == "cuda" else ""
    print(f"{case.title}: {1e3 * ours:.3f} ms{bandwidth}", flush=True)
    for name in list(case.candidates)[1:]:
        if name not in LIMITS:
            low, middle, high = ratios(seconds, name, POSTERIOR if name in POSTERIORS else OURS)
            results.add(f"{case.title}: {name}", (low, middle, high))
            bar = case.at_least.get(name, 0.0)
            note = verdict(f">= {bar:g}", middle >= bar) if bar else ""
            print(f"    {name} takes {middle:.2f}x as long [{low:.2f}, {high:.2f}]  {note}")
            if name in POSTERIORS:
                low, middle, high = ratios(seconds, name, COMPILED)
                note = verdict(f">= {bar:g}", middle >= bar) if bar else ""
                print(f"        and {middle:.2f}x as long as compiled [{low:.2f}, {high:.2f}]  {note}")
        else:
            low, middle, high = ratios(seconds, OURS, name)
            results.add(f"{case.title}: {name}", (1 / high, 1 / middle, 1 / low))
            bar = case.at_most.get(name, math.inf)
            note = "" if bar == math.inf else verdict(f"<= {bar:g}", middle <= bar)
            print(f"    genlabel takes {middle:.2f}x as long as the {name} [{low:.2f}, {high:.2f}]  {note}")
            if COMPILED_DENSITY in seconds:
                low, middle, high = ratios(seconds, COMPILED_DENSITY, name)
                print(f"        and compiled {middle:.2f}x [{low:.2f}, {high:.2f}]")


def verdict(bar: str, met: bool) -> str:
    return f"{bar}: {'met' if met else 'MISSED'}"


def report_memory() -> None:
    for n_per_class in (500, 5000, 50_000):
        problem = Problem(20, 10, n_per_class, "cpu")
        kde = make_backend("kde").fit(problem.x, problem.target)
        extra = peak_bytes(lambda kde=kde, query=problem.query: kde.log_prob(query))
        print(f"kde {problem.title}: {extra / 2**20:.1f} MB beyond the learnt state  {verdict('<= 8', extra <= 2**23)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--only", default="", help="run the cases whose title contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    add_json_option(parser)
    arguments = parser.parse_args()
    results = Results(arguments.json)
    torch.set_num_threads(1)
    print(versions("torch", "numpy", "scipy", "scikit-learn"), end="")
    if faiss is None:
        print("; faiss is not installed, its rows are left out: pip install faiss-cpu")
    else:
        faiss.omp_set_num_threads(1)
        print(f", faiss {faiss.__version__}")
    for kind in (gm_cases, kde_cases, nn_cases, intrusion_cases, posterior_cases, moment_cases):
        for case in kind(arguments.device) if matches(kind, arguments.only) else ():
            if arguments.only in case.title:
                report(case, arguments.device, arguments.rounds, results)
    if arguments.only in "kde memory":
        report_memory()
    results.write("torch", "numpy", "scipy", "scikit-learn")


def matches(kind: Callable[..., Any], only: str) -> bool:
    name = {"moment_cases": "fit moments"}.get(kind.__name__, kind.__name__.removesuffix("_cases"))
    return only.startswith(name) or name.startswith(only) or not only


if __name__ == "__main__":
    main()
