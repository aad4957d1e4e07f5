"""Does GenLabel help on small tables? All sets of at most 1,500 rows, against no mixing, mixup and density alone.

    python benchmarks/openml_suite.py --output docs/openml_suite.md

`--short` leaves out the steps that lead to the default. `--stacking` holds the default search to the best single
candidate of its cross-validation instead, and `--parity` compares `GenLabelClassifier(scheme="none")` with
scikit-learn's `LogisticRegression`, both on all sets.

Rows are split 70/30, stratified, once per seed. Each way is `GenLabelClassifierCV` with other options, fitted to the
training rows by each of two scorings; scikit-learn's classifiers stand beside them at their defaults. Test rows are
scored and nothing else. Finished runs are kept in `outputs/` and not repeated. Runs are spread by joblib: `--jobs 8` on
one machine, `joblib.parallel_config(backend="dask")` around `main` on a cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _data import SETS, add_data_option
from _openml_runs import BASELINES, DEFAULT, SCORINGS, WAYS, run, run_fixed, run_parity, run_short, run_stacking
from joblib import Parallel, delayed
from scipy.stats import wilcoxon

from genlabel_plugins.paper.sceptics import SCEPTICS

SEEDS = range(100, 110)  # other splits than those on which the averaging was chosen
MAX_ROWS = 1500
ON_PAR = 5e-4  # difference of means over seeds, in accuracy or nats
RECORDS = {
    run: Path("outputs/openml_suite.jsonl"),
    run_short: Path("outputs/openml_suite_short.jsonl"),
    run_stacking: Path("outputs/stacking.jsonl"),
}
INTRO = """\
{n_sets} OpenML sets of at most {max_rows:,} rows, {n_seeds} splits of 70/30 each, logistic regression
(`python benchmarks/openml_suite.py{short} --seeds {n_seeds}`); {n_artificial} of them are artificial, made by a
formula, and stand apart. A cell gives the share of sets, in per cent, on which the way of its row is higher / on par /
lower than the baseline of its column, by means over the splits (on par: within {on_par:g} points, or hundredths of a
nat); the mean difference in points, or hundredths of a nat, positive where the way is better; and p of Wilcoxon's
signed-rank test over sets. The columns on the right are means over sets ± the spread of that mean over splits; ECE is
the expected calibration error in 15 bins. Each row that begins with + adds to the row above it; the last five are
scikit-learn's classifiers at their defaults."""


def suite() -> list[str]:
    return sorted(SETS.index[SETS.n_rows <= MAX_ROWS])


def records(run: Callable[..., Any], data: Path | None, names: list[str], seeds: range, n_jobs: int) -> pd.DataFrame:
    """Scores of all runs, `(set, seed) x (way, scoring)`; runs that are on file are not repeated."""
    path = RECORDS[run]
    path.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    have = {(record["set"], record["seed"]) for record in done}
    missing = [(name, seed) for seed in seeds for name in names if (name, seed) not in have]
    runs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(run)(data, name, seed) for name, seed in missing
    )
    with path.open("a") as file:
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
    artificial = set(names) & set(SETS.index[SETS.simulated != "no"])
    is_artificial = frame.index.get_level_values("set").isin(artificial)
    parts = {"real": frame[~is_artificial], "artificial": frame[is_artificial]}
    ways = [way for way in WAYS if f"{way}|accuracy" in frame]
    short = "" if len(ways) == len(WAYS) else " --short"
    counts = {"short": short, "n_sets": len(names), "n_artificial": len(artificial), "n_seeds": len(seeds)}
    lines = [
        "# GenLabel by cross-validation on small tables",
        "",
        "The schemes of the paper on these sets, with ranks, Elo and temperature scaling: `genlabel paper table3`,",
        "whose results stand in [the paper, reproduced](paper.md).",
        "",
        *INTRO.format(**counts, max_rows=MAX_ROWS, on_par=100 * ON_PAR).splitlines(),
    ]
    for scoring, title in (("accuracy", "accuracy"), ("neg_log_loss", "log-loss")):
        for kind, part in parts.items():
            if not len(part):
                continue
            n_sets = len(part.index.unique("set"))
            against = [f"against {baseline}" for baseline in BASELINES]
            lines += [
                "",
                f"## {n_sets} {kind} sets, chosen and compared by {title}",
                "",
                f"| way | {' | '.join([*against, 'accuracy, %', 'log-loss, nats', 'ECE, %'])} |",
                "|---" * 7 + "|",
            ]
            for way in (*ways, *SCEPTICS):
                cells = [compare(part, way, baseline, scoring) if way != baseline else "" for baseline in BASELINES]
                lines.append(f"| {way} | {' | '.join(cells + means(part, way, scoring))} |")
    lines += ["", "## The default against scikit-learn's classifiers, and split by split", ""]
    against = [*SCEPTICS, *BASELINES]
    lines += [f"| sets, splits, scoring | {' | '.join(against)} |", "|---" * (1 + len(against)) + "|"]
    for kind, part in parts.items():
        by_seed = {f"split {seed}": part[part.index.get_level_values("seed") == seed] for seed in seeds}
        for title, some in ({"all": part} | by_seed).items() if len(part) else ():
            for scoring in SCORINGS:
                cells = [compare(some, DEFAULT, baseline, scoring) for baseline in against]
                lines.append(f"| {kind}, {title}, {scoring} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def stacking(frame: pd.DataFrame) -> str:
    """The default search held to the best single candidate of its cross-validation, by log-loss."""
    loss = pd.DataFrame({name: frame[name].str[1] for name in ("stack", "best")})
    by_set = loss.groupby("set").mean()
    excess = by_set["stack"] / by_set["best"] - 1
    least = excess <= 0
    worst = ", ".join(f"{name} {100 * value:+.1f} %" for name, value in excess.nlargest(5).items())
    lines = [
        f"{len(by_set)} sets, {len(frame.index.unique('seed'))} splits: log-loss of the default search relative to",
        "that of the single candidate that is best in its cross-validation, by means over the splits",
        "",
        f"not above: {100 * least.mean():.1f} % of sets ± {100 * least.std() / len(least) ** 0.5:.1f}",
        f"equal: {100 * (excess == 0).mean():.1f} %; over 5 % above: {int((excess > 0.05).sum())} sets",
        f"greatest: {worst}",
        f"mean over sets: {by_set['stack'].mean():.4f} against {by_set['best'].mean():.4f} nats",
    ]
    shares = [f"{100 * (some['stack'] <= some['best']).mean():.1f}" for _, some in loss.groupby("seed")]
    return "\n".join([*lines, f"not above, split by split: {', '.join(shares)} %"])


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
    parser.add_argument("--short", action="store_true", help="the default and its baselines only")
    parser.add_argument("--stacking", action="store_true", help="hold the default to its best single candidate")
    parser.add_argument("--parity", action="store_true", help="print how far no mixing is from LogisticRegression")
    parser.add_argument("--output", type=Path, help="also write the tables as a Markdown page")
    args = parser.parse_args()
    if args.parity:
        print(parity(args.data, args.sets or sorted(SETS.index), args.jobs))
        return
    seeds = SEEDS[: args.seeds]
    if args.stacking:
        names = args.sets or sorted(SETS.index)
        print(stacking(records(run_stacking, args.data, names, seeds, args.jobs)))
        return
    names = args.sets or suite()
    if args.fixed:
        print(fixed(args.data, names, seeds, args.jobs))
        return
    text = page(records(run_short if args.short else run, args.data, names, seeds, args.jobs), names)
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
