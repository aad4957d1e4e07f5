"""A forest teaches a network of pytorch-tabular: of rows that it saw, and cross-fitted, without the rows it labels."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import chdir
from statistics import mean

import pandas as pd
from mlxtend.data import autompg_data
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from genlabel_plugins import FromClassifier
from genlabel_pytorch_tabular import GenLabelCallback

NUMBERS = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year"]
FOREST = RandomForestClassifier(15, min_samples_leaf=3, random_state=0)
QUIET = {"accelerator": "cpu", "progress_bar": "none", "early_stopping": None, "checkpoints": None, "load_best": False}
QUIET["trainer_kwargs"] = {"enable_model_summary": False}


def cars() -> pd.DataFrame:
    """392 cars in three classes of fuel consumption; the origin is a category, which the forest sees, too."""
    x, mpg = autompg_data()
    frame = pd.DataFrame(x[:, :7], columns=[*NUMBERS, "origin"])
    return frame.assign(
        origin=frame["origin"].astype(int).astype(str),
        thirst=pd.qcut(mpg, 3, labels=["high", "middle", "low"]).astype(str),
    )


def score(train: pd.DataFrame, test: pd.DataFrame, callbacks: list[GenLabelCallback]) -> tuple[float, float]:
    """Test accuracy and log-loss of one training."""
    model = TabularModel(
        data_config=DataConfig(target=["thirst"], continuous_cols=NUMBERS, categorical_cols=["origin"]),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="64-32", learning_rate=0.005),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(max_epochs=15, batch_size=64, **QUIET),
        verbose=False,
        suppress_lightning_logger=True,
    )
    model.fit(train, callbacks=callbacks)
    found = model.predict(test)
    probability = found[[f"thirst_{name}_probability" for name in sorted(test["thirst"].unique())]].to_numpy()
    accuracy = (found["thirst_prediction"] == test["thirst"]).mean()
    return float(accuracy), float(log_loss(test["thirst"], probability))


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    splits = [train_test_split(cars(), test_size=0.3, random_state=seed) for seed in range(2)]
    ways = {
        "clean rows": lambda: [],
        "mixup": lambda: [GenLabelCallback(gamma=0.0, keep_clean=True)],
        "a forest that saw them": lambda: [GenLabelCallback(FromClassifier(FOREST), keep_clean=True)],
        "a forest, cross-fitted": lambda: [GenLabelCallback(FromClassifier(FOREST), keep_clean=True, cross_fit=5)],
    }
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # pytorch-tabular counts its runs in a file
        for name, callbacks in ways.items():
            accuracy, loss = zip(*(score(*split, callbacks()) for split in splits), strict=True)
            print(f"{name:24} test accuracy {100 * mean(accuracy):.1f} %, test log-loss {mean(loss):.3f}")


if __name__ == "__main__":
    main()
