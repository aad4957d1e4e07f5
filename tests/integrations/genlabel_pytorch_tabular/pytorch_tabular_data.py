"""Real tables and a short way to train on them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pandas as pd
import torch
from mlxtend.data import autompg_data
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.datasets import load_breast_cancer, load_wine

from genlabel_pytorch_tabular import GenLabelTrainerConfig


def wine() -> pd.DataFrame:
    x, y = load_wine(return_X_y=True, as_frame=True)
    return x.assign(target=y)


def breast_cancer() -> pd.DataFrame:
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return x.assign(target=y)


def cars() -> pd.DataFrame:
    """392 cars: four numbers, three categories; thirds of the fuel consumption, and whether it is an old model."""
    x, mpg = autompg_data()
    names = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin"]
    frame = pd.DataFrame(x[:, :7], columns=names)
    categories = {name: frame[name].astype(int).astype(str) for name in ("cylinders", "year", "origin")}
    old = (frame["year"] < 76).astype(int)
    return frame.assign(**categories, target=pd.qcut(mpg, 3, labels=False), old=old)


QUICK = {
    "max_epochs": 2,
    "batch_size": 32,
    "progress_bar": "none",
    "accelerator": "cpu",
    "checkpoints": None,
    "load_best": False,
    "early_stopping": None,
    "trainer_kwargs": {"enable_model_summary": False},
}
CATEGORIES = ["cylinders", "year", "origin"]


def tabular_model(
    frame: pd.DataFrame,
    *,
    model: Any = None,
    targets: tuple[str, ...] = ("target",),
    optimizer: OptimizerConfig | None = None,
    **options: Any,
) -> TabularModel:
    """A model of pytorch-tabular; options that GenLabel's config alone knows decide which config it gets."""
    labels = [name for name in ("target", "old") if name in frame]
    categories = [name for name in CATEGORIES if name in frame]
    config = GenLabelTrainerConfig if "genlabel" in options else TrainerConfig
    return TabularModel(
        data_config=DataConfig(
            target=list(targets),
            continuous_cols=[name for name in frame if name not in labels + categories],
            categorical_cols=categories,
        ),
        model_config=model or small_network(),
        optimizer_config=optimizer or OptimizerConfig(),
        trainer_config=config(**{**deepcopy(QUICK), **options}),
        verbose=False,
        suppress_lightning_logger=True,
    )


def small_network(**options: Any) -> CategoryEmbeddingModelConfig:
    return CategoryEmbeddingModelConfig(
        **{"task": "classification", "layers": "16-8", "learning_rate": 0.02, **options}
    )


def weights(model: TabularModel) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.model.state_dict().values()])
