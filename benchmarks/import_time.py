"""`import genlabel_plugins` against `import torch` alone, in fresh interpreters that take turns.

    python benchmarks/import_time.py --rounds 11

CPU time of the whole process, user and system, so that a busy machine slows both alike. The goal is a median ratio of
at most 1.15; `python -X importtime -c "import genlabel_plugins"` shows where the rest goes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from _timing import ratios, versions

CANDIDATES = {"torch": "import torch", "genlabel_plugins": "import genlabel_plugins"}


def import_seconds(code: str) -> float:
    """CPU time of a fresh interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    for code in CANDIDATES.values():  # so that files are in the system's cache and compiled
        import_seconds(code)
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(args.rounds):
        for name, code in CANDIDATES.items():
            seconds[name].append(import_seconds(code))
    least, middle, most = ratios(seconds, "genlabel_plugins", "torch")
    print(versions("torch", "numpy"))
    for name, each in seconds.items():
        print(f"import {name:16} {sorted(each)[len(each) // 2]:.2f} s")
    print(f"ratio {middle:.3f} ({least:.3f} to {most:.3f}) over {args.rounds} rounds; the goal is 1.15")


if __name__ == "__main__":
    main()
