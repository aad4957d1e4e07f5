"""Where should a teacher be asked? On mixed rows, or on those of munge and of Gibbs sampling, as distillation does.

    python benchmarks/distillation.py --data ../shared/data --n-sets 20

Real tables of at most 1,500 rows, 70/30 splits, a network of 2 x 128 that a forest teaches: clean rows with their
classes, and as many new ones from a pool of five for each, at equal weight. Mixed rows lie between two rows. Munge
(Bucila, Caruana and Niculescu-Mizil, KDD 2006) swaps values with the nearest row. Gibbs sampling, as in FAST-DAD
(Fakoor et al., NeurIPS 2020), draws each column given the others, one sweep from a training row; trees stand for the
network with self-attention that learns the conditionals there. Each way chooses weight decay, and the temperature of
its teacher, by the log-loss of 30 % of the training rows. Test rows are scored and nothing else.
Finished splits are kept in `outputs/distillation.jsonl` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from _network_runs import CLEAN, forest, scores
from networks import suite
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import wilcoxon
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Array = NDArray[np.float64]
N_NEW = 5  # rows of the pool for each training row
HELD_OUT = 0.3
WIDTH, EPOCHS, BATCH_SIZE, LEARNING_RATE = 128, 100, 128, 3e-3
DECAYS, TEMPERATURES = (1e-4, 3e-3, 3e-2), (1.0, 2.0)
RECORDS = Path("outputs/distillation.jsonl")


class Pool(NamedTuple):
    """New rows `(M, D)`, and the linear label `(M, C)` of those that are mixed."""

    x: Array
    y_mix: Array | None = None


def mix(x: Array, y: Array, rng: np.random.Generator) -> Pool:
    """Rows between two rows; `y` holds classes as rows of ones and zeros."""
    i, j = rng.integers(len(x), size=(2, N_NEW * len(x)))
    lam = rng.uniform(size=(len(i), 1))
    return Pool(lam * x[i] + (1 - lam) * x[j], lam * y[i] + (1 - lam) * y[j])


def munge(x: Array, y: Array, rng: np.random.Generator) -> Pool:
    """Each value, with probability one half, drawn around that of the nearest row, as far as the two differ."""
    del y
    nearest = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x, return_distance=False)[:, 1]
    x, other = np.tile(x, (N_NEW, 1)), np.tile(x[nearest], (N_NEW, 1))
    return Pool(np.where(rng.uniform(size=x.shape) < 0.5, rng.normal(other, np.abs(x - other)), x))


def gibbs(x: Array, y: Array, rng: np.random.Generator) -> Pool:
    """Each column in turn drawn from the training rows of the leaf of a tree that knows the other columns."""
    del y
    drawn = np.tile(x, (N_NEW, 1))
    for column in range(x.shape[1] if x.shape[1] > 1 else 0):
        others = np.arange(x.shape[1]) != column
        tree = DecisionTreeRegressor(min_samples_leaf=5, random_state=0).fit(x[:, others], x[:, column])
        leaves = tree.apply(x[:, others])
        order = np.argsort(leaves, kind="stable")
        asked = tree.apply(drawn[:, others])
        low, high = (np.searchsorted(leaves[order], asked, side) for side in ("left", "right"))
        drawn[:, column] = x[order[rng.integers(low, high)], column]
    return Pool(drawn)


class Setting(NamedTuple):
    """What a way chooses on held-out rows."""

    decay: float
    temperature: float


class Way(NamedTuple):
    """Where new rows come from, and how far the teacher labels them."""

    draw: Callable[[Array, Array, np.random.Generator], Pool] | None = None
    gamma: float = 0.0

    @property
    def settings(self) -> list[Setting]:
        """To choose from; the first stands for the defaults."""
        return [Setting(*some) for some in product(DECAYS, TEMPERATURES if self.gamma else TEMPERATURES[:1])]

    def new_rows(
        self, x: Array, y: NDArray[np.int64], n_classes: int, temperature: float, seed: int
    ) -> tuple[Tensor, Tensor]:
        """A pool of rows `(M, D)` and their labels `(M, C)`, by a forest that is fitted to the training rows."""
        assert self.draw is not None
        pool = self.draw(x, np.eye(n_classes)[y], np.random.default_rng(seed))
        label = np.zeros((len(pool.x), n_classes)) if pool.y_mix is None else pool.y_mix
        if self.gamma:
            teacher = forest(5).fit(x, y)
            p = np.zeros_like(label)
            p[:, teacher.classes_] = teacher.predict_proba(pool.x) ** (1 / temperature)
            label = (1 - self.gamma) * label + self.gamma * p / p.sum(1, keepdims=True)
        return torch.from_numpy(pool.x).float(), torch.from_numpy(label).float()


WAYS = {
    "no mixing": Way(),
    CLEAN: Way(mix),
    "the forest and the linear label on mixed rows, gamma 0.5": Way(mix, 0.5),
    "the forest on mixed rows, gamma 1": Way(mix, 1.0),
    "the forest on munged rows": Way(munge, 1.0),
    "the forest on rows of Gibbs sampling": Way(gibbs, 1.0),
}


def learn(
    way: Way, setting: Setting, x: Array, y: NDArray[np.int64], x_new: Array, *, n_classes: int, seed: int
) -> Array:
    """Probabilities of new rows by a network; draws and weights follow from the seed."""
    rows, target = torch.from_numpy(x).float(), torch.from_numpy(y)
    new = None if way.draw is None else way.new_rows(x, y, n_classes, setting.temperature, seed)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_classes)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=setting.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(BATCH_SIZE):
            loss = cross_entropy(model(rows[batch]), target[batch])
            if new is not None:
                some = torch.randint(len(new[0]), batch.shape)
                loss = (loss + cross_entropy(model(new[0][some]), new[1][some])) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        p: Array = model(torch.from_numpy(x_new).float()).double().softmax(1).numpy()
    return p


def run(data: Path, name: str, seed: int) -> list[dict[str, object]]:
    """Test scores of each way on a split, at its defaults and as it chooses."""
    frame = pd.read_csv(data / "tabular" / f"{name}.csv.gz")
    X, y = frame.drop(columns="class").to_numpy(float), frame["class"].to_numpy()
    train, test = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=seed)
    X = StandardScaler().fit(X[train]).transform(X)
    # a class of one row among those to learn from cannot be in both parts
    classes = y[train] if np.bincount(y[train])[np.unique(y[train])].min() > 1 else None
    fits, judges = train_test_split(train, test_size=HELD_OUT, stratify=classes, random_state=seed)
    records: list[dict[str, object]] = []
    for title, way in WAYS.items():
        learned = partial(learn, n_classes=int(y.max()) + 1, seed=seed)
        losses = [scores(learned(way, s, X[fits], y[fits], X[judges]), y[judges])[1] for s in way.settings]
        choices = {False: way.settings[0], True: way.settings[int(np.argmin(losses))]}
        found = {s: scores(learned(way, s, X[train], y[train], X[test]), y[test]) for s in {*choices.values()}}
        for chosen, setting in choices.items():
            record = {"set": name, "seed": seed, "way": title, "chosen": chosen}
            records.append(record | {"accuracy": found[setting][0], "loss": found[setting][1]})
    return records


def table(frame: pd.DataFrame) -> list[str]:
    """Means over sets, and how each way stands beside mixup with the clean batch."""
    lines = ["| way | accuracy, % | log-loss | beside mixup, clean batch | lower on, % of sets | p |", "|---" * 6 + "|"]
    by_way = {way: found.groupby("set")[["accuracy", "loss"]].mean() for way, found in frame.groupby("way", sort=False)}
    for way, found in by_way.items():
        cells = [f"{100 * found.accuracy.mean():.1f}", f"{found.loss.mean():.3f}", "", "", ""]
        difference = found.loss - by_way[CLEAN].loss
        if difference.any():
            p = wilcoxon(difference).pvalue
            share = found.loss.mean() / by_way[CLEAN].loss.mean() - 1
            cells[2:] = [f"{100 * share:+.1f} %", f"{100 * (difference < 0).mean():.0f}", f"{p:.3f}"]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv and tabular/")
    parser.add_argument("--n-sets", type=int, help="only so many of the sets, in an order drawn once")
    parser.add_argument("--seeds", type=int, default=1, help="splits")
    args = parser.parse_args()
    if not (args.data / "index.csv").exists():
        sys.exit(f"distillation needs {args.data / 'index.csv'}: name the folder of the data sets with --data")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of classes with few rows
    jobs = [(name, 100 + seed) for seed in range(args.seeds) for name in suite(args.data)[: args.n_sets]]
    RECORDS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    have = {(record["set"], record["seed"]) for record in done}
    with RECORDS.open("a") as file:
        for job in track([job for job in jobs if job not in have], "Distilling", console=Console(stderr=True)):
            found = run(args.data, *job)
            done += found
            file.writelines(json.dumps(record) + "\n" for record in found)
            file.flush()
    frame = pd.DataFrame([record for record in done if (record["set"], record["seed"]) in jobs])
    for chosen, title in ((True, "weight decay and temperature chosen"), (False, "nothing chosen")):
        print(
            f"{frame.set.nunique()} sets, {args.seeds} splits, {title}",
            *table(frame[frame.chosen == chosen]),
            "",
            sep="\n",
        )


if __name__ == "__main__":
    main()
