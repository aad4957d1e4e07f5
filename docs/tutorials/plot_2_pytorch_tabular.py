"""
pytorch-tabular
===============

A flag in the trainer config, and nothing else in the script.
"""

# %%
# Wine, as a data frame.

import logging
import os
import tempfile
import warnings

import pandas as pd
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from genlabel_pytorch_tabular import GenLabelTrainerConfig

warnings.filterwarnings("ignore")
for name in ("pytorch_lightning", "pytorch_tabular", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
os.chdir(tempfile.mkdtemp())  # Lightning writes its logs where it stands
frame = load_wine(as_frame=True).frame.rename(columns=lambda name: name.replace("/", "_"))
train, test = train_test_split(frame, train_size=60, stratify=frame["target"], random_state=0)

# %%
# ``genlabel=True`` mixes and relabels; the other fields are those of every door, with a prefix.


def accuracy(**options: object) -> float:
    model = TabularModel(
        data_config=DataConfig(target=["target"], continuous_cols=list(frame.columns.drop("target"))),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="64-32", learning_rate=0.005),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(
            max_epochs=20,
            batch_size=32,
            accelerator="cpu",
            progress_bar="none",
            early_stopping=None,
            checkpoints=None,
            load_best=False,
            trainer_kwargs={"enable_model_summary": False},
            **options,
        ),
        verbose=False,
        suppress_lightning_logger=True,
    )
    model.fit(train)
    predicted = model.predict(test)
    column = next(name for name in predicted.columns if name.endswith("prediction"))
    return float((predicted[column].astype(str) == test["target"].astype(str)).mean())


ways = {
    "no mixing": {},
    "mixup": {"genlabel": True, "genlabel_gamma": 0.0},
    "GenLabel": {"genlabel": True, "genlabel_backend": "gm"},
}
print(pd.Series({name: accuracy(**options) for name, options in ways.items()}, name="accuracy").round(3).to_string())

# %%
# One split of a small table proves nothing: see :doc:`/pytorch_tabular` for ten tables, categories, several targets
# and resuming.
