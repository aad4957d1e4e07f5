"""Records of finished runs: a line each, written as they finish; whatever is on file is not run again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from genlabel_plugins.paper.scores import MEASURES

KEY = ("experiment", "set", "scheme", "seed")
Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run: schemes of one experiment that are trained together on one split of one set.

    Args:
        experiment: Kind of run, with the settings that its records depend on.
        set: OpenML id, as text, or name of the set.
        seed: Seed of split and training.
        schemes: What is compared.
    """

    experiment: str
    set: str
    seed: int
    schemes: tuple[str, ...]


class Records:
    """Records in a file of JSON lines, `(experiment, set, scheme, seed)` once each.

    A line that a kill cut short is passed over, and its run is one of those that are missing.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[tuple[Any, ...], Record] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
                self.found[tuple(record[part] for part in KEY)] = record
            except (json.JSONDecodeError, KeyError, TypeError):
                continue

    def add(self, records: Iterable[Record]) -> None:
        """Append the records of a run, on disk when this returns."""
        records = list(records)
        torn = self.path.exists() and self.path.stat().st_size > 0 and self.path.read_bytes()[-1:] != b"\n"
        text = "".join(json.dumps(record) + "\n" for record in records)
        with self.path.open("a") as file:
            file.write("\n" * torn + text)
            file.flush()
            os.fsync(file.fileno())
        self.found |= {tuple(record[part] for part in KEY): record for record in records}

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs whose records are not on file, each without the schemes that are."""
        left = []
        for job in jobs:
            schemes = tuple(s for s in job.schemes if (job.experiment, job.set, s, job.seed) not in self.found)
            if schemes:
                left.append(Job(job.experiment, job.set, job.seed, schemes))
        return left

    def run(
        self, jobs: Sequence[Job], perform: Callable[[Job], list[Record]], *, n_jobs: int | None, console: Console
    ) -> None:
        """Run what is missing, on `n_jobs` processes or as `joblib.parallel_config` says; keep each as it finishes."""
        missing = self.missing(jobs)
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(delayed(perform)(job) for job in missing)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(missing))
            for records in done:
                self.add(records)
                progress.advance(task)

    def frame(self) -> pd.DataFrame:
        """All records."""
        return pd.DataFrame(list(self.found.values()), columns=None if self.found else [*KEY, *MEASURES])


def summarize(records: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over seeds of each measure, by experiment, set and scheme; one seed has no spread."""
    measures = [name for name in records.columns if name not in KEY and pd.api.types.is_numeric_dtype(records[name])]
    groups = records.groupby(["experiment", "set", "scheme"], sort=False)[measures]
    mean, spread = groups.mean(), groups.std(ddof=1).add_suffix("_spread")
    return pd.concat([groups.size().rename("n"), mean, spread], axis=1).reset_index()
