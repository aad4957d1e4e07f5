"""The flag in a config of pytorch-tabular, in every way of training that pytorch-tabular has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_tabular import TabularModel, TabularModelTuner, model_sweep
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from pytorch_tabular_data import QUICK, breast_cancer, cars, small_network, tabular_model, weights, wine
from torch import nn

from genlabel_plugins import register_backend, unregister_backend
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_pytorch_tabular import (
    GenLabelCallback,
    GenLabelOptimizerConfig,
    GenLabelTrainerConfig,
    genlabel_model_config,
)
from genlabel_pytorch_tabular.hook import GenLabelHook, make_callbacks

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pytorch-tabular counts its runs in the working directory


@pytest.fixture
def fits():
    """Rows of each fit: two fits a training, of four fifths for the accuracy on the others, and of all."""
    sizes = []

    @register_backend("counted")
    class Counted(GaussianMixture):
        def fit(self, x, target, **options):
            sizes.append(len(x))
            return super().fit(x, target, **options)

    yield sizes
    unregister_backend("counted")


@pytest.mark.slow
def test_flag_trains_better_than_chance_and_logs():
    frame = breast_cancer()
    train, test = frame.iloc[:400], frame.iloc[400:]
    model = tabular_model(frame, genlabel=True, max_epochs=8)
    model.fit(train)
    logged = dict(model.trainer.callback_metrics)
    assert model.evaluate(test, verbose=False)[0]["test_accuracy"] > 0.8
    assert 0 < logged["genlabel_relabeled"] <= 1
    assert 0 <= logged["genlabel_entropy"] <= 0.7  # log 2 = 0.69
    assert 0 <= logged["genlabel_intrusion"] <= 1
    assert logged["genlabel_clean_accuracy"] > 0.9


@pytest.mark.slow
def test_flag_off_is_bit_identical(monkeypatch):
    frame = cars()
    with_flag_off = tabular_model(frame, genlabel=False)
    with_flag_off.fit(frame)
    monkeypatch.setenv("GENLABEL_DISABLE_HOOK", "1")
    plain = tabular_model(frame)
    plain.fit(frame)
    assert torch.equal(weights(with_flag_off), weights(plain))


def test_flag_changes_the_training():
    frame = wine()
    plain, relabeled = tabular_model(frame), tabular_model(frame, genlabel=True)
    plain.fit(frame)
    relabeled.fit(frame)
    assert not torch.equal(weights(plain), weights(relabeled))


def test_module_is_left_as_it_came():
    frame = cars()
    model = tabular_model(frame, genlabel=True, genlabel_space="latent", genlabel_warmup_epochs=1)
    model.fit(frame)
    assert not any(each._forward_pre_hooks or each._forward_hooks for each in model.model.modules())
    assert all(parameter.requires_grad for parameter in model.model.parameters())
    assert all(each.training for each in model.model.modules())
    assert not any(isinstance(callback, GenLabelCallback) for callback in model.trainer.callbacks)
    assert not any("genlabel" in name for name in model.model.state_dict())


def test_exception_leaves_the_module_as_it_came():
    class Fail(Callback):
        def on_train_batch_end(self, *args):
            raise KeyError("stop")

    frame = wine()
    model = tabular_model(frame, genlabel=True)
    with pytest.raises(KeyError, match="stop"):
        model.fit(frame, callbacks=[Fail()])
    assert not any(each._forward_pre_hooks for each in model.model.modules())
    assert not any(isinstance(callback, GenLabelCallback) for callback in model.trainer.callbacks)


@pytest.mark.slow
def test_cross_validate_fits_in_every_fold(fits):
    frame = wine()
    scores, _ = tabular_model(frame, genlabel=True, genlabel_backend="counted").cross_validate(cv=3, train=frame)
    assert len(scores) == 3
    assert len(fits) == 2 * 3


@pytest.mark.slow
def test_tuner_searches_gamma_and_alpha(fits):
    frame = wine()
    tuner = TabularModelTuner(
        data_config=DataConfig(target=["target"], continuous_cols=list(frame.columns[:-1])),
        model_config=genlabel_model_config(CategoryEmbeddingModelConfig)(task="classification", layers="8"),
        optimizer_config=GenLabelOptimizerConfig(genlabel=True, genlabel_backend="counted"),
        trainer_config=TrainerConfig(**QUICK),
    )
    result = tuner.tune(
        train=frame,
        validation=frame,
        search_space={"optimizer_config__genlabel_gamma": [0.0, 1.0], "optimizer_config__genlabel_alpha": [0.5]},
        metric="accuracy",
        mode="max",
        strategy="grid_search",
        progress_bar=False,
    )
    assert set(result.trials_df["optimizer_config__genlabel_gamma"]) == {0.0, 1.0}
    assert len(fits) == 2 * 1  # gamma=0 needs no density


@pytest.mark.slow
def test_tuner_searches_a_model_config(fits):
    frame = wine()
    Config = genlabel_model_config(CategoryEmbeddingModelConfig)
    tuner = TabularModelTuner(
        data_config=DataConfig(target=["target"], continuous_cols=list(frame.columns[:-1])),
        model_config=Config(task="classification", layers="8", genlabel=True, genlabel_backend="counted"),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(**QUICK),
    )
    space = {"model_config__genlabel_gamma": [0.5, 1.0]}
    tuner.tune(frame, space, "accuracy", "max", "grid_search", validation=frame, progress_bar=False)
    assert len(fits) == 2 * 2


@pytest.mark.slow
def test_model_sweep(fits):
    frame = wine()
    table, best = model_sweep(
        task="classification",
        train=frame,
        test=frame,
        data_config=DataConfig(target=["target"], continuous_cols=list(frame.columns[:-1])),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(genlabel=True, genlabel_backend="counted", **QUICK),
        model_list=[small_network(), small_network(layers="4")],
        progress_bar=False,
        verbose=False,
    )
    assert len(table) == 2
    assert len(fits) == 2 * 2
    assert best is not None


@pytest.mark.slow
def test_saved_model_holds_the_fields_and_nothing_of_ours(tmp_path):
    frame = cars()
    model = tabular_model(frame, genlabel=True, genlabel_backend="kde", genlabel_backend_params={"bandwidth": 0.5})
    model.fit(frame)
    folder = tmp_path / "saved"
    model.save_model(str(folder))
    config = OmegaConf.load(folder / "config.yml")
    assert config.genlabel
    assert config.genlabel_backend == "kde"
    assert config.genlabel_backend_params == {"bandwidth": 0.5}
    pickled = [path for path in folder.iterdir() if path.suffix == ".sav"]
    assert not any(
        b"genlabel_pytorch_tabular" in path.read_bytes() for path in pickled
    )  # loads where we are not installed

    loaded = TabularModel.load_model(str(folder))
    assert torch.equal(weights(loaded), weights(model))
    hooks = [each for each in loaded.trainer.callbacks if isinstance(each, GenLabelHook)]
    assert len(hooks) == 1
    loaded.train(loaded.model, model.datamodule)
    assert "genlabel_entropy" in loaded.trainer.callback_metrics


def test_best_checkpoint_is_loaded(tmp_path):
    frame = wine()
    model = tabular_model(
        frame, genlabel=True, checkpoints="valid_loss", checkpoints_path=str(tmp_path / "best"), load_best=True
    )
    model.fit(frame)
    saved = torch.load(model.trainer.checkpoint_callback.best_model_path, weights_only=False)["state_dict"]
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, saved[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"precision": "bf16-mixed"}, {"precision": "bf16-true"}, {"accumulate_grad_batches": 2}]
)
def test_precision_and_accumulation(options):
    frame = cars()
    model = tabular_model(frame, genlabel=True, genlabel_space="embedding", **options)
    model.fit(frame)
    assert weights(model).isfinite().all()


def test_early_stopping_works():
    frame = wine()
    options = {"early_stopping": "valid_loss", "early_stopping_patience": 1, "early_stopping_min_delta": 10.0}
    model = tabular_model(frame, genlabel=True, max_epochs=20, **options)
    model.fit(frame)
    assert model.trainer.current_epoch < 5


def test_training_that_ends_in_the_warmup_says_so():
    frame = wine()
    options = {"early_stopping": "valid_loss", "early_stopping_patience": 1, "early_stopping_min_delta": 10.0}
    model = tabular_model(frame, genlabel=True, max_epochs=20, genlabel_warmup_epochs=10, **options)
    with pytest.warns(UserWarning, match="before the 10 warm-up epochs"):
        model.fit(frame)


def test_class_weights_label_smoothing_and_sampler():
    frame = wine()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)
    sampler = torch.utils.data.WeightedRandomSampler(torch.rand(len(frame)), len(frame))
    model = tabular_model(frame, genlabel=True)
    model.fit(frame, validation=frame, loss=loss, train_sampler=sampler)
    assert "genlabel_entropy" in model.trainer.callback_metrics


def test_explicit_callback_overrules_the_flag(fits):
    frame = wine()
    model = tabular_model(frame, genlabel=True, genlabel_backend="kde")
    model.fit(frame, callbacks=[GenLabelCallback("counted")])
    assert len(fits) == 2 * 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genlabel_backend": "gmm"}, "backend must be one of .*'gm'.* got 'gmm'"),
        ({"genlabel_gamma": 1.5}, "gamma must lie in .0, 1., got 1.5"),
        ({"genlabel_alpha": 0.0}, "alpha must be positive, got 0.0"),
        ({"genlabel_mix": "cut"}, "cut is not a valid choice for genlabel_mix"),
        ({"genlabel_space": "inputs"}, "inputs is not a valid choice for genlabel_space"),
        ({"genlabel_backend": "running"}, "goes with space='latent'"),
        ({"genlabel_mix": "column_cutmix", "genlabel_space": "embedding"}, "swaps values before any embedding"),
        ({"genlabel_mix": "generative", "genlabel_space": "latent"}, "needs densities of the inputs"),
        ({"genlabel_warmup_epochs": -1}, "warmup_epochs must be None or at least 0, got -1"),
        ({"genlabel_fresh_head": True}, "fresh_head goes with space='latent'"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        GenLabelTrainerConfig(genlabel=True, **options)


def test_factory_stays_away_from_others(monkeypatch):
    assert len(make_callbacks()) == 1
    monkeypatch.setenv("GENLABEL_DISABLE_HOOK", "1")
    assert make_callbacks() == []
    monkeypatch.delenv("GENLABEL_DISABLE_HOOK")
    monkeypatch.delitem(sys.modules, "pytorch_tabular")
    assert not any(isinstance(each, GenLabelHook) for each in Trainer(logger=False).callbacks)


@pytest.mark.slow
def test_entry_point_imports_nothing_heavy():
    code = """
import sys
import pytorch_lightning  # which imports pandas with torch 2.6
from importlib.metadata import entry_points
before = set(sys.modules)
(entry,) = [each for each in entry_points(group="pytorch_lightning.callbacks_factory") if each.name == "genlabel"]
assert entry.load()() == []
assert not {"pytorch_tabular", "genlabel_plugins", "omegaconf", "pandas"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
