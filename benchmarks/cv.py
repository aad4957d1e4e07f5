"""How fast the cross-validation of the paper is: all models in one tensor program, against one after another.

    python benchmarks/cv.py

The protocol: Gaussian and kernel densities, 6 gammas, 4 learning rates, 5 folds, which makes 240 logistic regressions
of 100 epochs. "batched" is `cross_validate`, which trains and scores them at once, "fit" is `GenLabelClassifierCV.fit`,
which trains the chosen one on all rows besides. "one by one" trains and scores the same models with
`GenLabelClassifier` in turn. "published recipe" is a plain loop of torch whose steps relabel by scipy:
`multivariate_normal` made anew for each class, its density at the batch and once more in logarithms if a row
underflows, or a `gaussian_kde` per class fitted beforehand. Both slow ones are timed on a sample of the models in
each round and multiplied up to 240. Candidates take turns in each round; seconds are CPU time of the process, on one
thread.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import resource
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from _timing import Results, add_json_option, interleave, peak_bytes, ratios, versions
from rich.console import Console
from rich.table import Table
from scipy import stats
from scipy.special import softmax
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from genlabel_plugins.selection import candidate_grid, cross_validate
from genlabel_plugins.selection.search import stratified_splits
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV

BACKENDS, GAMMAS, LEARNING_RATES = ("gm", "kde"), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.1, 0.01, 0.001, 0.0001)
GRID = list(itertools.product(BACKENDS, GAMMAS, LEARNING_RATES))
BARS = {"one by one": 60, "published recipe": 200}  # on iris
N_FOLDS, EPOCHS, BATCH_SIZE = 5, 100, 128


class Protocol:
    """The models of one table, and three ways to train them."""

    def __init__(self, X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
        self.X, self.y = X, y
        self.splits = stratified_splits(y, N_FOLDS)
        self.models = list(itertools.product(GRID, self.splits))
        self.order = itertools.cycle(rng.permutation(len(self.models)))

    def batched(self) -> None:
        candidates = candidate_grid(
            schemes=("genlabel",), backends=BACKENDS, gammas=GAMMAS, learning_rates=LEARNING_RATES
        )
        cross_validate(torch.from_numpy(self.X), torch.from_numpy(self.y), candidates, n_folds=N_FOLDS)

    def fit(self) -> None:
        GenLabelClassifierCV(
            schemes=("genlabel",),
            gammas=GAMMAS,
            learning_rates=LEARNING_RATES,
            n_repeats=1,
            scoring="accuracy",
            selection="best",
            random_state=0,
        ).fit(self.X, self.y)

    def one_by_one(self) -> None:
        """Train and score the next model."""
        (backend, gamma, rate), (train, test) = self.models[next(self.order)]
        classifier = GenLabelClassifier(backend, gamma=gamma, learning_rate=rate, random_state=0)
        classifier.fit(self.X[train], self.y[train]).score(self.X[test], self.y[test])

    def published_recipe(self) -> None:
        """Train and score the next model with scipy in the loop."""
        (backend, gamma, rate), (train, test) = self.models[next(self.order)]
        scaler = StandardScaler().fit(self.X[train])
        x, x_test = (torch.tensor(scaler.transform(self.X[part]), dtype=torch.float32) for part in (train, test))
        target = torch.from_numpy(self.y[train])
        n_classes = int(target.max()) + 1
        posterior = POSTERIORS[backend](x.numpy(), self.y[train])
        model = nn.Linear(x.shape[1], n_classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-4)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH_SIZE):
                lam, partner = np.random.default_rng().beta(1.0, 1.0), rows[torch.randperm(len(rows))]
                x_mix = lam * x[rows] + (1 - lam) * x[partner]
                y_mix = lam * one_hot(target[rows], n_classes) + (1 - lam) * one_hot(target[partner], n_classes)
                y_gen = torch.from_numpy(posterior(x_mix.numpy())).float()
                logits = model(x_mix)
                loss = gamma * cross_entropy(logits, y_gen) + (1 - gamma) * cross_entropy(logits, y_mix.float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            (model(x_test).argmax(1) == torch.from_numpy(self.y[test])).float().mean().item()


def gaussian_posterior(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    classes = [x[y == c] for c in np.unique(y)]
    fitted = [(rows.mean(0), np.cov(rows.T) + 1e-4 * np.eye(x.shape[1])) for rows in classes]

    def posterior(query: np.ndarray) -> np.ndarray:
        p = np.stack([stats.multivariate_normal(*gaussian).pdf(query) for gaussian in fitted], 1)
        if (p.sum(1) == 0).any():
            return softmax(np.stack([stats.multivariate_normal(*gaussian).logpdf(query) for gaussian in fitted], 1), 1)
        return p / p.sum(1, keepdims=True)

    return posterior


def kernel_posterior(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)  # jitter in place of the 1e-8 on the covariance, which gaussian_kde does not take
    fitted = [
        stats.gaussian_kde((rows + 1e-4 * rng.standard_normal(rows.shape)).T)
        for rows in (x[y == c] for c in np.unique(y))
    ]

    def posterior(query: np.ndarray) -> np.ndarray:
        p = np.stack([kde(query.T) for kde in fitted], 1)
        if (p.sum(1) == 0).any():
            return softmax(np.stack([kde.logpdf(query.T) for kde in fitted], 1), 1)
        return p / p.sum(1, keepdims=True)

    return posterior


POSTERIORS = {"gm": gaussian_posterior, "kde": kernel_posterior}


def measure(protocol: Protocol, rounds: int, sample: int) -> dict[str, list[float]]:
    """CPU seconds of 240 models in each round."""
    ways = {
        "batched": (protocol.batched, 1),
        "fit": (protocol.fit, 1),
        "one by one": (protocol.one_by_one, sample),
        "published recipe": (protocol.published_recipe, sample),
    }
    for call, _ in ways.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (call, n_calls) in ways.items():
            start = time.process_time()
            for _ in range(n_calls):
                call()
            per_call = (time.process_time() - start) / n_calls
            seconds[name].append(per_call * (1 if n_calls == 1 else len(protocol.models)))
    return seconds


def speed(rounds: int, sample: int, results: Results) -> Table:
    title = f"240 models, {rounds} rounds, the slow ways from {sample} models a round: median (least to greatest)"
    table = Table("table", "batched, s", "fit, s", *(f"{way} / batched" for way in BARS), title=title)
    for load in (load_iris, load_wine, load_breast_cancer):
        protocol = Protocol(*load(return_X_y=True), np.random.default_rng(0))
        seconds = measure(protocol, rounds, sample)
        cells = []
        for way, bar in BARS.items():
            least, middle, most = ratios(seconds, way, "batched")
            results.add(f"{load.__name__}: {way}", (least, middle, most))
            shown = f"{middle:.0f}x ({least:.0f} to {most:.0f})"
            cells.append(f"{shown}, bar {bar}" if load is load_iris else shown)
        n_rows, n_features = protocol.X.shape
        name = f"{load.__name__.removeprefix('load_')}, {n_rows} x {n_features}"
        table.add_row(name, *(f"{median(seconds[way]):.2f}" for way in ("batched", "fit")), *cells)
    return table


def memory(results: Results) -> Table:
    """Most bytes held at a time, for more and more candidates; written as those per candidate of the first."""
    by_candidate = []
    table = Table("candidates", "models", "peak, MB", title="memory of tensors, iris")
    X, y = load_iris(return_X_y=True)
    for n_gammas in (6, 60, 600):
        candidates = candidate_grid(
            schemes=("genlabel",), gammas=tuple(np.linspace(0, 1, n_gammas)), learning_rates=LEARNING_RATES
        )
        held = peak_bytes(lambda found=candidates: cross_validate(torch.from_numpy(X), torch.from_numpy(y), found))
        by_candidate.append(held / len(candidates))
        results.add(f"memory, {len(candidates):,} candidates", 3 * (by_candidate[0] / by_candidate[-1],))
        table.add_row(f"{len(candidates):,}", f"{N_FOLDS * len(candidates):,}", f"{held / 2**20:.0f}")
    return table


def long_tables(results: Results) -> Table:
    """CPU time of the default search on long tables, and the most memory that the process has had until then.

    Seconds are written as those per row of the first table.
    """
    by_row = []

    def resident() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    table = Table("table", "fit, s", "resident before, MB", "after, MB", title="default search, least rows first")
    for n_rows, n_features, n_classes in ((1000, 20, 3), (8000, 20, 3), (50_000, 30, 5)):
        X, y = make_classification(n_rows, n_features, n_informative=15, n_classes=n_classes, random_state=0)
        before, start = resident(), time.process_time()
        GenLabelClassifierCV(random_state=0).fit(X, y)
        seconds = time.process_time() - start
        name = f"{n_rows:,} x {n_features}, {n_classes} classes"
        by_row.append(seconds / n_rows)
        results.add(f"long, {name}", 3 * (by_row[0] / by_row[-1],))
        table.add_row(name, f"{seconds:.1f}", f"{before:.0f}", f"{resident():.0f}")
    return table


def one_network(rounds: int, results: Results) -> Table:
    """CPU time of one logistic regression without mixing, by skorch and by `GenLabelClassifier`."""
    try:
        from skorch import NeuralNetClassifier
    except ModuleNotFoundError:
        sys.exit("--skorch compares with skorch: pip install skorch")
    X, y = load_iris(return_X_y=True)
    rows = StandardScaler().fit_transform(X).astype(np.float32)
    by_skorch = NeuralNetClassifier(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=3,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=1e-4,
        lr=0.1,
        max_epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=None,
        verbose=0,
    )
    ways = {
        "skorch": lambda: by_skorch.fit(rows, y),
        "GenLabelClassifier": lambda: GenLabelClassifier(scheme="none", learning_rate=0.1, random_state=0).fit(X, y),
    }
    seconds = interleave(ways, rounds=rounds)
    least, middle, most = ratios(seconds, "skorch", "GenLabelClassifier")
    results.add("skorch", (least, middle, most))
    table = Table("seconds", *ways, "skorch / GenLabelClassifier", title="100 epochs of logistic regression on iris")
    table.add_row(
        "", *(f"{median(each):.3f}" for each in seconds.values()), f"{middle:.1f} ({least:.1f} to {most:.1f})"
    )
    return table


def one_row(rounds: int, results: Results) -> Table:
    """CPU time of one prediction of one row: as it is, and by an ensemble that is unpickled first, as it once was."""
    table = Table("table", "one row, ms", "unpickled each time / as it is", title="predict_proba, default search")
    for load in (load_iris, load_wine):
        X, y = load(return_X_y=True)
        search = GenLabelClassifierCV(random_state=0).fit(X, y)
        stored = pickle.dumps(search)
        ways = {
            "as it is": lambda search=search, X=X: search.predict_proba(X[:1]),
            "unpickled": lambda stored=stored, X=X: pickle.loads(stored).predict_proba(X[:1]),
        }
        seconds = interleave(ways, rounds=rounds)
        least, middle, most = ratios(seconds, "unpickled", "as it is")
        results.add(f"{load.__name__}: one row, unpickled", (least, middle, most))
        shown = f"{middle:.1f} ({least:.1f} to {most:.1f})"
        table.add_row(load.__name__.removeprefix("load_"), f"{1e3 * median(seconds['as it is']):.2f}", shown)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sample", type=int, default=8, help="models a round that the slow ways train")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--long", action="store_true", help="time the default search on long tables instead")
    parser.add_argument("--skorch", action="store_true", help="compare one network with skorch instead")
    parser.add_argument("--predict", action="store_true", help="time the prediction of one row instead")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    threadpool_limits(1)  # the libraries of numpy and scipy have threads of their own
    torch.set_num_threads(1)
    console = Console(width=120)
    if args.skorch:
        console.print(one_network(args.rounds, results))
    elif args.predict:
        console.print(one_row(args.rounds, results))
    elif args.long:
        console.print(long_tables(results))
    elif args.memory:
        console.print(memory(results))
    else:
        console.print(speed(args.rounds, args.sample, results))
    console.print(versions("torch", "scikit-learn", "scipy", "numpy"))
    results.write("torch", "scikit-learn", "scipy", "numpy")


if __name__ == "__main__":
    main()
