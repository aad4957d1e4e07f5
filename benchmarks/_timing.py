"""Paired measurements: candidates take turns in each round, so that a busy machine slows all of them alike."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MIN_SECONDS = 0.05  # per candidate and round


def interleave(
    candidates: dict[str, Callable[[], Any]], *, rounds: int = 7, on_device: frozenset[str] = frozenset()
) -> dict[str, list[float]]:
    """Seconds per call of each candidate in each round: CPU time of the process, or device events."""
    clocks = {name: device_seconds if name in on_device else cpu_seconds for name in candidates}
    calls = {}
    for name, call in candidates.items():
        call()
        calls[name] = max(1, int(MIN_SECONDS / max(clocks[name](call, 1), 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            seconds[name].append(clocks[name](call, calls[name]))
    return seconds


def cpu_seconds(call: Callable[[], Any], n_calls: int) -> float:
    """CPU time of the process for one call, averaged."""
    start = time.process_time()
    for _ in range(n_calls):
        call()
    return (time.process_time() - start) / n_calls


def device_seconds(call: Callable[[], Any], n_calls: int) -> float:
    """Time between two CUDA events for one call, averaged."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n_calls):
        call()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1e3 / n_calls


def ratios(seconds: dict[str, list[float]], above: str, below: str) -> tuple[float, float, float]:
    """Least, median and greatest ratio of two candidates, round by round."""
    each = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
    return min(each), median(each), max(each)


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes that the tensors of one call hold at a time on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate(n_bytes for _, n_bytes in changes))


def versions(*names: str) -> str:
    """Versions of installed distributions, in one line."""
    return ", ".join(f"{name} {version(name)}" for name in names)


class Results:
    """Ratios of a run, printed one by one and written as JSON for `benchmarks/compare.py`.

    A ratio is an incumbent's time, memory or loss over ours, so that more is better, whatever the bar asks for.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.ratios: dict[str, dict[str, float]] = {}

    def add(self, name: str, spread: tuple[float, float, float]) -> None:
        """Note the least, median and greatest ratio, the incumbent's over ours."""
        self.ratios[name] = dict(zip(("least", "median", "greatest"), spread, strict=True))

    def write(self, *packages: str) -> None:
        """Write the JSON, if a path was given."""
        if self.path is not None:
            about = {"machine": platform.machine(), "threads": torch.get_num_threads()}
            about |= {name: version(name) for name in packages}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"about": about, "ratios": self.ratios}, indent=2) + "\n")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option `--json`."""
    parser.add_argument("--json", type=Path, help="write the ratios here, for benchmarks/compare.py")
