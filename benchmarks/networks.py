"""Do labels help networks? Real tables of at most 1,500 rows: no mixing, mixup, GenLabel, and a forest that teaches.

    python benchmarks/networks.py --data ../shared/data --output docs/networks.md

Rows are split 70/30, stratified, once per seed; each way chooses its learning rate and weight decay by the log-loss of
the same 30 % of the training rows, and is then trained on all of them. Test rows are scored and nothing else. The sets
come in an order drawn once, so that the first few are a fair sample. Finished runs are kept in
`outputs/networks.jsonl` and not repeated. Runs of the head take half a minute of one core, in pytorch-tabular minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from _network_runs import CLEAN, EVIDENCE, FOREST, IN_HOSTS, MLP, NONE, TABULAR, TAUGHT, WAYS, run
from joblib import Parallel, delayed
from scipy.stats import wilcoxon

MAX_ROWS = 1500
SEEDS = range(100, 110)
RECORDS = Path("outputs/networks.jsonl")
HOSTS = ("CategoryEmbedding", "GANDALF", "FTTransformer")
MODELS = ("mlp", *HOSTS)
MEASURES = {"accuracy": "accuracy, %", "log_loss": "log-loss", "scaled": "log-loss at its temperature"}


def suite(data: Path) -> list[str]:
    """Names of the real sets, shuffled once."""
    index = pd.read_csv(data / "index.csv")
    names = sorted(index.loc[(index.n_rows <= MAX_ROWS) & (index.simulated == "no"), "name"])
    return list(np.random.default_rng(0).permutation(names))


def records(
    data: Path, names: list[str], seeds: range, models: Iterable[str], n_jobs: int, *, running: bool = True
) -> pd.DataFrame:
    """Records of all runs; those that are on file are not repeated, and all there are if none is to run."""
    RECORDS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    have = {(record["set"], record["seed"], record["model"], record["way"]) for record in done}
    missing = []
    for model in models:
        for seed in seeds:
            for name in names:
                titles = {FOREST: [FOREST], "mlp": list(WAYS)}.get(model, list(IN_HOSTS))
                titles = [title for title in titles if (name, seed, model, title) not in have]
                if titles and running:
                    effort = MLP if model == "mlp" else TABULAR
                    missing.append(delayed(run)(data, name, seed, model=model, titles=titles, effort=effort))
    runs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(missing)
    with RECORDS.open("a") as file:
        for count, found in enumerate(runs, 1):
            done += found
            file.writelines(json.dumps(record) + "\n" for record in found)
            file.flush()
            print(f"\r{count} of {len(missing)} runs", end="", file=sys.stderr)
    frame = pd.DataFrame(done)
    return frame[frame.set.isin(names) & frame.seed.isin(seeds) & frame.model.isin([*models])]


def by_set(frame: pd.DataFrame, model: str, way: str, *, chosen: bool = True) -> pd.DataFrame:
    """Scores of a way on each set, means over the splits."""
    kept = frame[(frame.model == model) & (frame.way == way) & (frame.chosen == chosen)]
    return kept.groupby("set")[list(MEASURES)].mean()


def compare(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, float]:
    """How a way stands beside a baseline, set by set."""
    a, b = a.align(b, join="inner", axis=0)
    difference = a - b
    p = 1.0 if not difference.log_loss.any() else wilcoxon(difference.log_loss).pvalue
    return {
        "sets": len(a),
        "lower": 100 * (difference.log_loss < 0).mean(),
        "drop": 100 * (1 - a.log_loss.mean() / b.log_loss.mean()),
        "points": 100 * difference.accuracy.mean(),
        "p": p,
    }


def table(frame: pd.DataFrame, model: str, *, chosen: bool) -> list[str]:
    """Means over sets of each way, and how it stands beside mixup with the clean batch."""
    baseline = by_set(frame, model, CLEAN, chosen=chosen)
    head = [*MEASURES.values(), "log-loss beside mixup, clean batch", "lower on, % of sets", "p"]
    lines = ["| way | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    rows = [(way, by_set(frame, model, way, chosen=chosen)) for way in WAYS]
    rows.append((FOREST, by_set(frame, FOREST, FOREST, chosen=chosen)))
    for way, found in rows:
        if found.empty:
            continue
        found = found.loc[found.index.intersection(baseline.index)]  # noqa: PLW2901
        cells = [f"{100 * found.accuracy.mean():.1f}", f"{found.log_loss.mean():.3f}", f"{found.scaled.mean():.3f}"]
        if way != CLEAN:
            seen = compare(found, baseline)
            cells += [f"{-seen['drop']:+.1f} %", f"{seen['lower']:.0f}", f"{seen['p']:.3f}"]
        lines.append(f"| {way} | " + " | ".join([*cells, "", "", ""][: len(head)]) + " |")
    return lines


def bars(frame: pd.DataFrame) -> list[str]:
    """What was asked of the labels before they were measured, and what came of it."""
    lines = ["| asked | seen | met |", "|---|---|---|"]

    def row(asked: str, seen: dict[str, float], met: bool) -> None:
        shown = f"log-loss {-seen['drop']:+.1f} %, lower on {seen['lower']:.0f} % of sets, {seen['points']:+.2f} points"
        lines.append(f"| {asked} | {shown} | {'yes' if met else 'no'} |")

    if (frame.model == "mlp").any():
        for way, drop, points in ((EVIDENCE, 8, 0.0), (TAUGHT, 10, 0.5)):
            seen = compare(by_set(frame, "mlp", way), by_set(frame, "mlp", CLEAN))
            bar = f"log-loss -{drop} %, lower on 65 % of sets, +{points:g} points"
            met = seen["drop"] >= drop and seen["lower"] >= 65 and seen["points"] >= points
            row(f"{way}, beside mixup with the clean batch: {bar}", seen, met)
        seen = compare(by_set(frame, "mlp", EVIDENCE), by_set(frame, "mlp", NONE))
        row(f"{EVIDENCE}, beside no mixing: log-loss -20 %", seen, seen["drop"] >= 20)
    for model in HOSTS:
        if (frame.model == model).any():
            seen = compare(by_set(frame, model, EVIDENCE), by_set(frame, model, CLEAN))
            row(f"{model}, {EVIDENCE}, beside mixup: lower on 60 % of sets", seen, seen["lower"] >= 60)
    return lines


def page(frame: pd.DataFrame) -> str:
    lines = []
    for model in MODELS:
        some = frame[frame.model == model]
        if some.empty:
            continue
        counts = f"{some.set.nunique()} sets, {some.seed.nunique()} splits"
        lines += [f"## {model}: {counts}, rates and decays chosen", "", *table(frame, model, chosen=True), ""]
        if model == "mlp":
            lines += [
                "## mlp at its default rate and decay, nothing chosen",
                "",
                *table(frame, model, chosen=False),
                "",
            ]
    return "\n".join([*lines, "## What was asked", "", *bars(frame)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv and tabular/")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="by default all real ones of at most 1,500 rows")
    parser.add_argument("--n-sets", type=int, help="only so many of them, in the order drawn once")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="splits of the mlp head")
    parser.add_argument("--host-seeds", type=int, default=3, help="splits in pytorch-tabular")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="of the records there are, without further runs")
    parser.add_argument("--output", type=Path, help="also write the tables into this page, after the line that says so")
    args = parser.parse_args()
    if not (args.data / "index.csv").exists():
        sys.exit(f"networks needs {args.data / 'index.csv'}: name the folder of the data sets with --data")
    data = args.data.resolve()
    names = (args.sets or suite(data))[: args.n_sets]
    hosts = [model for model in args.models if model != "mlp"]
    how = {"n_jobs": args.jobs, "running": not args.tables}
    frame = records(data, names, SEEDS[: args.seeds], [FOREST, *({"mlp"} & {*args.models})], **how)
    if hosts:
        frame = pd.concat([frame, records(data, names, SEEDS[: args.host_seeds], hosts, **how)])
    text = page(frame)
    print(text)
    if args.output:
        write_below(args.output, text)


def write_below(path: Path, text: str) -> None:
    """Replace what stands on a page below its mark."""
    mark = "<!-- written by the command -->"
    path.write_text(path.read_text().split(mark)[0] + f"{mark}\n\n{text}\n")


if __name__ == "__main__":
    main()
