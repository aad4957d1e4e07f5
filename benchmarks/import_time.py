"""The package and its command line, each against what it cannot do without, in fresh interpreters that take turns.

    python benchmarks/import_time.py --rounds 11

CPU time of the whole process, user and system, so that a busy machine slows both alike. The goals are median ratios of
at most 1.15 for `GenLabel` against torch, and of at most 1.2 for `genlabel --version` and `--help` against a typer
application of one empty command; `python -X importtime -c "import genlabel_plugins"` shows where the rest goes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from _timing import Results, add_json_option, ratios, versions

EMPTY = "import rich.console, sys, typer; sys.argv[1:] = {}; app = typer.Typer(); app.command()(lambda: None); app()"
OURS = "import sys; sys.argv[1:] = [{!r}]; from genlabel_plugins.cli import main; main()"
CANDIDATES = {
    "torch": "import torch",
    "genlabel_plugins": "from genlabel_plugins import GenLabel",
    "an empty command": EMPTY.format([]),
    "--version": OURS.format("--version"),
    "empty --help": EMPTY.format(["--help"]),
    "--help": OURS.format("--help"),
}
PAIRS = (
    ("genlabel_plugins", "torch", 1.15),
    ("--version", "an empty command", 1.2),
    ("--help", "empty --help", 1.2),
)


def import_seconds(code: str) -> float:
    """CPU time of a fresh interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    for code in CANDIDATES.values():  # so that files are in the system's cache and compiled
        import_seconds(code)
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(args.rounds):
        for name, code in CANDIDATES.items():
            seconds[name].append(import_seconds(code))
    print(versions("torch", "numpy", "typer", "rich"))
    for name, each in seconds.items():
        print(f"{name:16} {sorted(each)[len(each) // 2]:.2f} s")
    for ours, theirs, goal in PAIRS:
        least, middle, most = ratios(seconds, ours, theirs)
        print(f"{ours} / {theirs}: {middle:.3f} ({least:.3f} to {most:.3f}), {args.rounds} rounds; the goal is {goal}")
        results.add(f"{theirs} / {ours}", ratios(seconds, theirs, ours))
    results.write("torch", "numpy", "typer", "rich")


if __name__ == "__main__":
    main()
