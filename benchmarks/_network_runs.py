"""The runs of `networks`: importable, since workers cannot unpickle what a script defines."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from genlabel_plugins import CrossFit, FromClassifier, GenLabel, make_backend
from genlabel_plugins.densities._temperature import best_temperature
from genlabel_plugins.scoring import fit_copy
from genlabel_plugins.selection import Candidate
from genlabel_plugins.selection._candidate_fits import network_log_p
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_pytorch_tabular import GenLabelCallback

Array = NDArray[Any]
N_TREES = 200
LEAVES = (1, 2, 5)  # least rows in a leaf of the forest, which it chooses as networks choose their rates
HELD_OUT = 0.3  # of the training rows, on which each way chooses
GAMMA = 0.5
FLOOR = float(np.finfo(np.float32).eps)  # of a probability
FOREST = "the forest itself"
NONE, MIXUP, CLEAN = "no mixing", "mixup", "mixup, clean batch"
FORMER, EVIDENCE, TAUGHT = "GenLabel, gm as it is", "GenLabel, gm by evidence", "GenLabel, a forest teaches"
LEFT_OUT, IN_SAMPLE = f"{EVIDENCE}, parents left out", f"{TAUGHT} rows that it saw"
TRUSTED = f"{LEFT_OUT}, gamma 1"


class Way(NamedTuple):
    """How a network is trained: a scheme, whether the clean batch is kept, and what makes the posterior."""

    scheme: str
    keep_clean: bool = False
    backend: Callable[[], Any] | None = None
    leave_parents_out: bool = False
    gamma: float = GAMMA

    @property
    def labels(self) -> dict[str, Any]:
        """Options of its labels."""
        return {"gamma": 0.0 if self.backend is None else self.gamma, "leave_parents_out": self.leave_parents_out}


def forest(leaf: int) -> RandomForestClassifier:
    return RandomForestClassifier(N_TREES, min_samples_leaf=leaf, random_state=0)


def teacher() -> FromClassifier:
    """Half as many trees: cross-fitted, 16 such forests teach."""
    return FromClassifier(forest(5).set_params(n_estimators=N_TREES // 2))


WAYS = {
    NONE: Way("none"),
    MIXUP: Way("mixup"),
    CLEAN: Way("mixup", True),
    FORMER: Way("genlabel", True, lambda: make_backend("gm", regularization=None)),
    EVIDENCE: Way("genlabel", True, lambda: make_backend("gm")),
    LEFT_OUT: Way("genlabel", True, lambda: make_backend("gm"), leave_parents_out=True),
    TRUSTED: Way("genlabel", True, lambda: make_backend("gm"), leave_parents_out=True, gamma=1.0),
    IN_SAMPLE: Way("genlabel", True, teacher),
    TAUGHT: Way("genlabel", True, lambda: CrossFit(teacher())),
}
IN_HOSTS = (NONE, MIXUP, CLEAN, EVIDENCE, TAUGHT)  # what is measured in pytorch-tabular, where a training takes long


class Setting(NamedTuple):
    """What a way chooses on held-out rows."""

    learning_rate: float
    weight_decay: float


DEFAULT = Setting(3e-3, 1e-4)  # of the head


class Effort(NamedTuple):
    """How much is trained; a test makes it small."""

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    weight_decays: tuple[float, ...] = (1e-4, 3e-3, 3e-2)
    max_epochs: int = 100
    n_steps: int = 200  # at least, of a network of pytorch-tabular

    @property
    def settings(self) -> list[Setting]:
        return [Setting(rate, decay) for decay in self.weight_decays for rate in self.learning_rates]


MLP = Effort()
TABULAR = Effort(learning_rates=(1e-3, 5e-3), weight_decays=(1e-4, 1e-2))


def run(data: Path, name: str, seed: int, *, model: str, titles: Sequence[str], effort: Effort) -> list[dict[str, Any]]:
    """Records of some ways on one split: what each chose, and its test scores at that."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of densities of small classes
    frame = pd.read_csv(data / "tabular" / f"{name}.csv.gz")
    X, y = frame.drop(columns="class").to_numpy(float), frame["class"].to_numpy()
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    fits, judges = train_test_split(np.arange(len(y)), test_size=HELD_OUT, stratify=_of_two(y), random_state=seed)
    train = {"mlp": train_mlp, FOREST: train_forest}.get(model, train_tabular)
    n_classes = int(max(y.max(), y_test.max())) + 1

    def learn(rows: Array, X_new: Array, jobs: list[tuple[str, Any]]) -> list[Array]:
        return train(X[rows], y[rows], X_new, jobs, n_classes, model=model, effort=effort, seed=seed)

    settings: list[Any] = list(LEAVES) if model == FOREST else effort.settings
    default = LEAVES[0] if model == FOREST else settings[0] if DEFAULT not in settings else DEFAULT
    jobs = [(title, setting) for title in titles for setting in settings]
    held_out = learn(fits, X[judges], jobs)
    tested = {}
    for first in range(0, len(jobs), len(settings)):
        losses = [scores(p, y[judges])[1] for p in held_out[first : first + len(settings)]]
        tested[first + int(np.argmin(losses)), True] = None
        tested[first + settings.index(default), False] = None
    places = list(dict.fromkeys(place for place, _ in tested))
    found = dict(zip(places, learn(np.arange(len(y)), X_test, [jobs[place] for place in places]), strict=True))
    records = []
    for place, is_chosen in tested:
        temperature = best_temperature([(_log(held_out[place]), torch.from_numpy(y[judges]))])
        scaled = (_log(found[place]) / temperature).softmax(1).numpy()
        accuracy, loss = scores(found[place], y_test)
        record = {"set": name, "seed": seed, "model": model, "way": jobs[place][0], "chosen": is_chosen}
        record |= {"setting": jobs[place][1], "accuracy": accuracy, "log_loss": loss}
        records.append(record | {"scaled": scores(scaled, y_test)[1]})
    return records


