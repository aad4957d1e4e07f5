"""Does GenLabel help on small tables? All sets of at most 1,500 rows, against no mixing, mixup and density alone.

    python benchmarks/openml_suite.py --output docs/openml_suite.md

`--parity` compares `GenLabelClassifier(scheme="none")` with scikit-learn's `LogisticRegression` instead, on all sets.

Rows are split 70/30, stratified, once per seed. Each way is `GenLabelClassifierCV` with other options, fitted to the
training rows by each of two scorings. Test rows are scored and nothing else. Finished runs are kept in
`outputs/openml_suite.jsonl` and not repeated. Runs are spread by joblib: `--jobs 8` on one machine,
`joblib.parallel_config(backend="dask")` around `main` on a cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from _data import SETS, add_data_option
from _openml_runs import REFERENCE, SCORINGS, WAYS, run, run_fixed, run_parity
from joblib import Parallel, delayed
from scipy.stats import wilcoxon

SEEDS = range(100, 110)  # other splits than those on which the averaging was chosen
MAX_ROWS = 1500
ON_PAR = 5e-4  # difference of means over seeds, in accuracy or nats
RECORDS = Path("outputs/openml_suite.jsonl")
INTRO = """\
{n_sets} OpenML sets of at most {max_rows:,} rows, {n_seeds} splits of 70/30 each, logistic regression
(`python benchmarks/openml_suite.py`). A cell gives the share of sets, in per cent, on which the way of its row is
higher / on par / lower than the baseline of its column, by means over the splits (on par: within {on_par:g} points,
or hundredths of a nat); the mean difference in points, or hundredths of a nat, positive where the way is better; and
p of Wilcoxon's signed-rank test over sets. The second tables give means over sets ± the spread of that mean over
splits; ECE is the expected calibration error in 15 bins. Each row that begins with + adds to the row above it."""
BASELINES = ("mixup", "no mixing", "density alone (gm)")
DEFAULT = "+ stacking: the default"


def suite() -> list[str]:
    return sorted(SETS.index[SETS.n_rows <= MAX_ROWS])


def records(data: Path | None, names: list[str], seeds: range, n_jobs: int) -> pd.DataFrame:
    """Scores of all runs, `(set, seed) x (way, scoring)`; runs that are on file are not repeated."""
    RECORDS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    have = {(record["set"], record["seed"]) for record in done}
    missing = [(name, seed) for seed in seeds for name in names if (name, seed) not in have]
    runs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(run)(data, name, seed) for name, seed in missing
    )
    with RECORDS.open("a") as file:
        for count, record in enumerate(runs, 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            done.append(record)
            print(f"\r{count} of {len(missing)} runs", end="", file=sys.stderr)
    kept = [record for record in done if record["set"] in names and record["seed"] in seeds]
    return pd.DataFrame(kept).set_index(["set", "seed"])


def compare(frame: pd.DataFrame, way: str, baseline: str, scoring: str) -> str:
    """Higher / on par / lower in per cent of the sets, mean difference and p of Wilcoxon's test over sets."""
    measure, sign = (0, 1) if scoring == "accuracy" else (1, -1)
    a, b = (frame[f"{title}|{scoring}"].str[measure].groupby("set").mean() * sign for title in (way, baseline))
    difference = a - b
    shares = [(difference > ON_PAR).mean(), (difference.abs() <= ON_PAR).mean(), (difference < -ON_PAR).mean()]
    p = 1.0 if not difference.any() else wilcoxon(difference).pvalue
    shown = " / ".join(f"{100 * share:.0f}" for share in shares)
    return f"{shown}, {100 * difference.mean():+.2f}, p {p:{'.0e' if p < 1e-3 else '.3f'}}"


def means(frame: pd.DataFrame, way: str, scoring: str) -> list[str]:
    """Mean over sets of accuracy, log-loss and calibration error, with the spread of that mean over seeds."""
    by_seed = np.stack(frame[f"{way}|{scoring}"].groupby("seed").apply(lambda runs: np.mean(runs.tolist(), 0)))
    mean, spread = by_seed.mean(0), by_seed.std(0, ddof=1) if len(by_seed) > 1 else by_seed[0] * 0
    return [
        f"{100 * mean[0]:.2f} ± {100 * spread[0]:.2f}",
        f"{mean[1]:.4f} ± {spread[1]:.4f}",
        f"{100 * mean[2]:.1f} ± {100 * spread[2]:.1f}",
    ]


