"""Compare the ratios of two runs of a benchmark, and flag those that fell by more than a fifth.

    python benchmarks/densities.py --json before.json
    python benchmarks/densities.py --json after.json
    python benchmarks/compare.py before.json after.json

Ratios are those of interleaved candidates of one process, an incumbent's time over ours, so that runs on different days
of a busy machine compare. Ends with 1 if one fell.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def compare(before: dict, after: dict, most: float) -> list[tuple[str, float | None, float | None, str]]:
    """Name, ratio before, ratio after and verdict of each ratio of either run."""
    rows = []
    for name in before["ratios"] | after["ratios"]:
        old, new = (run["ratios"].get(name, {}).get("median") for run in (before, after))
        fell = old is not None and new is not None and new < (1 - most) * old
        rows.append((name, old, new, "FELL" if fell else "only in one" if None in (old, new) else ""))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--most", type=float, default=0.2, help="share by which a ratio may fall")
    args = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (args.before, args.after))
    table = Table("ratio", "before", "after", "change", "")
    rows = compare(before, after, args.most)
    for name, old, new, verdict in rows:
        change = "" if old is None or new is None else f"{100 * (new / old - 1):+.0f} %"
        table.add_row(name, *("" if value is None else f"{value:.2f}" for value in (old, new)), change, verdict)
    console = Console()
    console.print(table)
    for key in before["about"] | after["about"]:
        old, new = (run["about"].get(key) for run in (before, after))
        if old != new:
            console.print(f"{key}: {old} before, {new} after")
    sys.exit(any(verdict == "FELL" for *_, verdict in rows))


if __name__ == "__main__":
    main()
