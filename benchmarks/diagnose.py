"""How long `genlabel diagnose` takes: the whole command, on a made table of 1,000 rows, 20 columns and 3 classes.

    python benchmarks/diagnose.py

CPU time of the whole command, user and system, so that a busy machine does not count; imports are part of it. Then what
`--time-limit` promises: seconds on the wall from the end of the imports to the end of the command.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd
from _timing import Results, add_json_option
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification

BAR = 60  # seconds
ALL = "flow,gan,gm,kde,mixed_types,nn,vae"
BACKENDS = {"the default": [], "all": ["--backends", ALL, "--time-limit", "10000"]}
LIMITS = (3, 5, 10, 30, 60)
TIMED = """
import sys, time, jinja2, matplotlib.figure, genlabel_plugins.cli._screen, genlabel_plugins.diagnostics
from genlabel_plugins.cli._app import app
begin = time.perf_counter()
try:
    app()
finally:
    print(time.perf_counter() - begin, file=sys.stderr)
"""


def seconds(folder: Path, options: list[str]) -> float:
    """CPU time of one command."""
    command = [sys.executable, "-m", "genlabel_plugins.cli", "diagnose", "table.csv", "--target", "y"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--out", "report.html", *options], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def seconds_within(folder: Path, limit: float) -> float:
    """Time on the wall of one command with this time limit."""
    command = [sys.executable, "-c", TIMED, "diagnose", "table.csv", "--target", "y", "--out", "report.html"]
    done = subprocess.run(
        [*command, "--time-limit", str(limit)], cwd=folder, check=True, capture_output=True, text=True
    )
    return float(done.stderr.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    table = Table("backends", "CPU time, s: median", "least to greatest", title=f"1,000 x 20, 3 classes; bar {BAR} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        X, y = make_classification(1000, 20, n_informative=8, n_classes=3, random_state=0)
        pd.DataFrame(X).add_prefix("x").assign(y=y).to_csv(folder / "table.csv", index=False)
        for backends, options in BACKENDS.items():
            each = [seconds(folder, options) for _ in range(args.rounds)]
            results.add(backends, (BAR / max(each), BAR / median(each), BAR / min(each)))
            table.add_row(backends, f"{median(each):.0f}", f"{min(each):.0f} to {max(each):.0f}")
        limits = Table("--time-limit, s", "taken, s: median", "least to greatest", title="at most a tenth more")
        for limit in LIMITS:
            each = [seconds_within(folder, limit) for _ in range(args.rounds)]
            results.add(f"--time-limit {limit}", (limit / max(each), limit / median(each), limit / min(each)))
            limits.add_row(str(limit), f"{median(each):.1f}", f"{min(each):.1f} to {max(each):.1f}")
    Console(width=100).print(table, limits)
    results.write("torch", "scikit-learn")


if __name__ == "__main__":
    main()
