"""GenLabelCallback crossed with what users of Lightning switch on, in both packages."""

from __future__ import annotations

import copy
import io
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest
import torch
from lightning_modules import TARGET, X, fit, loader, module_of
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_pytorch_tabular import GenLabelCallback

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

DIAGONAL = {"covariance_type": "diag"}


@pytest.fixture(params=["pytorch_lightning", "lightning.pytorch"])
def pl(request):
    return import_module(request.param)


def callback_of(pl, **hooks):
    return type("Hooks", (pl.Callback,), {name: staticmethod(hook) for name, hook in hooks.items()})()


def algorithm_2(warmup_epochs=1, **options):
    return GenLabelCallback("gm", space="latent", warmup_epochs=warmup_epochs, backend_params=DIAGONAL, **options)


def running(**options):
    return GenLabelCallback("running", space="latent", **options)


ALGORITHMS = {
    "1": lambda **options: GenLabelCallback("gm", backend_params=DIAGONAL, **options),
    "2": algorithm_2,
    "3": running,
}


@pytest.fixture(params=ALGORITHMS)
def algorithm(request):
    return ALGORITHMS[request.param]


@pytest.mark.parametrize("hook", ["on_before_batch_transfer", "on_after_batch_transfer"])
def test_densities_know_the_rows_that_hooks_have_changed(pl, hook):
    scale = {hook: lambda self, batch, dataloader_idx: [(batch[0] - 50) / 100, batch[1]]}
    raw, plain = module_of(pl, type("Scaled", (), scale)), module_of(pl)
    for module, x in ((raw, 50 + 100 * X), (plain, X)):
        fit(pl, module, [ALGORITHMS["1"](gamma=1.0)], loader(x))
    for left, right in zip(raw.labels, plain.labels, strict=True):
        torch.testing.assert_close(left, right, atol=1e-3, rtol=0)


def test_stochastic_weight_averaging(pl):
    swa = import_module(pl.__name__ + ".callbacks").StochasticWeightAveraging
    plain, mixed = module_of(pl), module_of(pl)
    fit(pl, plain, [swa(0.05, swa_epoch_start=4)], max_epochs=6)
    fit(pl, mixed, [algorithm_2(), swa(0.05, swa_epoch_start=4)], max_epochs=6)
    assert mixed.accuracy() > 0.9
    counted = [each.body[1].running_mean.abs().sum() for each in (plain, mixed)]
    assert 0.5 < counted[1] / counted[0] < 2  # BatchNorm was counted anew, on clean rows
    assert mixed.body[1].num_batches_tracked == plain.body[1].num_batches_tracked == 6
    assert [y.ndim for y in mixed.labels[-6:]] == [1] * 6


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("algorithm", ["2", "3"], indirect=True)
def test_another_forward_of_the_head(pl, algorithm, order):
    """Labels are those of the rows of the loss, whichever other rows pass the head in the step."""

    class Consistent:
        def training_step(self, batch, batch_idx):
            others = X[torch.randperm(300, generator=torch.Generator().manual_seed(batch_idx))[: len(batch[0])]]
            with torch.no_grad():  # in evaluation mode, so that the features of the labelled rows are the same
                before = self.eval()(others) if order == "first" else 0
            self.train()
            logits = self(batch[0])
            after = self.eval()(others) if order == "last" else 0
            self.train()
            return self.loss(logits, batch[1]) + 0 * (before + after).sum()

    consistent, plain = module_of(pl, Consistent), module_of(pl)
    for module in (consistent, plain):
        fit(pl, module, [algorithm(gamma=0.9)])
    for left, right in zip(consistent.labels, plain.labels, strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=0)


def test_rows_that_share_a_forward_with_others_are_refused(pl):
    class Joined:
        def training_step(self, batch, batch_idx):
            logits = self(torch.cat([batch[0], X[:10]]))
            return self.loss(logits[: len(batch[0])], batch[1])

    with pytest.raises(RuntimeError, match="was given 110 rows where the batch has 100"):
        fit(pl, module_of(pl, Joined), [running()])


