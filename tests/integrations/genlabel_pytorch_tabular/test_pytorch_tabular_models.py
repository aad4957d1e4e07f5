"""Every classification model of pytorch-tabular, and what cannot be trained so."""

from __future__ import annotations

import pytest
import torch
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, SSLModelConfig
from pytorch_tabular.models import (
    AutoIntConfig,
    CategoryEmbeddingModelConfig,
    DANetConfig,
    FTTransformerConfig,
    GANDALFConfig,
    GatedAdditiveTreeEnsembleConfig,
    MDNConfig,
    NodeConfig,
    StackingModelConfig,
    TabNetModelConfig,
    TabTransformerConfig,
)
from pytorch_tabular.ssl_models import DenoisingAutoEncoderConfig
from pytorch_tabular_data import QUICK, cars, small_network, tabular_model, wine
from torch import nn

from genlabel_pytorch_tabular import GenLabelTrainerConfig

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ATTENTION = {"input_embed_dim": 8, "num_heads": 2, "num_attn_blocks": 1}
SMALL = {
    CategoryEmbeddingModelConfig: {"layers": "8"},
    FTTransformerConfig: ATTENTION,
    GANDALFConfig: {"gflu_stages": 1},
    GatedAdditiveTreeEnsembleConfig: {"gflu_stages": 1, "num_trees": 2, "tree_depth": 2},
    NodeConfig: {"num_layers": 1, "num_trees": 4, "depth": 2},
    TabNetModelConfig: {"n_d": 4, "n_a": 4, "n_steps": 2},
    DANetConfig: {"n_layers": 1, "abstlay_dim_1": 8, "k": 2, "virtual_batch_size": 16},
    AutoIntConfig: {"attn_embed_dim": 4, "num_attn_blocks": 1, "embedding_dim": 4},
    TabTransformerConfig: ATTENTION,
    StackingModelConfig: {},
}
RUNNING = {"genlabel_space": "latent", "genlabel_backend": "running"}
HEADLESS = (NodeConfig, TabNetModelConfig)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pytorch-tabular counts its runs in the working directory


def tiny(config):
    options = dict(SMALL[config])
    if config is StackingModelConfig:
        members = (CategoryEmbeddingModelConfig, FTTransformerConfig)
        options["model_configs"] = [each(task="classification", **SMALL[each]) for each in members]
    return config(task="classification", **options)


def train(config, **options):
    frame = cars().iloc[:128]
    model = tabular_model(frame, model=tiny(config), genlabel=True, max_epochs=1, **options)
    model.fit(frame, validation=frame.iloc[:32])
    return model


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.__name__)
@pytest.mark.parametrize("space", ["input", "embedding"])
def test_every_model(config, space):
    model = train(config, genlabel_space=space)
    logged = model.trainer.callback_metrics
    assert torch.isfinite(logged["train_loss"])
    assert logged["genlabel_relabeled"] > 0
    assert set(model.predict(cars().iloc[128:160])["target_prediction"]) <= {0, 1, 2}


@pytest.mark.parametrize("backend", ["gm", "running"])
@pytest.mark.parametrize("config", [each for each in SMALL if each not in HEADLESS], ids=lambda config: config.__name__)
def test_latent_space(config, backend):
    params = {"covariance_type": "diag"} if backend == "gm" else {}
    options = {"genlabel_backend": backend, "genlabel_backend_params": params, "genlabel_warmup_epochs": 0}
    logged = train(config, genlabel_space="latent", **options).trainer.callback_metrics
    assert torch.isfinite(logged["train_loss"])
    assert logged["genlabel_relabeled"] > 0


@pytest.mark.parametrize("config", HEADLESS, ids=lambda config: config.__name__)
def test_latent_space_needs_a_head(config):
    with pytest.raises(ValueError, match=r"needs a head with weights, and .*Model has none: use space 'input'"):
        train(config, genlabel_space="latent")


@pytest.mark.parametrize(
    "config",
    [
        small_network(task="regression"),
        MDNConfig(
            task="regression",
            head_config={},
            backbone_config_class="CategoryEmbeddingModelConfig",
            backbone_config_params={"task": "backbone", "layers": "8"},
        ),
    ],
    ids=["regression", "MDN"],
)
def test_regression_is_refused(config):
    frame = wine()
    with pytest.raises(ValueError, match="genlabel is for classification, got task='regression' of"):
        tabular_model(frame, model=config, genlabel=True).fit(frame)


def test_self_supervision_is_refused():
    frame = wine()
    encoder = CategoryEmbeddingModelConfig(task="backbone", layers="8-4", head=None)
    model = TabularModel(
        data_config=DataConfig(target=None, continuous_cols=list(frame.columns[:-1]), handle_missing_values=False),
        model_config=DenoisingAutoEncoderConfig(encoder_config=encoder, decoder_config=encoder),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(genlabel=True, **QUICK),
        verbose=False,
    )
    assert issubclass(DenoisingAutoEncoderConfig, SSLModelConfig)
    with pytest.raises(ValueError, match="genlabel is for classification, got task='ssl'"):
        model.pretrain(frame)


def test_loss_that_refuses_soft_labels():
    frame = wine()
    with pytest.raises(ValueError, match=r"the loss must take soft labels \(B, C\), as torch.nn.CrossEntropyLoss does"):
        tabular_model(frame, genlabel=True).fit(frame, loss=nn.NLLLoss())


@pytest.mark.parametrize("options", [{}, {"genlabel_mix": "column_cutmix"}, {"genlabel_space": "embedding"}], ids=str)
def test_table_of_categories_alone(options):
    frame = cars()[["cylinders", "year", "origin", "target"]]
    model = tabular_model(frame, genlabel=True, **options)
    model.fit(frame)
    assert model.trainer.callback_metrics["genlabel_clean_accuracy"] > 0.6


@pytest.mark.parametrize("backend", ["gm", "running"])
def test_several_targets_in_latent_space(backend):
    frame = cars()
    options = {"genlabel_space": "latent", "genlabel_backend": backend, "genlabel_warmup_epochs": 0}
    model = tabular_model(frame, targets=("target", "old"), genlabel=True, **options)
    model.fit(frame)
    assert torch.isfinite(model.trainer.callback_metrics["train_loss"])
    assert model.trainer.callback_metrics["genlabel_relabeled"] > 0


@pytest.mark.parametrize("options", [{"genlabel_keep_clean": True}, RUNNING], ids=["keep_clean", "running"])
def test_last_batch_of_one_row(options):
    frame = cars().iloc[:97]  # three batches of 32, and one row; without its clean copy the host's metrics refuse it
    network = small_network(batch_norm_continuous_input=False)
    model = tabular_model(frame, model=network, genlabel=True, **options)
    model.fit(frame, validation=frame.iloc[:32])
    assert torch.isfinite(model.trainer.callback_metrics["train_loss"])


def test_generative_mixing_is_for_numbers():
    frame = cars()
    with pytest.raises(ValueError, match="mix='generative' is for tables of numbers with one target"):
        tabular_model(frame, genlabel=True, genlabel_mix="generative").fit(frame)


@pytest.mark.parametrize("backend", ["kde", "nn"])
def test_other_backends_score_the_numbers_of_a_mixed_table(backend):
    frame = cars()
    model = tabular_model(frame, genlabel=True, genlabel_backend=backend)
    model.fit(frame)
    assert model.trainer.callback_metrics["genlabel_clean_accuracy"] > 0.6
