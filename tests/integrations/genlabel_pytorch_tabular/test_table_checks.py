"""What pytorch-tabular stumbles over is said before it trains, by column and number."""

import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.tuner import Tuner
from pytorch_tabular_data import tabular_model, wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genlabel_pytorch_tabular import GenLabelCallback


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_missing_value_is_named_by_its_column(part, sanity):
    rows = wine().sample(frac=1.0, random_state=0).set_index(np.arange(1000, 1178))
    train, validation = rows[:120], rows[120:]
    frame = train if part == "training" else validation
    frame = frame.astype({"hue": float})
    frame.iloc[5, frame.columns.get_loc("hue")] = np.nan
    train, validation = (frame, validation) if part == "training" else (train, frame)
    kwargs = {"enable_model_summary": False, "num_sanity_val_steps": sanity}
    model = tabular_model(
        wine(), genlabel=True, genlabel_backend="running", genlabel_space="latent", trainer_kwargs=kwargs
    )
    with pytest.raises(
        ValueError, match=f"column 'hue' must have no missing.*got 1 in the {part} rows, first in row 1.*5:"
    ):
        model.fit(train=train, validation=validation)


@pytest.mark.parametrize(("n_train", "n_validation", "part"), [(64, 33, "33 validation"), (97, 20, "97 training")])
def test_a_last_batch_of_one_row_is_refused(n_train, n_validation, part):
    rows = wine().sample(frac=1.0, random_state=0)
    model = tabular_model(wine(), genlabel=True)
    with pytest.raises(ValueError, match=f"more than one row, .* got {part} rows in batches of 32: choose another"):
        model.fit(train=rows[:n_train], validation=rows[n_train : n_train + n_validation])


@pytest.mark.slow
def test_what_works_is_not_refused():
    rows = wine().sample(frac=1.0, random_state=0)
    tabular_model(wine(), genlabel=True, genlabel_keep_clean=True, max_epochs=1).fit(
        train=rows[:65], validation=rows[65:97]
    )
    kwargs = {"enable_model_summary": False, "limit_val_batches": 1}
    tabular_model(wine(), genlabel=True, max_epochs=1, trainer_kwargs=kwargs).fit(
        train=rows[:64], validation=rows[64:97]
    )


class Net(LightningModule):
    n_classes = 3

    def __init__(self):
        super().__init__()
        self.lr, self.layer, self.loss = 1e-3, nn.Linear(5, 3), nn.CrossEntropyLoss()

    def training_step(self, batch, _):
        return self.loss(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


@pytest.mark.parametrize("backend", ["gm", None])
def test_a_learning_rate_of_unmixed_training_is_said_to_be_one(backend, tmp_path):
    loader = DataLoader(TensorDataset(torch.randn(60, 5), torch.arange(60) % 3), batch_size=10)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    callbacks = [] if backend is None else [GenLabelCallback(backend)]
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path, **quiet)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Tuner(trainer).lr_find(Net(), loader, num_training=5)
        trainer.fit(Net(), loader)
    assert sum("that of unmixed training" in str(each.message) for each in caught) == (backend is not None)