def test_a_loss_of_two_forwards_is_refused(pl):
    class Ensemble:
        def training_step(self, batch, batch_idx):
            return self.loss(self(batch[0]) + self(batch[0] + 1), batch[1])

    with pytest.raises(RuntimeError, match="called its head 2 times, and 2 of these lead to the loss"):
        fit(pl, module_of(pl, Ensemble), [running()])


@pytest.mark.parametrize("backward", ["manual_backward", "backward"])
def test_manual_optimization(pl, algorithm, backward):
    class Manual:
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = self.criterion(self(batch[0]), batch[1])
            loss.backward() if backward == "backward" else self.manual_backward(loss)
            optimizer.step()

    module = module_of(pl, Manual)
    module.criterion = module.loss
    fit(pl, module, [algorithm()])
    assert [y.ndim for y in module.labels[-6:]] == [2] * 6
    functional = module_of(pl, Manual, criterion=nn.functional.cross_entropy)
    with pytest.raises(RuntimeError, match="trained on a mixed batch without calling the module that is its loss"):
        fit(pl, functional, [algorithm()])


def test_manual_steps_may_skip_a_batch_and_have_other_losses(pl, algorithm):
    class Manual:
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            if batch_idx % 2:
                return
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.head.weight.square().sum())
            self.manual_backward(self.loss(self(batch[0]), batch[1]))
            optimizer.step()

    module = module_of(pl, Manual)
    fit(pl, module, [algorithm()])
    assert [y.ndim for y in module.labels[-3:]] == [2] * 3


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.cycle(zip(X, TARGET, strict=True))


class ReadOnce(IterableDataset):
    def __init__(self):
        self.rows = iter(list(zip(X, TARGET, strict=True)) * 10)

    def __iter__(self):
        return self.rows


@pytest.mark.parametrize("data", [Endless, ReadOnce])
def test_streams(pl, algorithm, data):
    """The stream is left whole: densities are fitted to the first 2,000 rows, once these have passed."""
    module, options = module_of(pl), {"warmup_epochs": 0} if algorithm is algorithm_2 else {}
    epochs = -1 if data is Endless else 1
    stream = DataLoader(data(), batch_size=50)
    fit(pl, module, [algorithm(**options)], stream, max_steps=60, max_epochs=epochs)
    n_hard = 0 if algorithm is running else 39  # the fortieth batch completes 2,000 rows
    assert [y.ndim for y in module.labels] == [1] * n_hard + [2] * (60 - n_hard)


def test_frozen_stays_frozen_whatever_calls_train(pl):
    def thaw(trainer, module, *args):
        module.train()

    def still(trainer, module, *args):
        module.eval()

    states = []

    def note(trainer, module, *args):
        states.append({name: value.clone() for name, value in module.body.state_dict().items()})

    hooks = {"on_train_epoch_start": still, "on_train_batch_start": thaw, "on_train_epoch_end": note}

    class Trains:
        def on_train_batch_start(self, batch, batch_idx):
            self.train()

    fit(pl, module_of(pl, Trains), [algorithm_2(), callback_of(pl, **hooks)], max_epochs=4)
    for name, value in states[0].items():
        assert torch.equal(value, states[-1][name]), name


class Counted(GaussianMixture):
    sizes = None  # a file: processes tell each other nothing else

    def fit(self, x, target, **options):
        if "n_classes" in options:
            with Path(self.sizes).open("a") as file:
                file.write(f"{os.getpid()} {len(x)} {float(x[:, -1].max())}\n")
        return super().fit(x, target, **options)


SAMPLERS = {
    "subset": {"sampler": SubsetRandomSampler(range(48))},
    "batches": {"batch_size": 1, "batch_sampler": BatchSampler(SubsetRandomSampler(range(48)), 16, False)},
    "list": {"sampler": list(range(48))},
    "own batches": {"batch_size": 1, "batch_sampler": [list(range(16 * i, 16 * i + 16)) for i in range(3)]},
    "zero weights": {"sampler": WeightedRandomSampler([1.0] * 48 + [0.0] * 48, 48)},
}


def counted(tmp_path):
    backend = Counted(covariance_type="diag")
    backend.sizes = str(tmp_path / "sizes")
    return backend


