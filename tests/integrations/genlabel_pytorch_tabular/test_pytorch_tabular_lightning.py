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
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, keep_clean=True, mix="column_cutmix"),
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, mix="generative"),
        GenLabelCallback("gm", backend_params={"covariance_type": "tied"}, space="latent", warmup_epochs=1),
        GenLabelCallback("running", space="latent", keep_clean=True),
    ],
    ids=["algorithm 1", "cutmix", "generative", "algorithm 2", "algorithm 3"],
)
def test_trains_digits(callback):
    runner, module, accuracy = fit(callback)
    assert accuracy > 0.75
    assert runner.callback_metrics["genlabel_clean_accuracy"] > 0.7
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

    with pytest.warns(UserWarning, match=r"GenLabel's labels degenerate \(class shares off by"):
        fit(GenLabelCallback("running", space="latent", gamma=1.0), Collapsed())


def test_callback_pickles_and_copies():
    fresh, used = (GenLabelCallback("kde", gamma=0.3, mix="column_cutmix") for _ in range(2))
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
    assert sizes == [400, 500]  # four fifths, for the accuracy on the others, then all


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


class Watched(Digits):
    """Remembers the rows and the labels of each step."""

    def __init__(self, **how):
        super().__init__()
        self.how, self.rows, self.labels = how, [], []
        self.loss.register_forward_hook(lambda loss, args, kwargs, out: self.note(args, kwargs), with_kwargs=True)

    def note(self, args, kwargs):
        if args[0].requires_grad:  # else it is asked whether it takes soft labels
            self.labels.append((*args, *kwargs.values())[1].detach())

    def training_step(self, batch, batch_idx):
        x, target = batch
        self.rows.append(x.clone())
        features = self.body(x.flatten(1))
        logits = self.head(input=features) if "head" in self.how else self.head(features)
        return self.loss(logits, target=target) if "loss" in self.how else self.loss(logits, target)


def train(module, callback, x, target, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loader = DataLoader(TensorDataset(x, target), batch_size=options.pop("batch_size", 100))
        runner = trainer(callback, **options)
        runner.fit(module, loader)
    return runner


@pytest.mark.parametrize("how", [{"loss": 1}, {"head": 1}, {"loss": 1, "head": 1}], ids=str)
@pytest.mark.parametrize("backend", ["gm", "running"])
def test_calls_by_keyword_give_the_same_labels(how, backend):
    x, target = rows()
    params = {"covariance_type": "diag"} if backend == "gm" else {}
    labels = []
    for each in ({}, how):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            module = Watched(**each)
        options = {"backend_params": params, "space": "latent", "warmup_epochs": 0}
        train(module, GenLabelCallback(backend, **options), x[:200], target[:200])
        labels.append(torch.cat(module.labels))
    assert torch.equal(*labels)


def test_cutmix_swaps_boxes_of_whole_pixels():
    x, target = rows()
    images = torch.stack([x, x + 10], 1).view(-1, 2, 8, 8)[:60]  # two channels; each value tells its image
    module = Watched()
    module.body = nn.Sequential(nn.Linear(128, 32), nn.ReLU())
    train(module, GenLabelCallback("gm", mix="cutmix", gamma=0.0), images, target[:60], batch_size=60)
    mixed, y = module.rows[0], module.labels[0]
    changed = (mixed != images).any(1)  # (B, H, W), in any channel
    boxes = 0
    for row, pixels in enumerate(changed):
        if not pixels.any():
            continue
        partners = [j for j in range(60) if (mixed[row][:, pixels] == images[j][:, pixels]).all()]
        assert partners  # all changed pixels, in both channels, come from one image
        ys, xs = pixels.nonzero().T
        outside = torch.ones(8, 8, dtype=torch.bool)
        outside[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = False
        assert torch.equal(mixed[row][:, outside], images[row][:, outside])
        boxes += 1
    assert boxes > 30
    assert torch.allclose((y * 64).round(), y * 64, atol=1e-4)  # shares of 64 pixels


@pytest.mark.slow
def test_rows_that_meet_themselves_keep_their_label():
    def own(x, target, generator):
        return torch.arange(len(target))

    x, target = rows()
    for pairing in ("permutation", own):  # a batch of one row has no other partner
        module = Watched()
        module.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        callback = GenLabelCallback("gm", backend_params={"covariance_type": "diag"}, gamma=1.0, pairing=pairing)
        train(module, callback, x[:103], target[:103], batch_size=3)
        whole = torch.cat(module.labels[:35])
        assert torch.equal(whole[-1], torch.eye(10)[target[102]])
        assert torch.equal(whole, torch.eye(10)[target[:103]]) == (pairing is own)


def test_accuracy_is_that_of_rows_not_fitted():
    """Labels at random: any accuracy above chance is remembered, and a nearest neighbor remembers everything."""
    x, _ = rows()
    target = torch.arange(len(x)) % 10
    target = target[torch.randperm(len(x), generator=torch.Generator().manual_seed(3))]
    runner = train(Digits(), GenLabelCallback("nn"), x, target)
    assert 0.04 < runner.callback_metrics["genlabel_clean_accuracy"] < 0.17  # 359 rows: chance within 4 deviations


def test_report_has_the_meaning_of_the_core():
    x, target = rows()
    runner = train(Digits(), GenLabelCallback("kde", pairing="flip"), x[:101], target[:101], batch_size=101)
    assert runner.callback_metrics["genlabel_relabeled"] == pytest.approx(100 / 101)  # the middle row meets itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be None or at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"pairing": "random"}, "pairing must be one of .*'nearest_other'.* or a callable, got 'random'"),
        ({"mix": "cutmix", "space": "embedding"}, "mix='cutmix' swaps values before any embedding"),
        ({"gamma": "0.5"}, "gamma must be a number, got the str '0.5'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GenLabelCallback(**options)


def test_top_k_and_temperature_reach_the_labels():
    x, target = rows()
    x = x[:200] + 0.1 * torch.randn(200, 64, generator=torch.Generator().manual_seed(0))  # no pixel is constant
    params = {"covariance_type": "diag"}
    module, options = Watched(), {"backend_params": params, "gamma": 1.0, "per_sample": True}
    train(module, GenLabelCallback("gm", top_k=3, temperature=1e3, **options), x, target[:200])
    y = module.labels[0]
    mixed = y.amax(1) < 1
    assert mixed.sum() > 80
    assert torch.equal((y[mixed] > 0).sum(1), torch.full((int(mixed.sum()),), 3))
    score = make_backend("gm", **params).fit(x, target[:200]).log_prob(module.rows[0]).topk(3)
    expected = torch.zeros_like(y).scatter(1, score.indices, (score.values / 1e3).softmax(1))
    torch.testing.assert_close(y[mixed], expected[mixed], atol=1e-4, rtol=0)
