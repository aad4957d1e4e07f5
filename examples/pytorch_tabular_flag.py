"""GenLabel in pytorch-tabular by one flag: the same script with the flag off, as mixup and as GenLabel, four splits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import chdir
from statistics import mean

import pandas as pd
from mlxtend.data import autompg_data
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from genlabel_pytorch_tabular import GenLabelTrainerConfig  # before: from pytorch_tabular.config import TrainerConfig

NUMBERS = ["displacement", "horsepower", "weight", "acceleration"]
CATEGORIES = ["cylinders", "year", "origin"]
WAYS = {
    "flag off": {},
    "mixup": {"genlabel": True, "genlabel_keep_clean": True, "genlabel_gamma": 0.0},
    "GenLabel": {"genlabel": True, "genlabel_keep_clean": True},
}
QUIET = {"accelerator": "cpu", "progress_bar": "none", "early_stopping": None, "checkpoints": None, "load_best": False}
QUIET["trainer_kwargs"] = {"enable_model_summary": False}


def cars() -> pd.DataFrame:
    """392 cars in three classes of fuel consumption; columns of numbers and of categories."""
    x, mpg = autompg_data()
    frame = pd.DataFrame(x[:, :7], columns=["cylinders", *NUMBERS, "year", "origin"])
    codes = {name: frame[name].astype(int).astype(str) for name in CATEGORIES}
    return frame.assign(**codes, thirst=pd.qcut(mpg, 3, labels=["high", "middle", "low"]).astype(str))


def train(frame: pd.DataFrame, **options: object) -> TabularModel:
    model = TabularModel(
        data_config=DataConfig(target=["thirst"], continuous_cols=NUMBERS, categorical_cols=CATEGORIES),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="64-32", learning_rate=0.005),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(max_epochs=25, batch_size=64, **QUIET, **options),  # before: no options
        verbose=False,
        suppress_lightning_logger=True,
    )
    model.fit(frame)
    return model


def score(train_cars: pd.DataFrame, test_cars: pd.DataFrame, options: dict[str, object]) -> tuple[float, float]:
    """Test accuracy and log-loss of one training."""
    found = train(train_cars, **options).predict(test_cars)
    classes = sorted(test_cars["thirst"].unique())
    probability = found[[f"thirst_{name}_probability" for name in classes]].to_numpy()
    accuracy = (found["thirst_prediction"] == test_cars["thirst"]).mean()
    return float(accuracy), float(log_loss(test_cars["thirst"], probability, labels=classes))


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    frame = cars()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # pytorch-tabular counts its runs in a file
        for name, options in WAYS.items():
            scores = [score(*train_test_split(frame, test_size=0.3, random_state=seed), options) for seed in range(4)]
            accuracy, loss = zip(*scores, strict=True)
            print(f"{name:10} test accuracy {100 * mean(accuracy):.1f} %, test log-loss {mean(loss):.3f}")


if __name__ == "__main__":
    main()
