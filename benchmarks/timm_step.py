"""Cost of a whole training step under GenLabel, against the same step under timm's Mixup.

All ways run interleaved in one process, each on a model of its own with the same weights, in CPU time of the process:
other work on the machine shifts all of them alike. Run:

    OMP_NUM_THREADS=1 python benchmarks/timm_step.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from _timing import Results, add_json_option, ratios
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy

from genlabel_timm import GenLabelCriterion, GenLabelMixup

CLASSES = 10


def training_step(args: argparse.Namespace, way: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    torch.manual_seed(0)
    model = timm.create_model(args.model, num_classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion: Any = SoftTargetCrossEntropy()
    mixup: Any = Mixup(mixup_alpha=1.0, num_classes=CLASSES)
    if way != "timm Mixup":
        mixup = GenLabelMixup(mixup_alpha=1.0, num_classes=CLASSES, stats_every=8 if "8" in way else 1).attach(model)
        if "criterion" in way:
            criterion = GenLabelCriterion(criterion, mixup)
        if "reused" in way:  # statistics once, then features of the training forward only
            mixup.relabeling.stats_every = 10**9

    def step(x: torch.Tensor, target: torch.Tensor) -> None:
        x, y = mixup(x, target)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    ways = {
        "timm Mixup": None,
        "criterion, features reused": 2,
        "criterion, clean pass every 8 steps": 8,
        "criterion, clean pass every step": 45,
        "mixup alone, every step": None,
        "mixup alone, every 8 steps": None,
    }
    steps = {way: training_step(args, way) for way in ways}
    x, target = torch.randn(args.batch, 3, args.size, args.size), torch.arange(args.batch) % CLASSES
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for step in steps.values():
        step(x.clone(), target)  # warm-up; the first clean pass
    for round_ in range(args.rounds):
        total = dict.fromkeys(ways, 0.0)
        for i in range(8):  # one period of stats_every=8
            for way in ways if i % 2 else reversed(ways):
                np.random.seed(8 * round_ + i)  # noqa: NPY002 (timm draws from the global generator)
                batch = x.clone()
                start = time.process_time()
                steps[way](batch, target)
                total[way] += time.process_time() - start
        for way, spent in total.items():
            seconds[way].append(spent / 8)
    print(f"{args.model}, {args.batch} images of {args.size} px, {args.rounds} rounds of 8 steps")
    for way, bar in ways.items():
        low, middle, high = (100 * (ratio - 1) for ratio in ratios(seconds, way, "timm Mixup"))
        results.add(f"timm Mixup / {way}", ratios(seconds, "timm Mixup", way))
        spread = f"{middle:+6.1f} % ({low:+.1f} to {high:+.1f})"
        print(
            f"{way:38}{1000 * statistics.median(seconds[way]):8.0f} ms {spread:28}" + (f" bar {bar} %" if bar else "")
        )
    results.write("torch", "timm")


if __name__ == "__main__":
    main()
