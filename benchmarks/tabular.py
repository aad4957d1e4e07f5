"""GenLabel by its flag in pytorch-tabular: accuracy on real tables, and what the flag costs.

    python benchmarks/tabular.py
    python benchmarks/tabular.py --overhead

Nothing is tuned: the tables were chosen for their variety, the settings to end in a quarter of an hour on one core.
Every seed draws its own split, 70 % to train on and 30 % to test on, stratified, the same for all four ways.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import warnings
from contextlib import chdir
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import torch
from _data import add_data_option, load
from _timing import Results, add_json_option, interleave, ratios
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig, FTTransformerConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from genlabel_pytorch_tabular import GenLabelTrainerConfig

TABLES = ["iris", "wine", "seeds", "breast-tissue", "leaf", "vehicle", "vowel", "diabetes_pima"]
TABLES += ["heart-statlog", "sa-heart"]
MODELS = {
    "CategoryEmbedding": CategoryEmbeddingModelConfig(task="classification", layers="128-128", learning_rate=3e-3),
    "FTTransformer": FTTransformerConfig(
        task="classification", input_embed_dim=16, num_heads=2, num_attn_blocks=1, learning_rate=3e-3
    ),
}
WAYS = {
    "flag off": {"genlabel": False},
    "mixup": {"genlabel": True, "genlabel_gamma": 0.0},
    "GenLabel": {"genlabel": True},
    "GenLabel + clean": {"genlabel": True, "genlabel_keep_clean": True},
}
BATCH_SIZE = 128
N_STEPS = 200


def tabular_model(frame: pd.DataFrame, model: str, **options: object) -> TabularModel:
    bare = {"progress_bar": "none", "checkpoints": None, "load_best": False, "early_stopping": None}
    bare["trainer_kwargs"] = {"enable_model_summary": False, "limit_val_batches": 0}
    return TabularModel(
        data_config=DataConfig(
            target=["class"],
            continuous_cols=[name for name in frame if name != "class"],
        ),
        model_config=MODELS[model],
        optimizer_config=OptimizerConfig(optimizer="AdamW", optimizer_params={"weight_decay": 1e-4}),
        trainer_config=GenLabelTrainerConfig(accelerator="cpu", **bare, **options),
        verbose=False,
        suppress_lightning_logger=True,
    )


def accuracy(frame: pd.DataFrame, model: str, way: str, seed: int) -> float:
    """Test accuracy of one training, in per cent."""
    train, test = train_test_split(frame, test_size=0.3, stratify=frame["class"], random_state=seed)
    epochs = math.ceil(N_STEPS / math.ceil(len(train) / BATCH_SIZE))
    tabular = tabular_model(train, model, max_epochs=epochs, batch_size=BATCH_SIZE, **WAYS[way])
    tabular.fit(train, validation=train, seed=seed + 1)  # seed 0 means none to pytorch-tabular
    found = tabular.predict(test)["class_prediction"].to_numpy()
    return 100 * float((found == test["class"].to_numpy()).mean())


def compare(data: Path | None, names: list[str], n_seeds: int) -> Table:
    """Mean and standard deviation over seeds, for every table, model and way."""
    table = Table("data", "model", *WAYS, title=f"test accuracy in %, mean ± standard deviation of {n_seeds} seeds")
    means: dict[tuple[str, str], list[float]] = {}
    runs = [(name, model) for name in names for model in MODELS]
    for name, model in track(runs, "training"):
        x, target = load(data, name)
        frame = pd.DataFrame(x).add_prefix("x").assign(**{"class": target})
        cells = []
        for way in WAYS:
            scores = [accuracy(frame, model, way, seed) for seed in range(n_seeds)]
            means.setdefault((model, way), []).append(mean(scores))
            cells.append(f"{mean(scores):.1f} ± {stdev(scores):.1f}")
        table.add_row(name, model, *cells)
    for model in MODELS:
        table.add_row("mean", model, *(f"{mean(means[model, way]):.1f}" for way in WAYS))
    return table


def overhead(rounds: int, results: Results) -> Table:
    """CPU time of a training with the flag over that of the same training with plain mixup, density fit included."""
    table = Table("data", "model", "least", "median", "greatest", title="CPU time, GenLabel / mixup (gm, batch 256)")
    for load_set in (load_breast_cancer, load_digits):
        x, target = load_set(return_X_y=True, as_frame=True)
        frame = x.loc[:, x.std() > 0].assign(**{"class": target})
        for model in MODELS:

            def train(gamma: float, model: str = model, frame: pd.DataFrame = frame) -> None:
                options = {"max_epochs": 5, "batch_size": 256, "genlabel": True, "genlabel_gamma": gamma}
                tabular_model(frame, model, **options).fit(frame, validation=frame)

            ways = {"GenLabel": lambda: train(0.5), "mixup": lambda: train(0.0)}
            seconds = interleave(ways, rounds=rounds)
            name = load_set.__name__.removeprefix("load_")
            results.add(f"{name}, {model}", ratios(seconds, "mixup", "GenLabel"))
            table.add_row(name, model, *(f"{ratio:.2f}" for ratio in ratios(seconds, "GenLabel", "mixup")))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--tables", nargs="+", default=TABLES, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--overhead", action="store_true", help="measure training time instead of accuracy")
    parser.add_argument("--rounds", type=int, default=5, help="of the measurement of training time")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json and args.json.resolve())
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    data = args.data and args.data.resolve()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # pytorch-tabular counts its runs in a file
        table = overhead(args.rounds, results) if args.overhead else compare(data, args.tables, args.seeds)
    Console(width=120).print(table)
    results.write("torch", "pytorch-tabular")


if __name__ == "__main__":
    main()
