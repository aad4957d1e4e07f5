"""What labels are worth where rows that were left out have chosen the densities: held-out log-loss on real sets.

    python benchmarks/evidence.py --data ../shared/data --output docs/evidence.md

Each of the real sets of the index, the artificial ones left out, is split 70/30, stratified, by six seeds (two where
it has more than 1,000 rows, of which 2,000 are taken); a split whose training rows lack a class is passed over. The
posterior of each density under equal priors is scored on the test rows, once with `regularization=None`, as before,
and once with `"auto"`. `mixed_types`, of `gm` and frequencies, is scored on the sets in which two columns or more have
at most eight values, which are its categories. The cost of a fit is that of normal rows, the two in turn in one
process. The margins of the choice were set while looking at these sets, by overlapping splits: they are no untouched
test.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _data import SETS, add_data_option, load
from _timing import Results, add_json_option, interleave, ratios
from sklearn.model_selection import train_test_split

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows

BACKENDS = ("gm", "kde", "mixed_types")
FEW = 8  # values of a column that is taken for a category
BIG, MAX_ROWS = 1000, 2000
WORSE = 1.02
SHAPES = ((60, 5, 2), (500, 10, 3), (1400, 6, 10), (2000, 50, 10), (20_000, 20, 10))
COLUMNS = ("loss before", "loss", "accuracy before", "accuracy", "temperature")


def splits(data: Path | None, name: str, n_rows: int):
    """Training rows, test rows and their classes, split by split."""
    x, target = load(data, name)
    for seed in range(2 if n_rows > BIG else 6):
        kept = np.random.default_rng(seed).permutation(len(x))[:MAX_ROWS]
        many = np.bincount(target[kept]).min(initial=2, where=np.bincount(target[kept]) > 0) > 1
        parts = train_test_split(
            x[kept], target[kept], test_size=0.3, random_state=seed, stratify=target[kept] if many else None
        )
        if len(np.unique(parts[2])) == target.max() + 1:
            yield [torch.from_numpy(part) for part in parts]


def with_categories(x, x_test) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Rows for `mixed_types`, and how many categories each column of few values has."""
    both = torch.cat([x, x_test])
    found = [column.unique(return_inverse=True) for column in both.T]
    few = torch.tensor([1 < len(values) <= FEW for values, _ in found])
    numbers = both[:, [len(values) > FEW for values, _ in found]] if (~few).any() else None
    codes = torch.stack([code for _, code in found], 1)[:, few]
    sizes = [len(values) for values, _ in found if 1 < len(values) <= FEW]
    rows = encode_rows(numbers, codes, sizes) if sizes else both
    return rows[: len(x)], rows[len(x) :], sizes


def scores(backend: str, x, x_test, target, target_test) -> list[float] | None:
    """Log-loss and accuracy, before and by evidence, and the temperature; None of a set without categories."""
    found: list[float] = []
    sizes: list[int] = []
    if backend == "mixed_types":
        x, x_test, sizes = with_categories(x, x_test)
        if len(sizes) < 2:
            return None
    for regularization in (None, "auto"):
        options = {"regularization": regularization}
        density = (
            MixedTypes(cardinality=sizes, continuous_params=options) if sizes else make_backend(backend, **options)
        )
        genlabel = GenLabel(density).fit(x, target)
        score = genlabel.log_joint(x_test).double()
        likelihood = score.softmax(1).gather(1, target_test[:, None]).clamp(min=torch.finfo(torch.float32).eps)
        found += [float(-likelihood.log().mean()), float((score.argmax(1) == target_test).double().mean())]
    return [found[0], found[2], found[1], found[3], float(genlabel.density.temperature_)]


def costs(backend: str, results: Results) -> list[str]:
    """Least, median and greatest ratio of the cost of a fit to that without, one line for each shape."""
    lines = []
    for n_rows, n_features, n_classes in SHAPES:
        target = torch.arange(n_rows) % n_classes
        x = torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(0)) + 0.1 * target[:, None]
        fits = {
            str(choice): lambda choice=choice, x=x, target=target: make_backend(backend, regularization=choice).fit(
                x, target
            )
            for choice in (None, "auto")
        }
        seconds, shape = interleave(fits), f"{n_rows:,} x {n_features}, {n_classes} classes"
        least, middle, most = ratios(seconds, "auto", "None")
        results.add(f"fit of {backend}, {shape}", ratios(seconds, "None", "auto"))
        lines.append(f"| {shape} | {middle:.2f} ({least:.2f} to {most:.2f}) |")
    return lines


def page(frames: dict[str, pd.DataFrame], results: Results) -> str:
    lines = [
        "# Labels by evidence",
        "",
        *__doc__.split("\n\n", 2)[2].strip().splitlines(),
        "",
        "    python benchmarks/evidence.py --data ../shared/data --output docs/evidence.md",
        "",
        "| backend | sets | " + " | ".join(COLUMNS) + " | sets with lower loss | higher by over 2 % |",
        "|---" * (len(COLUMNS) + 4) + "|",
    ]
    for backend, frame in frames.items():
        cells = [f"{value:.3f}" for value in frame[list(COLUMNS)].mean()]
        gains = frame["loss before"] / frame["loss"]
        results.add(f"held-out loss of {backend}", (gains.min(), gains.median(), gains.max()))
        lower, worse = frame["loss"] < frame["loss before"], frame["loss"] > WORSE * frame["loss before"]
        lines.append(
            f"| `{backend}` | {len(frame)} | " + " | ".join(cells) + f" | {int(lower.sum())} | {int(worse.sum())} |"
        )
    for backend, frame in frames.items():
        worse = frame[frame["loss"] > WORSE * frame["loss before"]]
        lines += ["", f"Where the loss of `{backend}` is higher by more than 2 %:", ""]
        lines += ["| set | training rows | loss before | loss |", "|---" * 4 + "|"]
        lines += [
            f"| {name} | {row['rows']:.0f} | {row['loss before']:.3f} | {row['loss']:.3f} |"
            for name, row in worse.iterrows()
        ]
    for backend in ("gm", "kde"):
        lines += [
            "",
            f"Cost of a fit of `{backend}`, in those of a fit without, median of seven rounds (and range):",
            "",
        ]
        lines += ["| rows | ratio |", "|---|---|", *costs(backend, results)]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="by default all real ones")
    parser.add_argument("--output", type=Path, help="also write the tables as a Markdown page")
    add_json_option(parser)
    options = parser.parse_args()
    results = Results(options.json)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of small classes
    index = SETS.loc[options.sets] if options.sets else SETS[SETS.simulated == "no"]
    runs: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
    for count, (name, n_rows) in enumerate(index.n_rows.items(), 1):
        for parts in splits(options.data, name, n_rows):
            for backend in BACKENDS:
                found = scores(backend, *parts)
                if found is not None:
                    runs[backend].append(dict(zip(COLUMNS, found, strict=True)) | {"set": name, "rows": len(parts[0])})
        print(f"\r{count} of {len(index)} sets", end="", file=sys.stderr)
    frames = {backend: pd.DataFrame(found).groupby("set").mean() for backend, found in runs.items() if found}
    text = page(frames, results)
    results.write("torch", "scikit-learn", "numpy")
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