def fitted_rows(backend):
    """Number of rows and last row of each process's second fit; its first leaves a fifth out."""
    fits = defaultdict(list)
    for line in Path(backend.sizes).read_text().splitlines():
        process, n_rows, last = line.split()
        fits[process].append((int(n_rows), float(last)))
    assert all(len(each) == 2 for each in fits.values())
    return [each[1] for each in fits.values()]


def numbered():
    """96 rows, whose last column tells their places."""
    return torch.cat([X[:96, :5], torch.arange(96.0)[:, None]], 1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_densities_know_the_rows_that_a_sampler_visits(pl, tmp_path, sampler):
    backend = counted(tmp_path)
    data = loader(numbered(), TARGET[:96], **{"batch_size": 16, **SAMPLERS[sampler]})
    fit(pl, module_of(pl), [GenLabelCallback(backend)], data)
    assert fitted_rows(backend) == [(48, 47.0)]


@pytest.mark.parametrize(
    ("options", "n_rows"), [({"overfit_batches": 2}, 32), ({"limit_train_batches": 3}, 48)], ids=str
)
def test_densities_know_the_batches_that_training_is_limited_to(pl, tmp_path, options, n_rows):
    backend = counted(tmp_path)
    fit(pl, module_of(pl), [GenLabelCallback(backend)], loader(numbered(), TARGET[:96], batch_size=16), **options)
    assert fitted_rows(backend) == [(n_rows, n_rows - 1.0)]


def test_shuffled_rows_may_all_be_visited(pl, tmp_path):
    backend = counted(tmp_path)
    data = loader(numbered(), TARGET[:96], batch_size=16, shuffle=True)
    fit(pl, module_of(pl), [GenLabelCallback(backend)], data, limit_train_batches=2)
    assert fitted_rows(backend) == [(96, 95.0)]


def test_reading_the_rows_draws_no_random_numbers(pl):
    class Noisy:
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [batch[0] + 0 * torch.rand(()), batch[1]]

    drawn = []
    for gamma in (0.0, 0.5):
        generator = torch.Generator().manual_seed(7)
        module = module_of(pl, Noisy)
        fit(pl, module, [ALGORITHMS["1"](gamma=gamma)], loader(shuffle=True, generator=generator), max_epochs=2)
        drawn.append(module.rows)
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_ddp_spawn(pl, tmp_path):
    """Two processes: densities know the subset that both visit, labels are corrected in both."""
    backend = counted(tmp_path)
    data = loader(numbered(), TARGET[:96], sampler=SubsetRandomSampler(range(48)), batch_size=16)
    trainer = fit(pl, module_of(pl), [GenLabelCallback(backend)], data, strategy="ddp_spawn", devices=2, max_epochs=1)
    assert fitted_rows(backend) == [(48, 47.0)] * 2
    assert trainer.callback_metrics["genlabel_relabeled"] > 0.5


def test_backbone_finetuning(pl):
    finetuning = import_module(pl.__name__ + ".callbacks").BackboneFinetuning
    callback, gaps, moves = algorithm_2(), [], []

    def watch(trainer, module, batch, batch_idx):
        if trainer.current_epoch and not batch_idx:
            own = callback._session.relabelings.each[0].relabeler
            with torch.no_grad():
                features = module.eval().body(X)
                module.train()
            fresh = GaussianMixture(**DIAGONAL).fit(features, TARGET)
            gaps.append(float((own.density.log_prob(features) - fresh.log_prob(features)).abs().max()))
            moves.append(module.body[0].weight.detach().clone())

    module = module_of(pl)
    module.backbone = module.body
    thaw = finetuning(4, backbone_initial_lr=0.1, backbone_initial_ratio_lr=1.0)
    fit(pl, module, [callback, thaw, callback_of(pl, on_train_batch_start=watch)], max_epochs=8)
    assert torch.equal(moves[0], moves[3])  # frozen up to the thaw
    assert not torch.equal(moves[4], moves[-1])
    assert max(gaps) < 1e-2  # in each epoch the densities are those of its features
    assert module.body[1].num_batches_tracked > 6 + 6  # BatchNorm runs again too


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_reloaded_loaders(pl, gamma):
    class Growing(pl.LightningDataModule):
        def train_dataloader(self):
            there = torch.isin(TARGET, torch.arange(2 if self.trainer.current_epoch < 2 else 3))
            return loader(X[there], TARGET[there])

    module = module_of(pl)
    callback = ALGORITHMS["1"](gamma=gamma)
    fit(pl, module, [callback], datamodule=Growing(), reload_dataloaders_every_n_epochs=1, max_epochs=4)
    assert float(torch.cat(module.labels[-6:]).mean(0)[2]) == pytest.approx(1 / 3, abs=0.05)


def test_two_callbacks_are_refused(pl):
    class Other(GenLabelCallback):
        state_key = "other"

    with pytest.raises(RuntimeError, match="more than one stateful callback of type `GenLabelCallback`"):
        fit(pl, module_of(pl), [GenLabelCallback(), GenLabelCallback()])
    with pytest.raises(ValueError, match="a Trainer takes one GenLabelCallback, got several: a batch is mixed once"):
        fit(pl, module_of(pl), [GenLabelCallback(), Other()])


@pytest.mark.parametrize("how", ["deepcopy", "torch.save"])
@pytest.mark.parametrize("when", ["on_train_batch_start", "on_train_batch_end", "on_before_zero_grad"])
@pytest.mark.parametrize("algorithm", ["1", "2"], indirect=True)
def test_a_copy_is_an_ordinary_module(pl, algorithm, how, when):
    copies = []

    def keep(trainer, module, *args):
        if how == "deepcopy":
            copies.append(copy.deepcopy(module))
        else:
            torch.save(module, file := io.BytesIO())
            file.seek(0)
            copies.append(torch.load(file, weights_only=False))

    fit(pl, module_of(pl), [algorithm(), callback_of(pl, **{when: keep})])
    copied = copies[-1]
    assert all(parameter.requires_grad for parameter in copied.parameters())
    assert all(each.training for each in copied.modules())
    assert not any(each._forward_pre_hooks for each in copied.modules())
    before, tracked = copied.body[0].weight.detach().clone(), int(copied.body[1].num_batches_tracked)
    fit(pl, copied, [])
    assert not torch.equal(before, copied.body[0].weight)
    assert int(copied.body[1].num_batches_tracked) == tracked + 18


class Auxiliary:
    """A second head, whose loss is `self.how` of the trunk's features."""

    def training_step(self, batch, batch_idx):
        features = self.body(batch[0])
        main = self.loss(self.head(features), batch[1])
        return main + self.how(self, features, batch[1])


class Focal(nn.Module):
    def forward(self, logits, target):
        return -logits.log_softmax(1).gather(1, target[:, None]).mean()


def with_auxiliary(pl, how, **options):
    module = module_of(pl, Auxiliary, how=how, **options)
    module.other = nn.Linear(16, 3)
    module.other_loss = options.pop("other_loss", None) or nn.CrossEntropyLoss()
    return module


def test_an_auxiliary_loss_has_the_same_labels(pl, algorithm):
    module, other = with_auxiliary(pl, lambda self, z, t: self.other_loss(self.other(z), target=t)), []
    module.other_loss.register_forward_hook(
        lambda loss, args, kwargs, out: other.append((*args, *kwargs.values())[1]), with_kwargs=True
    )
    fit(pl, module, [algorithm()])
    assert len(other) == len(module.labels) == 18
    assert all(torch.equal(a, b) for a, b in zip(other, module.labels, strict=True))
    assert other[-1].ndim == 2


def test_an_auxiliary_loss_with_a_target_of_its_own_keeps_it(pl, algorithm):
    def sign(z):
        return (z[:, 0] > z[:, 1]).long()

    module, other = with_auxiliary(pl, lambda self, z, t: self.other_loss(self.other(z), sign(z))), []
    module.other_loss.register_forward_hook(lambda loss, args, out: other.append(args[1]))
    fit(pl, module, [algorithm()])
    assert all(y.ndim == 1 for y in other)
    assert module.labels[-1].ndim == 2


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda self, z, t: self.loss(self.other(z), (z[:, 0] > 0).long()), "calls its loss with another target than"),
        (lambda self, z, t: self.focal(self.other(z), t), "gives the classes of mixed rows to Focal"),
    ],
)
@pytest.mark.parametrize("algorithm", ["1", "3"], indirect=True)  # under Algorithm 2 the second head is frozen
def test_losses_without_labels_are_refused(pl, algorithm, how, message):
    module = with_auxiliary(pl, how)
    module.focal = Focal()
    with pytest.raises(RuntimeError, match=message):
        fit(pl, module, [algorithm()])