def page(frame: pd.DataFrame, names: list[str]) -> str:
    seeds = sorted(frame.index.unique("seed"))
    lines = [
        "# GenLabel by cross-validation on small tables",
        "",
        "scikit-learn's classifiers beside these ways, real and artificial sets apart, with ranks and Elo:",
        "`genlabel paper table3`, whose results stand in [the paper, reproduced](paper.md).",
        "",
        *INTRO.format(n_sets=len(names), max_rows=MAX_ROWS, n_seeds=len(seeds), on_par=100 * ON_PAR).splitlines(),
        "",
    ]
    for scoring, title in (("accuracy", "accuracy"), ("neg_log_loss", "log-loss")):
        lines += [
            f"## Chosen and compared by {title}",
            "",
            "| way | " + " | ".join(f"against {b}" for b in BASELINES) + " |",
            "|---" * 4 + "|",
        ]
        for way in (*WAYS, REFERENCE):
            cells = [compare(frame, way, baseline, scoring) if way != baseline else "" for baseline in BASELINES]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
        lines += ["", "| way | accuracy, % | log-loss, nats | ECE, % |", "|---" * 4 + "|"]
        lines += [f"| {way} | " + " | ".join(means(frame, way, scoring)) + " |" for way in (*WAYS, REFERENCE)]
        lines.append("")
    half = frame[frame.index.get_level_values("set").isin(names[1::2])]
    lines += [
        "## The half of the sets that nothing was chosen on",
        "",
        "The rule of the averaging was chosen among several on other splits of every other set, in alphabetical order.",
        "The default on the rest:",
        "",
        *default_table({"": half}),
        "",
        "## How much is luck of the splits",
        "",
        "The default on all sets, five splits at a time:",
        "",
        *default_table(
            {
                f", splits {some[0]} to {some[-1]}": frame[frame.index.get_level_values("seed").isin(some)]
                for some in (seeds[first : first + 5] for first in range(0, len(seeds), 5))
            }
        ),
        "",
    ]
    return "\n".join(lines)


def default_table(parts: dict[str, pd.DataFrame]) -> list[str]:
    """The default against the baselines on each part of the runs, named by what its scoring is followed by."""
    return [
        "| scoring | " + " | ".join(f"against {b}" for b in BASELINES) + " |",
        "|---" * 4 + "|",
        *(
            f"| {scoring}{title} | " + " | ".join(compare(part, DEFAULT, b, scoring) for b in BASELINES) + " |"
            for scoring in SCORINGS
            for title, part in parts.items()
        ),
    ]


def fixed(data: Path | None, names: list[str], seeds: range, n_jobs: int) -> str:
    """Mean accuracy and log-loss with settings that nobody chose, by gamma, with and without the clean batch."""
    runs = Parallel(n_jobs=n_jobs)(delayed(run_fixed)(data, name, seed) for seed in seeds for name in names)
    found = pd.DataFrame([row for rows in runs for row in rows], columns=["way", "clean", "accuracy", "log-loss"])
    table = found.groupby(["way", "clean"], sort=False).mean().unstack("clean")
    lines = ["| learning rate 0.1 | accuracy, % | + clean batch | log-loss | + clean batch |", "|---" * 5 + "|"]
    for way, (a, b, c, d) in zip(table.index, table.to_numpy(), strict=True):
        cells = [f"{100 * a:.2f}", f"{100 * b:.2f}", f"{c:.3f}", f"{d:.3f}"]
        lines.append(f"| {way} | " + " | ".join("" if cell == "nan" else cell for cell in cells) + " |")
    return "\n".join(lines)


def parity(data: Path | None, names: list[str], n_jobs: int) -> str:
    """Greatest differences from `LogisticRegression`, by C, over sets."""
    runs = Parallel(n_jobs=n_jobs)(delayed(run_parity)(data, name) for name in names)
    found = pd.DataFrame([row for rows in runs for row in rows], columns=["set", "C", "coefficient", "loss"])
    lines = [f"{len(names)} sets", "", "| C | greatest difference of a coefficient | of the loss |", "|---" * 3 + "|"]
    for C, some in found.groupby("C"):
        coef, loss = (some.loc[some[name].idxmax()] for name in ("coefficient", "loss"))
        lines.append(f"| {C:g} | {coef.coefficient:.1e} ({coef.set}) | {loss.loss:.1e} ({loss.set}) |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="by default all of at most 1,500 rows, or all")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--fixed", action="store_true", help="print what each gamma brings at a learning rate of 0.1")
    parser.add_argument("--parity", action="store_true", help="print how far no mixing is from LogisticRegression")
    parser.add_argument("--output", type=Path, help="also write the tables as a Markdown page")
    args = parser.parse_args()
    if args.parity:
        print(parity(args.data, args.sets or sorted(SETS.index), args.jobs))
        return
    names = args.sets or suite()
    if args.fixed:
        print(fixed(args.data, names, SEEDS[: args.seeds], args.jobs))
        return
    text = page(records(args.data, names, SEEDS[: args.seeds], args.jobs), names)
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
