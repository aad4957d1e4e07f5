"""The flag in pytorch-tabular crossed with what its users switch on; `test_lightning_features.py` has the rest."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import BackboneFinetuning, ModelPruning, StochasticWeightAveraging
from pytorch_tabular_data import breast_cancer, cars, small_network, tabular_model, wine
from torch.utils.data import DataLoader, WeightedRandomSampler

from genlabel_plugins import register_backend, unregister_backend
from genlabel_plugins.densities.backends.gaussian import GaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore")

LATENT = {"genlabel": True, "genlabel_space": "latent", "genlabel_backend_params": {"covariance_type": "diag"}}
ALGORITHMS = {
    "1": {"genlabel": True},
    "2": {**LATENT, "genlabel_warmup_epochs": 1},
    "3": {"genlabel": True, "genlabel_space": "latent", "genlabel_backend": "running"},
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pytorch-tabular counts its runs in the working directory


class Labels(Callback):
    """Remember what the loss is given in each step."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        pl_module.loss.register_forward_hook(
            lambda loss, args, out: self.seen.append(args[1].detach().clone()) if args[0].requires_grad else None
        )


def accuracy(model, frame):
    return float((model.predict(frame)["target_prediction"] == frame["target"]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stochastic_weight_averaging(algorithm):
    frame = breast_cancer()
    network = small_network(use_batch_norm=True)
    model = tabular_model(frame, model=network, max_epochs=6, **ALGORITHMS[algorithm])
    model.fit(frame, callbacks=[StochasticWeightAveraging(0.01, swa_epoch_start=4)])
    assert accuracy(model, frame) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 3}, {"overfit_batches": 2}], ids=str)
def test_switches_of_the_trainer(algorithm, options):
    frame, labels = wine(), Labels()
    if "overfit_batches" in options:
        options = {"trainer_kwargs": {"enable_model_summary": False, **options}}
    model = tabular_model(frame, max_epochs=3, **ALGORITHMS[algorithm], **options)
    model.fit(frame, callbacks=[labels])
    assert labels.seen[-1].ndim == 2
    assert torch.isfinite(model.trainer.callback_metrics["train_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pruning(algorithm):
    frame, labels = breast_cancer(), Labels()
    model = tabular_model(frame, max_epochs=3, **ALGORITHMS[algorithm])
    model.fit(frame, callbacks=[labels, ModelPruning("l1_unstructured", amount=0.1)])
    assert labels.seen[-1].ndim == 2
    assert accuracy(model, frame) > 0.8


@pytest.mark.slow
def test_backbone_finetuning():
    class Epochs(Callback):
        def __init__(self):
            self.weights, self.fits = [], []

        def on_train_epoch_end(self, trainer, pl_module):
            self.weights.append(pl_module.backbone.linear_layers[0].weight.detach().clone())
            self.fits.append(float(trainer.callback_metrics.get("genlabel_clean_accuracy", 0)))

    frame, epochs = breast_cancer(), Epochs()
    model = tabular_model(frame, max_epochs=6, **ALGORITHMS["2"])
    thaw = BackboneFinetuning(3, backbone_initial_lr=0.05, backbone_initial_ratio_lr=1.0)
    model.fit(frame, callbacks=[thaw, epochs])
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(epochs.weights)]
    assert moved == [False, False, True, True, True]
    assert len(set(epochs.fits[2:])) > 1  # the densities move with the features, and their accuracy with them


def test_rows_of_weight_zero_stay_out_of_the_densities():
    sizes = []

    @register_backend("counted")
    class Counted(GaussianMixture):
        def fit(self, x, target, **options):
            sizes.append(len(x))
            return super().fit(x, target, **options)

    try:
        frame = wine().sample(frac=1, random_state=0)
        sampler = WeightedRandomSampler([1.0] * 100 + [0.0] * (len(frame) - 100), len(frame))
        model = tabular_model(frame, genlabel=True, genlabel_backend="counted")
        model.fit(frame, validation=frame, train_sampler=sampler)
    finally:
        unregister_backend("counted")
    assert sizes == [80, 100]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_copy_made_in_training_is_an_ordinary_module(algorithm):
    class Copies(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.copy = copy.deepcopy(pl_module)

    frame, copies = cars(), Copies()
    tabular_model(frame, max_epochs=3, **ALGORITHMS[algorithm]).fit(frame, callbacks=[copies])
    assert all(parameter.requires_grad for parameter in copies.copy.parameters())
    assert all(each.training for each in copies.copy.modules())
    assert not any(
        each._forward_pre_hooks or each._forward_hooks for each in copies.copy.modules() if each is not copies.copy.loss
    )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_resumed_training_goes_on_with_the_same_labels(algorithm, tmp_path):
    class Reseed(Callback):  # Lightning resumes no random numbers
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            torch.manual_seed(100 + trainer.global_step)

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "second.ckpt")

    frame, seen, weights = wine(), [], None
    for path in (None, tmp_path / "second.ckpt"):
        labels = Labels()
        model = tabular_model(frame, max_epochs=4, **ALGORITHMS[algorithm])
        data = model.prepare_dataloader(train=frame, validation=frame)
        module = model.prepare_model(data)
        module.load_state_dict(weights or module.state_dict())
        weights = copy.deepcopy(module.state_dict())
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
        trainer = Trainer(max_epochs=4, callbacks=[Reseed(), labels, Save()], **quiet)
        rows = DataLoader(data.train_dataset, batch_size=71)
        trainer.fit(module, rows, ckpt_path=path, weights_only=False)  # its hyperparameters are OmegaConf's
        seen.append(labels.seen)
    assert len(seen[1]) == 6
    for left, right in zip(seen[0][6:], seen[1], strict=True):
        torch.testing.assert_close(left, right)