def test_a_copied_target_is_known(pl, algorithm):
    class Copies:
        def training_step(self, batch, batch_idx):
            return self.loss(self(batch[0]), batch[1].clone())

    copied, plain = module_of(pl, Copies), module_of(pl)
    for module in (copied, plain):
        fit(pl, module, [algorithm()])
    assert all(torch.equal(a, b) for a, b in zip(copied.labels, plain.labels, strict=True))


class Resumable(DataLoader):
    """A loader that Lightning can resume within an epoch: it keeps its place in the checkpoint."""

    place = start = 0

    def __iter__(self):
        batches = itertools.islice(super().__iter__(), self.start, None)
        self.place, self.start = self.start, 0
        for batch in batches:
            self.place += 1
            yield batch

    def state_dict(self):
        return {"place": self.place % len(self)}

    def load_state_dict(self, state):
        self.start = state["place"]


RESUMED = {
    **ALGORITHMS,
    "1, kde": lambda: GenLabelCallback("kde"),
    "2, nn": lambda: GenLabelCallback("nn", space="latent", warmup_epochs=1),
    "3, warm-up": lambda: running(warmup_epochs=1),
    "1, own density": lambda: GenLabelCallback(Plain()),
}


class Plain:
    """A density that keeps no state that a checkpoint could hold."""

    def fit(self, x, target):
        self.mean = torch.stack([x[target == c].mean(0) for c in range(3)])
        return self

    def log_prob(self, x):
        return -torch.cdist(x, self.mean).square()


