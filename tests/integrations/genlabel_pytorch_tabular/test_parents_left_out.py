"""Parents left out in Lightning and in pytorch-tabular, and teachers that see all columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning
import torch
from lightning_modules import TARGET, X, loader, module_of
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.ensemble import RandomForestClassifier

from genlabel_plugins import CrossFit, FromClassifier, GenLabel, Parents
from genlabel_pytorch_tabular import GenLabelCallback, GenLabelTrainerConfig
from genlabel_pytorch_tabular.options import Options

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
KNOWN = {tuple(row.tolist()) for row in X}
STUMP = RandomForestClassifier(5, max_depth=3, random_state=0)


def fit(callback, max_epochs=1, ckpt_path=None, **options):
    module = module_of(pytorch_lightning)
    trainer = pytorch_lightning.Trainer(
        max_epochs=max_epochs, accelerator="cpu", callbacks=[callback], **QUIET | options
    )
    trainer.fit(module, loader(), ckpt_path=ckpt_path)
    return module, trainer


@pytest.mark.parametrize("options", [{}, {"space": "latent", "keep_clean": True, "warmup_epochs": 1}])
def test_parents_are_rows_of_the_batch(options, monkeypatch):
    given = []
    original = GenLabel.relabel

    def relabel(self, x, y, gamma=None, parents=None):
        given.append((self, x, y, parents))
        return original(self, x, y, gamma, parents)

    monkeypatch.setattr(GenLabel, "relabel", relabel)
    fit(GenLabelCallback("kde", leave_parents_out=True, **options), 2)
    for genlabel, mixed, _, parents in given:
        place = genlabel.density.places
        rows = genlabel.density._rows(torch.cat([parents.x_i, parents.x_j]))
        target_j = torch.where(parents.target_j < 0, parents.target_i, parents.target_j)  # of its own partner
        assert (place.find(rows, torch.cat([parents.target_i, target_j])) >= 0).all()
        if not options:
            assert {tuple(row.tolist()) for row in parents.x_j} <= KNOWN
            between = mixed - parents.x_j, parents.x_i - parents.x_j
            lam = (between[0] * between[1]).sum(1) / between[1].square().sum(1).clamp(min=1e-9)
            assert torch.allclose(between[0], lam[:, None] * between[1], atol=1e-4)
    assert len(given) >= 6


def test_options_that_do_not_go_together_say_so():
    with pytest.raises(ValueError, match="set keep_clean=True"):
        Options(backend="kde", space="latent", leave_parents_out=True)
    with pytest.raises(ValueError, match="set keep_clean=True"):
        Options(backend=CrossFit("kde"), space="latent")
    with pytest.raises(ValueError, match="got 5 beside one"):
        Options(backend=CrossFit("kde"), cross_fit=5)
    with pytest.raises(ValueError, match="a backend that is fitted"):
        Options(backend="running", space="latent", keep_clean=True, cross_fit=5)
    with pytest.raises(ValueError, match="cross_fit must be None or at least 3"):
        Options(cross_fit=2)


def test_a_resumed_training_asks_its_teacher_again(tmp_path):
    callback = GenLabelCallback(FromClassifier(STUMP), cross_fit=3)
    _, trainer = fit(callback, 1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    module, trainer = fit(GenLabelCallback(FromClassifier(STUMP), cross_fit=3), 2, ckpt_path=tmp_path / "half.ckpt")
    assert trainer.current_epoch == 2
    assert all(y.sum(1).allclose(torch.ones(len(y))) for y in module.labels)


def test_a_teacher_sees_categories_and_a_density_leaves_them_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(X[:90, :2].numpy(), columns=["a", "b"])
    frame = frame.assign(kind=np.array(["u", "v", "w"])[TARGET[:90]], target=TARGET[:90].numpy())
    seen = []
    original = CrossFit.log_prob_without

    def log_prob_without(self, x, parents):
        seen.append((x.shape[1], parents))
        return original(self, x, parents)

    monkeypatch.setattr(CrossFit, "log_prob_without", log_prob_without)

    def train(callbacks, **options):
        quiet = {"accelerator": "cpu", "progress_bar": "none", "early_stopping": None, "checkpoints": None}
        model = TabularModel(
            data_config=DataConfig(target=["target"], continuous_cols=["a", "b"], categorical_cols=["kind"]),
            model_config=CategoryEmbeddingModelConfig(task="classification", layers="8"),
            optimizer_config=OptimizerConfig(),
            trainer_config=GenLabelTrainerConfig(max_epochs=1, batch_size=32, load_best=False, **quiet, **options),
            verbose=False,
            suppress_lightning_logger=True,
        )
        model.fit(frame, callbacks=callbacks)
        return model

    train([GenLabelCallback(CrossFit(FromClassifier(STUMP), n_folds=3))])
    assert seen
    assert all(width > 4 for width, _ in seen)  # numbers and indicators
    assert all(isinstance(parents, Parents) for _, parents in seen)
    train([], genlabel=True, genlabel_backend="kde", genlabel_leave_parents_out=True)
    train([], genlabel=True, genlabel_backend="gm", genlabel_backend_params={"n_components": 2}, genlabel_cross_fit=3)


@pytest.mark.parametrize("options", [{}, {"space": "latent", "warmup_epochs": 1}, {"keep_clean": True}])
def test_mixing_stops_where_it_is_told(options):
    module, _ = fit(GenLabelCallback("gm", stop_mixing=0.5, **options), 4)
    for number, (rows, label) in enumerate(zip(module.rows, module.labels, strict=True)):
        epoch = number // 6
        clean = len(rows) == 50 and all(tuple(row.tolist()) in KNOWN for row in rows)
        mixes = epoch == 1 or (epoch == 0 and "warmup_epochs" not in options)
        assert clean == (not mixes)
        assert label.is_floating_point() == mixes
    with pytest.raises(ValueError, match="stop_mixing must come after the 1 warm-up epochs"):
        fit(GenLabelCallback("gm", space="latent", warmup_epochs=1, stop_mixing=1), 4)