def train_mlp(
    X: Array,
    y: Array,
    X_new: Array,
    jobs: list[tuple[str, Any]],
    n_classes: int,
    *,
    effort: Effort,
    seed: int,
    **_: Any,
) -> list[Array]:
    """Probabilities of new rows by each job: the `"mlp"` head, all networks of a weight decay as one program.

    What is trained together makes no difference to any: draws follow from the seed, and steps are each network's own.
    """
    table = TrainingTable.of(torch.from_numpy(X), torch.from_numpy(y))
    x_new = table.standardize(torch.from_numpy(X_new))
    relabelers = {}
    for title in dict.fromkeys(title for title, _ in jobs):
        way = WAYS[title]
        if way.backend is not None:
            fresh = GenLabel(way.backend(), **way.labels)
            relabelers[title] = fit_copy(fresh, table.x, table.target, n_classes, torch.Generator().manual_seed(seed))
    found: dict[int, Array] = {}
    for decay in dict.fromkeys(setting.weight_decay for _, setting in jobs):
        places = [place for place, (_, setting) in enumerate(jobs) if setting.weight_decay == decay]
        candidates = [
            Candidate(
                scheme=WAYS[title].scheme,
                backend=relabelers[title].density if title in relabelers else None,
                gamma=WAYS[title].labels["gamma"],
                keep_clean=WAYS[title].keep_clean,
                learning_rate=setting.learning_rate,
            )
            for title, setting in (jobs[place] for place in places)
        ]
        options = TrainingOptions(hidden=(128, 128), max_epochs=effort.max_epochs, weight_decay=decay, decays=True)
        by_backend = {relabeler.density: relabeler for relabeler in relabelers.values()}
        networks = train_jointly([table], candidates, n_classes, options, [by_backend], seed=seed)
        p = network_log_p(networks, 0, x_new).exp().numpy()
        found |= {place: p[:, :, m] for m, place in enumerate(places)}
    return [found[place] for place in range(len(jobs))]