@pytest.mark.parametrize("algorithm", RESUMED)
@pytest.mark.parametrize("step", [4, 12], ids=lambda step: f"step {step}")
def test_resumed_training_goes_on_with_the_same_labels(pl, tmp_path, algorithm, step):
    keep = import_module(pl.__name__ + ".callbacks").ModelCheckpoint

    def reseed(trainer, module, batch, batch_idx):  # Lightning resumes no random numbers
        torch.manual_seed(100 + trainer.global_step)

    def train(**options):
        saves = keep(tmp_path, filename="{step}", every_n_train_steps=step, save_top_k=-1)
        module, data = module_of(pl), Resumable(TensorDataset(X, TARGET), batch_size=50)
        callbacks = [callback_of(pl, on_train_batch_start=reseed), RESUMED[algorithm](), saves]
        fit(pl, module, callbacks, data, enable_checkpointing=True, **options)
        return module.labels

    whole = train()
    rest = train(ckpt_path=str(tmp_path / f"step={step}.ckpt"))
    assert len(whole) == 18
    assert len(rest) == 18 - step
    for left, right in zip(whole[step:], rest, strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


def test_resumed_training_without_state_says_so(pl, tmp_path):
    trainer = fit(pl, module_of(pl), [], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    module = module_of(pl)
    with pytest.warns(UserWarning, match="a checkpoint that holds nothing of GenLabelCallback"):
        fit(pl, module, [running()], ckpt_path=str(tmp_path / "plain.ckpt"))
    assert all(y.ndim == 2 for y in module.labels)


def test_statistics_of_other_classes_are_refused(pl, tmp_path):
    trainer = fit(pl, module_of(pl), [running()], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    four = module_of(pl, n_classes=4)
    with pytest.raises(ValueError, match="the saved statistics are of 3 classes, these of 4"):
        fit(pl, four, [running()], ckpt_path=str(tmp_path / "three.ckpt"))


def test_batch_size_finder_and_learning_rate_finder(pl, tmp_path, algorithm):
    class Sized:
        batch_size, lr = 4, 0.1

        def train_dataloader(self):
            return loader(batch_size=self.batch_size)

    callbacks = import_module(pl.__name__ + ".callbacks")
    finders = [
        callbacks.BatchSizeFinder("power", init_val=4, max_trials=2, steps_per_trial=1),
        callbacks.LearningRateFinder(num_training_steps=8, update_attr=True),
    ]
    for finder in finders:
        module = module_of(pl, Sized)
        trainer = pl.Trainer(
            callbacks=[algorithm(), finder],
            max_epochs=3,
            logger=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            enable_checkpointing=False,
        )
        trainer.fit(module)
        n_steps = 3 * -(-300 // module.batch_size)
        warmup = n_steps // 3 if algorithm is algorithm_2 else 0
        assert [y.ndim for y in module.labels[-n_steps:]] == [1] * warmup + [2] * (n_steps - warmup)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c.ModelPruning("l1_unstructured", amount=0.2),
        lambda c: c.GradientAccumulationScheduler({0: 1, 2: 3}),
        lambda c: c.EMAWeightAveraging(decay=0.5),
        lambda c: c.LambdaCallback(on_train_epoch_start=lambda trainer, module: (module.freeze(), module.unfreeze())),
    ],
    ids=["ModelPruning", "GradientAccumulationScheduler", "EMAWeightAveraging", "freeze and unfreeze"],
)
def test_callbacks_that_need_nothing(pl, algorithm, make):
    callbacks = import_module(pl.__name__ + ".callbacks")
    module, plain = module_of(pl), module_of(pl)
    fit(pl, module, [algorithm(), make(callbacks)])
    fit(pl, plain, [make(callbacks)])
    n_hard = 6 if algorithm is algorithm_2 else 0
    assert [y.ndim for y in module.labels] == [1] * n_hard + [2] * (18 - n_hard)
    assert module.accuracy() > plain.accuracy() - 0.15


@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle"])
def test_combined_loaders_are_refused(pl, algorithm, mode):
    combined = import_module(pl.__name__ + ".utilities.combined_loader").CombinedLoader
    for loaders in ([loader(), loader()], {"a": loader(), "b": loader()}):
        with pytest.raises(ValueError, match="mixes the rows of one loader, got 2 that are combined"):
            fit(pl, module_of(pl), [algorithm()], combined(loaders, mode))


def test_lbfgs_mixes_a_batch_once(pl, algorithm):
    class Closure:
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), 0.1, max_iter=3)

    module = module_of(pl, Closure)
    fit(pl, module, [algorithm()], max_epochs=2)
    same = [torch.equal(a, b) for a, b in itertools.pairwise(module.rows)]
    assert sum(same) >= 2 * 12  # each batch is evaluated three times


