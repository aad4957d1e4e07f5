"""GenLabelCallback on a LightningModule that pytorch-tabular knows nothing of."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from genlabel_plugins import make_backend
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_pytorch_tabular import GenLabelCallback

pytestmark = pytest.mark.filterwarnings("ignore")


class Digits(LightningModule):
    """What a user writes, with nothing of ours but the names in the contract."""

    n_classes = 10

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.head = nn.Linear(32, 10)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, target = batch
        return self.loss(self(x), target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def rows():
    x, target = load_digits(return_X_y=True)
    return torch.as_tensor(x, dtype=torch.float32) / 16, torch.as_tensor(target)


def trainer(*callbacks, **options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(max_epochs=3, accelerator="cpu", callbacks=list(callbacks), **quiet, **options)


def fit(callback, module=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = module or Digits()
        x, target = rows()
        runner = trainer(callback)
        runner.fit(module, DataLoader(TensorDataset(x[:1000], target[:1000]), batch_size=100, shuffle=True))
    module.eval()
    accuracy = (module(x[1000:]).argmax(1) == target[1000:]).float().mean()
    return runner, module, float(accuracy)


@pytest.mark.parametrize(
    "callback",
    [
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}),
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, keep_clean=True, mix="cutmix"),
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, mix="generative"),
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, space="latent", warmup_epochs=1),
        GenLabelCallback("running", space="latent", keep_clean=True),
    ],
    ids=["algorithm 1", "cutmix", "generative", "algorithm 2", "algorithm 3"],
)
def test_trains_digits(callback):
    runner, module, accuracy = fit(callback)
    assert accuracy > 0.75
    assert runner.callback_metrics["genlabel_accuracy"] > 0.7
    assert not module.loss._forward_pre_hooks
    assert not module.head._forward_pre_hooks
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_density_is_copied_before_it_is_fitted():
    density = make_backend("gm", covariance_type="diag")
    fit(GenLabelCallback(density))
    assert density.offset_ is None


def test_own_mixer():
    seen = []

    def unmixed(x, target):
        from genlabel_plugins import Mixup

        seen.append(len(x))
        return Mixup(10, alpha=0.5, pairing="nearest_other")(x, target)

    fit(GenLabelCallback("gm", backend_params={"covariance_type": "diag"}, mix=unmixed))
    assert len(seen) == 30


def test_training_is_repeatable():
    first, second = (fit(GenLabelCallback("running", space="latent"))[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_validation_is_not_mixed():
    class Watching(Digits):
        def validation_step(self, batch, batch_idx):
            x, target = batch
            assert target.ndim == 1
            self.log("valid_loss", self.loss(self(x), target))

    x, target = rows()
    loader = DataLoader(TensorDataset(x[:200], target[:200]), batch_size=100)
    runner, module = trainer(GenLabelCallback("kde"), val_check_interval=1), Watching()
    runner.fit(module, loader, loader)
    expected = nn.functional.cross_entropy(module.eval()(x[:200]), target[:200])
    assert runner.callback_metrics["valid_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_progress_is_shown(capfd):
    x, target = rows()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    runner = Trainer(max_epochs=1, accelerator="cpu", callbacks=[GenLabelCallback("kde")], **quiet)
    runner.fit(Digits(), DataLoader(TensorDataset(x[:100], target[:100]), batch_size=50))
    assert "GenLabel reads the training rows" in capfd.readouterr().err


def test_collapse_of_joint_training_warns():
    class Collapsed(Digits):
        """Features that put every row into the tightest class."""

        def forward(self, x):
            return self.head(self.body(x) * 0 + self.spread(x))

        def spread(self, x):
            noise = torch.linspace(-1, 1, 32) * torch.linspace(-1, 1, len(x))[:, None]
            return torch.where((x.sum(1) > x.sum(1).median())[:, None], noise, 1e-3 * noise)

    with pytest.warns(UserWarning, match="class shares of GenLabel's labels are off by"):
        fit(GenLabelCallback("running", space="latent", gamma=1.0), Collapsed())


def test_callback_pickles_and_copies():
    fresh, used = (GenLabelCallback("kde", gamma=0.3, mix="cutmix") for _ in range(2))
    fit(used)
    assert vars(pickle.loads(pickle.dumps(used))) == vars(fresh) == vars(copy.deepcopy(used))


def test_contract_is_checked():
    class NoClasses(Digits):
        n_classes = None

    class NoLoss(Digits):
        def __init__(self):
            super().__init__()
            self.loss = None

    class NoHead(Digits):
        def __init__(self):
            super().__init__()
            self.head = None

    for module, message in (
        (NoClasses(), "NoClasses must have the attribute n_classes"),
        (NoLoss(), "the loss of NoLoss must be a torch.nn.Module, got None"),
        (NoHead(), "space 'latent' needs a head with weights, and NoHead has none"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(GenLabelCallback(space="latent"), module)
        assert not any(each._forward_pre_hooks for each in module.modules())


def test_a_loss_that_is_never_called_is_found():
    class Functional(Digits):
        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

    with pytest.raises(RuntimeError, match="Functional trained on a mixed batch without calling"):
        fit(GenLabelCallback("kde"), Functional())


def test_densities_know_the_rows_of_a_subset_alone():
    class Counted(GaussianMixture):
        def fit(self, x, target, **options):
            sizes.append(len(x))
            return super().fit(x, target, **options)

        def __deepcopy__(self, memo):
            return self

    x, target = rows()
    sizes, sampler = [], SubsetRandomSampler(range(0, 1500, 3))
    loader = DataLoader(TensorDataset(x, target), batch_size=100, sampler=sampler)
    trainer(GenLabelCallback(Counted(covariance_type="diag"))).fit(Digits(), loader)
    assert sizes == [500]


def test_a_copy_made_in_training_outlives_it():
    class CopyAndFail(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.copy = copy.deepcopy(pl_module)
            raise KeyError("stop")

    x, target = rows()
    copying = CopyAndFail()
    loader = DataLoader(TensorDataset(x[:200], target[:200]), batch_size=100)
    with pytest.raises(KeyError, match="stop"):
        trainer(GenLabelCallback("kde"), copying).fit(Digits(), loader)
    logits = copying.copy(x[:100])
    assert torch.equal(copying.copy.loss(logits, target[:100]), nn.functional.cross_entropy(logits, target[:100]))


def test_modules_in_evaluation_mode_stay_so():
    x, target = rows()
    module = Digits()
    module.body[1].eval()
    loader = DataLoader(TensorDataset(x[:200], target[:200]), batch_size=100)
    trainer(GenLabelCallback("kde", space="latent", warmup_epochs=1)).fit(module, loader)
    assert [each.training for each in module.body] == [True, False, True]


def test_a_batch_must_be_a_list():
    x, target = rows()
    loader = DataLoader(TensorDataset(x[:100], target[:100]), batch_size=50, collate_fn=collate_a_mapping)
    with pytest.raises(ValueError, match=r"a batch must be a list \[x, target\], got dict"):
        trainer(GenLabelCallback("gm")).fit(Digits(), loader)


def collate_a_mapping(samples):
    return {"x": torch.stack([x for x, _ in samples]), "target": torch.stack([target for _, target in samples])}
