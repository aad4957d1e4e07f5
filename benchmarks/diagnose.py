"""How long `genlabel diagnose` takes: the whole command, on a made table of 1,000 rows, 20 columns and 3 classes.

    python benchmarks/diagnose.py

All backends that are installed are scored, the slowest of them on what the command's own time limit leaves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification

BAR = 60  # seconds
BACKENDS = {"all": [], "gm, kde, nn": ["--backends", "gm,kde,nn"]}


def seconds(folder: Path, options: list[str]) -> float:
    """Wall time of one command."""
    command = [sys.executable, "-m", "genlabel_plugins.cli", "diagnose", "table.csv", "--target", "y"]
    begin = time.perf_counter()
    subprocess.run([*command, "--out", "report.html", *options], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = Table("backends", "wall time, s: median", "least to greatest", title=f"1,000 x 20, 3 classes; bar {BAR} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        X, y = make_classification(1000, 20, n_informative=8, n_classes=3, random_state=0)
        pd.DataFrame(X).add_prefix("x").assign(y=y).to_csv(folder / "table.csv", index=False)
        for backends, options in BACKENDS.items():
            each = [seconds(folder, options) for _ in range(args.rounds)]
            table.add_row(backends, f"{median(each):.0f}", f"{min(each):.0f} to {max(each):.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