def test_lightning_cli(tmp_path):
    code = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
import lightning.pytorch, lightning_modules, pytorch_lightning
from genlabel_pytorch_tabular import GenLabelCallback
from pytorch_lightning.cli import LightningCLI as Pl
from lightning.pytorch.cli import LightningCLI as Lightning
class Data:
    def train_dataloader(self):
        return lightning_modules.loader()
for cli, base in ((Pl, pytorch_lightning), (Lightning, lightning.pytorch)):
    class Network(lightning_modules.PlSteps if cli is Pl else lightning_modules.LightningSteps):
        def __init__(self):
            super().__init__()
    class Module(Data, base.LightningDataModule):
        pass
    args = ["fit", "--trainer.max_epochs=2", "--trainer.logger=false", "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
        "--trainer.callbacks+=genlabel_pytorch_tabular.GenLabelCallback", "--trainer.callbacks.backend=gm",
        "--trainer.callbacks.gamma=0.25", "--trainer.callbacks.mix=column_cutmix"]
    made = cli(Network, Module, args=args, save_config_callback=None)
    (callback,) = [each for each in made.trainer.callbacks if isinstance(each, GenLabelCallback)]
    assert callback.options.gamma == 0.25 and callback.options.mix == "column_cutmix"
    assert [y.ndim for y in made.model.labels] == [2] * 12
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