def train_forest(
    X: Array, y: Array, X_new: Array, jobs: list[tuple[str, Any]], n_classes: int, **_: Any
) -> list[Array]:
    """Probabilities of new rows by forests."""
    found = []
    for _title, leaf in jobs:
        model = forest(leaf).fit(X, y)
        p = np.zeros((len(X_new), n_classes))
        p[:, model.classes_] = model.predict_proba(X_new)
        found.append(p)
    return found


def train_tabular(
    X: Array,
    y: Array,
    X_new: Array,
    jobs: list[tuple[str, Any]],
    n_classes: int,
    *,
    model: str,
    effort: Effort,
    seed: int,
) -> list[Array]:
    """Probabilities of new rows by each job: networks of pytorch-tabular, by its own training."""
    logging.disable(logging.WARNING)
    varies = X.std(0) > 0
    scaler = StandardScaler().fit(X[:, varies])
    names = [f"x{place}" for place in range(int(varies.sum()))]
    train = pd.DataFrame(scaler.transform(X[:, varies]), columns=names).assign(**{"class": y})
    new = pd.DataFrame(scaler.transform(X_new[:, varies]), columns=names)
    found = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # pytorch-tabular counts its runs in a file
        for title, setting in jobs:
            way = WAYS[title]
            callbacks = []
            if way.scheme != "none":
                backend = "gm" if way.backend is None else way.backend()
                callbacks = [GenLabelCallback(backend, keep_clean=way.keep_clean, **way.labels)]
            tabular = _tabular_model(model, names, setting, len(train), effort)
            tabular.fit(train, validation=train, callbacks=callbacks, seed=seed + 1)  # seed 0 means none to it
            p = np.zeros((len(new), n_classes))
            columns = tabular.predict(new).filter(like="_probability")
            p[:, np.unique(y)] = columns.to_numpy()
            found.append(p)
    return found


def _tabular_model(model: str, names: list[str], setting: Setting, n_rows: int, effort: Effort) -> Any:
    from pytorch_tabular import TabularModel, models
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig

    batch_size = min(128, n_rows)
    sizes: dict[str, dict[str, Any]] = {
        "CategoryEmbedding": {"layers": "128-128"},
        "GANDALF": {"gflu_stages": 3},
        "FTTransformer": {"input_embed_dim": 16, "num_heads": 2, "num_attn_blocks": 2},
    }
    config = getattr(models, f"{model}Config" if model != "CategoryEmbedding" else "CategoryEmbeddingModelConfig")
    n_epochs = math.ceil(effort.n_steps / math.ceil(n_rows / batch_size))
    return TabularModel(
        data_config=DataConfig(target=["class"], continuous_cols=names),
        model_config=config(task="classification", learning_rate=setting.learning_rate, **sizes[model]),
        optimizer_config=OptimizerConfig(
            optimizer="AdamW",
            optimizer_params={"weight_decay": setting.weight_decay},
            lr_scheduler="CosineAnnealingLR",
            lr_scheduler_params={"T_max": n_epochs},
        ),
        trainer_config=TrainerConfig(
            accelerator="cpu",
            batch_size=batch_size,
            max_epochs=n_epochs,
            progress_bar="none",
            checkpoints=None,
            load_best=False,
            early_stopping=None,
            trainer_kwargs={"enable_model_summary": False, "limit_val_batches": 0},
        ),
        verbose=False,
        suppress_lightning_logger=True,
    )


def scores(probability: Array, target: Array) -> tuple[float, float]:
    """Accuracy and log-loss."""
    likelihood = probability[np.arange(len(target)), target].clip(FLOOR, 1)
    return float((probability.argmax(1) == target).mean()), float(-np.log(likelihood).mean())


def _log(probability: Array) -> torch.Tensor:
    return torch.from_numpy(probability.clip(FLOOR, 1)).log()


def _of_two(y: Array) -> Array | None:
    """Classes to stratify by, if each can be in both parts."""
    return y if np.bincount(y)[np.unique(y)].min() >= 2 else None
