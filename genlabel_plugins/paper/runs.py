"""Runs: what a job does, by the kind of its experiment."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genlabel_plugins.paper.data import Rows, load_table, sets, split
from genlabel_plugins.paper.images import fit_images
from genlabel_plugins.paper.logistic import fit_logistic
from genlabel_plugins.paper.networks import Training, fit_network
from genlabel_plugins.paper.overtraining import curve
from genlabel_plugins.paper.records import Job, Record
from genlabel_plugins.paper.robustness import robust_accuracy
from genlabel_plugins.paper.sceptics import SCEPTICS, fit_sceptic
from genlabel_plugins.paper.schemes import SCHEMES
from genlabel_plugins.paper.scores import Predictions, score
from genlabel_plugins.paper.synthetic import SYNTHETIC


def perform(job: Job, data: Path | None, quick: bool) -> list[Record]:
    """Run a job on one thread; its records, one for each scheme."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products: threads wait for one another
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with few rows, which the paper's densities leave as they are
            kind, _, setting = job.experiment.partition(", ")
            found = KINDS[kind](job, setting, data, quick)
    finally:
        torch.set_num_threads(threads)
    head = {"experiment": job.experiment, "set": job.set, "seed": job.seed}
    return [head | {"scheme": scheme} | measures for scheme, measures in found.items()]


def rows_of(job: Job, data: Path | None) -> Rows:
    """The split of a job."""
    drawn = SYNTHETIC[job.set](job.seed) if job.set in SYNTHETIC else load_table(int(job.set), data)
    return split(*drawn, job.seed)


def _logistic(job: Job, setting: str, data: Path | None, quick: bool) -> dict[str, Record]:
    """Setting: `alpha 1`."""
    rows, alpha = rows_of(job, data), float(setting.removeprefix("alpha "))
    alone = [name for name in job.schemes if name in SCHEMES and SCHEMES[name].label == "adamixup"]
    stacked = [name for name in job.schemes if name in SCHEMES and name not in alone]
    start = time.process_time()
    predicted = fit_logistic(rows, stacked, alpha=alpha, seed=job.seed, quick=quick) if stacked else {}
    found = _scored(predicted, rows, start)
    training = Training(hidden=(), alpha=alpha)
    for name in [name for name in job.schemes if name not in stacked]:
        start = time.process_time()
        if name in SCEPTICS:
            one = fit_sceptic(rows, name, job.seed, quick=quick)
        else:
            one = fit_network(rows, name, training.quick() if quick else training, seed=job.seed).predictions
        found |= _scored({name: one}, rows, start)
    return found


def _network(job: Job, setting: str, data: Path | None, quick: bool) -> dict[str, Record]:
    """Setting: `relu` or `no relu`."""
    training = replace(TRAININGS.get(job.set, Training()), relu=setting == "relu")
    rows = rows_of(job, data)
    found: dict[str, Record] = {}
    for name in job.schemes:
        start = time.process_time()
        done = fit_network(rows, name, training.quick() if quick else training, seed=job.seed)
        found |= _scored({name: done.predictions}, rows, start)
    return found


def _robust(job: Job, setting: str, data: Path | None, quick: bool) -> dict[str, Record]:
    """Setting: `1000 steps`."""
    rows = rows_of(job, data)
    found: dict[str, Record] = {}
    steps = int(setting.removesuffix(" steps"))
    for name in job.schemes:
        start = time.process_time()
        training = Training().quick() if quick else Training()
        done = fit_network(rows, name, training, seed=job.seed)
        found |= _scored({name: done.predictions}, rows, start)
        found[name] |= robust_accuracy(done, rows, steps=steps, seed=job.seed, n_rows=8 if quick else None)
    return found


def _images(job: Job, setting: str, data: Path | None, quick: bool) -> dict[str, Record]:
    """Setting: none."""
    del setting
    return {name: fit_images(job.set, name, data, seed=job.seed, quick=quick) for name in job.schemes}


def _epochs(job: Job, setting: str, data: Path | None, quick: bool) -> dict[str, Record]:
    """Setting: `2000`, the epochs."""
    return {name: curve(job.set, name, data, n_epochs=int(setting), seed=job.seed, quick=quick) for name in job.schemes}


def _scored(predicted: dict[str, Predictions], rows: Rows, start: float) -> dict[str, Record]:
    seconds = round(time.process_time() - start, 3)
    return {name: score(one, rows.y_test) | {"seconds": seconds} for name, one in predicted.items()}


KINDS: dict[str, Callable[[Job, str, Path | None, bool], dict[str, Any]]] = {
    "logistic regression": _logistic,
    "FC net": _network,
    "attacked": _robust,
    "images": _images,
    "epochs": _epochs,
}
# The paper's settings for its 9-class set; cross-validation is for the others.
TRAININGS = {
    "9-class Gaussian": Training(
        hidden=(64, 128, 128), epochs=10, vanilla_epochs=3, batch_size=1000, alpha=2.0, learning_rates=(0.001,)
    )
}


def balanced_sets() -> list[int]:
    """The 13 sets of Table 5: fewer than 500 rows, fewer than 20 features, equally many rows of each class."""
    known = sets()
    chosen = known[(known.n_rows < 500) & (known.n_features < 20) & (known.least == known.most)]
    return [int(openml_id) for openml_id in chosen.index]
