"""Joint training (Algorithm 3) on few digits: gamma, beta, warm-up and keep_clean against accuracy and collapse.

    python -m benchmarks.mnist_low_data --images 300 1000 --seeds 5
    python -m benchmarks.mnist_low_data --images 300 --tuned

Tuned, each way has the learning rate and the weight decay of the least log-loss on a fifth of its training images, and
is then trained on all of them. Every finished run is a line of `--out`; a second call continues where the first was
interrupted.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.data import Mixup

from examples.demo import digits, train
from genlabel_timm import GenLabelMixup

MIXUP = {"mixup_alpha": 1.0, "label_smoothing": 0.0, "num_classes": 10}
SETTINGS: list[dict[str, Any]] = [
    {"scheme": "vanilla"},
    {"scheme": "mixup"},
    {"scheme": "genlabel", "gamma": 0.0, "keep_clean": True},  # mixup beside the clean batch
    *({"scheme": "genlabel", "gamma": g, "beta": b} for g in (0.3, 0.5, 0.7, 1.0) for b in (0.5, 0.9, 0.99)),
    *({"scheme": "genlabel", "gamma": g, "beta": 0.9, "warmup_steps": 60} for g in (0.3, 0.5, 1.0)),
    *({"scheme": "genlabel", "gamma": g, "beta": 0.9, "keep_clean": True} for g in (0.3, 0.5, 0.7, 1.0)),
]
WAYS: list[dict[str, Any]] = [  # of which each chooses its learning rate and weight decay
    *SETTINGS[:3],
    *({"scheme": "genlabel", "gamma": 0.5, "keep_clean": keep_clean} for keep_clean in (False, True)),
    {"scheme": "genlabel", "gamma": 1.0, "keep_clean": True},
]
LEARNING_RATES, WEIGHT_DECAYS = (1e-3, 3e-3, 1e-2), (0.05, 0.5)
HELD_OUT = 0.2  # of the training images


def make_mixup(model: Any) -> Mixup:
    return Mixup(**MIXUP)


def make_genlabel(model: Any, **options: Any) -> GenLabelMixup:
    return GenLabelMixup(**MIXUP, **options).attach(model)


def run(setting: dict[str, Any], n_train: int, seed: int, *, tuned: bool = False) -> dict[str, Any]:
    """One training, at what was chosen for it if it is tuned; what is worth keeping of it."""
    torch.set_num_threads(1)
    options = dict(setting)
    scheme, keep_clean = options.pop("scheme"), options.pop("keep_clean", False)
    make = {"vanilla": None, "mixup": make_mixup, "genlabel": partial(make_genlabel, **options)}[scheme]
    kept = {"keep_clean": keep_clean} if scheme == "genlabel" else {}
    chosen: dict[str, float] = {}
    if tuned:
        x, target, *_ = digits(n_train, 2000, seed)
        n_judges = int(HELD_OUT * n_train)
        parts = (x[n_judges:], target[n_judges:], x[:n_judges], target[:n_judges])
        tried = [{"learning_rate": rate, "weight_decay": decay} for rate in LEARNING_RATES for decay in WEIGHT_DECAYS]
        chosen = min(tried, key=lambda one: train(make, seed, data=parts, **one, **kept)["log_loss"])
    done = train(make, seed, n_train=n_train, **chosen, **kept)
    report = done["report"] or {}
    return {
        "setting": setting,
        "tuned": tuned,
        **chosen,
        "images": n_train,
        "seed": seed,
        "accuracy": done["accuracy"],
        "log_loss": done["log_loss"],
        "entropy": report.get("entropy"),
        "largest_class_share": max(report["class_share"]) if report.get("class_share") else None,
    }


def main() -> None:
    """Run what is missing, then print one table per training size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 1000], help="training images")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuned", action="store_true", help="choose learning rate and weight decay for each way")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/mnist_low_data.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = [json.loads(line) for line in lines]
    done = [one for one in done if one.get("tuned", False) == args.tuned]
    settings = WAYS if args.tuned else SETTINGS
    wanted = [(s, n, seed) for n in args.images for seed in range(args.seeds) for s in settings]
    missing = [job for job in wanted if job not in [(d["setting"], d["images"], d["seed"]) for d in done]]
    results = Parallel(n_jobs=args.jobs, return_as="generator_unordered")(
        delayed(run)(*job, tuned=args.tuned) for job in missing
    )
    with args.out.open("a") as file:
        for result in track(results, total=len(missing), description="Training"):
            done.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
    for n in args.images:
        columns = ("setting", "accuracy %", "log-loss", "over mixup, same seeds", "y_gen entropy", "largest class")
        table = Table(*columns, title=f"{n} images")
        mixup = {d["seed"]: d["accuracy"] for d in done if d["setting"] == {"scheme": "mixup"} and d["images"] == n}
        for setting in settings:
            runs = [d for d in done if d["setting"] == setting and d["images"] == n]
            cells = [spread([d[key] for d in runs], digits) for key, digits in (("accuracy", 1), ("log_loss", 3))]
            cells.append(spread([d["accuracy"] - mixup[d["seed"]] for d in runs if d["seed"] in mixup], 1))
            cells += [spread([d[key] for d in runs], 2) for key in ("entropy", "largest_class_share")]
            table.add_row(" ".join(f"{k}={v}" if k != "scheme" else v for k, v in setting.items()), *cells)
        Console().print(table)


def spread(values: list[float | None], digits: int) -> str:
    """Mean and standard deviation over seeds."""
    numbers = [v for v in values if v is not None]
    return f"{np.mean(numbers):.{digits}f} ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else "-"


if __name__ == "__main__":
    main()
