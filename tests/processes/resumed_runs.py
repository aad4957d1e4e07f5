"""Trainings that are killed and resumed, each time in a new process: `python resumed_runs.py FOLDER`.

Imports take seconds, so they are made once, and each process is forked from this one before it has trained anything.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.datasets import load_digits, load_wine
from timm.data import create_loader
from timm.utils import random_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genlabel_plugins import (
    BatchMix,
    GenLabel,
    GenLabelLoss,
    GenLabelMix,
    HeadFeatures,
    LabeledMix,
    Mixup,
    Relabeling,
)
from genlabel_pytorch_tabular import GenLabelCallback, GenLabelTrainerConfig
from genlabel_timm import GenLabelCriterion, GenLabelFastCollateMixup, GenLabelMixup

X, TARGET = (torch.as_tensor(each) for each in load_wine(return_X_y=True))
X = ((X - X.mean(0)) / X.std(0)).float()
CHECKPOINT, LABELS = "checkpoint.pt", "labels.pt"


def die():
    """End as `kill -9` does: nothing is closed, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def network():
    return nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))


def rows_of(step):
    """Rows of a batch, by the step alone; epochs have five."""
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(step // 5))
    return order.split(36)[step % 5]


def plain_loss(folder, kill_at):
    """Algorithm 3 in a plain loop with a mixer that has a generator of its own, saved after each step."""
    torch.manual_seed(0)
    model = network()
    mix = LabeledMix(Mixup(3, generator=torch.Generator().manual_seed(1)))
    criterion = GenLabelLoss(Note(), mix, HeadFeatures(model, "2"), Relabeling(3, stats_every=2, warmup_steps=20))
    parts = {"model": model, "optimizer": torch.optim.Adam(model.parameters()), "criterion": criterion, "mix": mix}
    step = resume(folder, parts)
    for i in range(step, 15):
        x_mix, y = mix(X[rows_of(i)], TARGET[rows_of(i)])
        loss = criterion(model(x_mix), y)
        if i == kill_at:
            die()
        parts["optimizer"].zero_grad()
        loss.backward()
        parts["optimizer"].step()
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": i + 1}, folder / CHECKPOINT)
    return step, criterion.base.labels


def plain_mix(folder, kill_at):
    """Algorithm 1 in a plain loop; the resumed process does not fit anew."""
    torch.manual_seed(0)
    genlabel = GenLabel("kde")
    if not (folder / CHECKPOINT).exists():
        genlabel.fit(X, TARGET)
    mix = GenLabelMix(genlabel, n_classes=3, per_sample=True, generator=torch.Generator().manual_seed(1))
    step, labels = resume(folder, {"mix": mix}), []
    for i in range(step, 15):
        labels.append(mix(X[rows_of(i)], TARGET[rows_of(i)])[1])
        if i == kill_at:
            die()
        torch.save({"mix": mix.state_dict(), "step": i + 1}, folder / CHECKPOINT)
    return step, labels


class Deadly(TensorDataset):
    """Rows of which one may kill the worker that reads it, as the kernel does when memory is short."""

    row = None

    def __getitem__(self, index):
        if index == self.row:
            die()
        return super().__getitem__(index)


def plain_workers(folder, kill_at, *, worker=False):
    """Mixing in a loader's workers, whose draws follow from the generator of the loader, seeded anew for each epoch."""
    data = Deadly(X, TARGET)
    collate_fn = BatchMix(GenLabelMix(GenLabel("gm").fit(X, TARGET)))
    order = torch.Generator()
    loader = DataLoader(data, 36, shuffle=True, num_workers=2, collate_fn=collate_fn, generator=order)
    step, labels = resume(folder, {}), []
    for epoch in range(step // 5, 2):
        order.manual_seed(epoch)
        data.row = 7 if worker and kill_at and epoch else None
        for i, (_, y) in enumerate(loader, 5 * epoch):
            if i >= step:
                labels.append(y)
                if i == kill_at and not worker:
                    die()
                torch.save({"step": i + 1}, folder / CHECKPOINT)
    return step, labels


def resume(folder, parts):
    """Load what was saved, and return the step to go on with."""
    if not (folder / CHECKPOINT).exists():
        return 0
    saved = torch.load(folder / CHECKPOINT)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["step"]


def note(labels, x, y):
    """Keep the labels of a loss, but not those by which a door tries it out."""
    if x.requires_grad:
        labels.append(y.detach().clone())


class Note(nn.CrossEntropyLoss):
    """A loss that keeps its labels."""

    def __init__(self):
        super().__init__()
        self.labels = []

    def forward(self, x, target):
        note(self.labels, x, target)
        return super().forward(x, target)


class Digits:
    """Digits as images that timm's transforms expect."""

    transform = None

    def __init__(self):
        pixels, self.target = load_digits(return_X_y=True)
        self.images = [Image.fromarray((row.reshape(8, 8) * 15).astype(np.uint8)).convert("RGB") for row in pixels[:96]]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.target[index])


def timm_script(prefetcher, n_workers):
    """The calls of timm's train.py, which saves at the end of an epoch, with random augmentation and erasing."""

    def run(folder, kill_at):
        random_seed(0, 0)
        model = timm.create_model("test_resnet", num_classes=10, drop_rate=0.1)
        mixer = (GenLabelFastCollateMixup if prefetcher else GenLabelMixup)(
            mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10, warmup_steps=8, stats_every=2
        ).attach(model)
        loader = create_loader(
            Digits(),
            input_size=(3, 32, 32),
            batch_size=32,
            is_training=True,
            use_prefetcher=prefetcher,
            collate_fn=mixer if prefetcher else None,
            auto_augment="rand-m9-mstd0.5",
            re_prob=0.5,
            re_mode="pixel",
            num_workers=n_workers,
            persistent_workers=False,
            device=torch.device("cpu"),
        )
        criterion = GenLabelCriterion(Note(), mixer, loader=loader)
        parts = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.01, 0.9), "criterion": criterion}
        epoch = resume(folder, parts)
        first, labels = 3 * epoch, criterion.base.labels
        while epoch < 3:
            random_seed(1000 * epoch, 0)
            model.train()
            for x, target in loader:
                x, y = (x, target) if prefetcher else mixer(x, target)  # noqa: PLW2901
                loss = criterion(model(x), y)
                parts["optimizer"].zero_grad()
                loss.backward()
                parts["optimizer"].step()
                if first + len(labels) - 1 == kill_at:
                    die()
            epoch += 1
            torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": epoch}, folder / CHECKPOINT)
        return first, labels

    return run


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


class Module(LightningModule):
    n_classes = 3

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(13, 16), nn.ReLU()), nn.Linear(16, 3)
        self.loss = Note()

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Hooks(Callback):
    """Draws by the step, as a user seeds them, and the end of it all."""

    def __init__(self, kill_at):
        self.kill_at = kill_at
        self.first = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.first = trainer.global_step if self.first is None else self.first
        torch.manual_seed(100 + trainer.global_step)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.kill_at:
            die()


QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def lightning(save_every, **options):
    """Epochs of five steps, saved every so many steps."""

    def run(folder, kill_at):
        seed_everything(0)
        module, hooks = Module(), Hooks(kill_at)
        saves = ModelCheckpoint(folder, "checkpoint", every_n_train_steps=save_every)
        saves.FILE_EXTENSION = ".pt"
        trainer = Trainer(max_epochs=3, callbacks=[hooks, GenLabelCallback(**options), saves], **QUIET)
        resumed = str(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
        trainer.fit(module, Resumable(TensorDataset(X, TARGET), 36), ckpt_path=resumed)
        return hooks.first, module.loss.labels

    return run


def tabular(folder, kill_at):
    """A model of pytorch-tabular with the flag, by a Trainer of its user's."""
    seed_everything(0)
    frame = load_wine(as_frame=True).frame
    model = TabularModel(
        data_config=DataConfig(target=["target"], continuous_cols=[name for name in frame if name != "target"]),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="16-8"),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(genlabel=True, genlabel_backend="running", genlabel_space="latent"),
        verbose=False,
        suppress_lightning_logger=True,
    )
    data = model.prepare_dataloader(train=frame, validation=frame)
    module, hooks, labels = model.prepare_model(data), Hooks(kill_at), []
    module.loss.register_forward_hook(lambda loss, args, output: note(labels, *args))
    saves = ModelCheckpoint(folder, "checkpoint", every_n_train_steps=4)
    saves.FILE_EXTENSION = ".pt"
    trainer = Trainer(max_epochs=3, callbacks=[hooks, saves], num_sanity_val_steps=0, limit_val_batches=0, **QUIET)
    resumed = str(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
    rows = Resumable(data.train_dataset, 36)
    trainer.fit(module, rows, ckpt_path=resumed, weights_only=False)  # its hyperparameters are OmegaConf's
    return hooks.first, labels


RUNS = {  # what trains, and the step in which it is killed
    "plain loop, Algorithm 3": (plain_loss, 7),
    "plain loop, Algorithm 1": (plain_mix, 7),
    "plain loop, workers": (plain_workers, 7),
    "plain loop, a worker killed": (partial(plain_workers, worker=True), 7),
    "timm, prefetching loader": (timm_script(True, 0), 4),
    "timm, prefetching loader, workers": (timm_script(True, 1), 4),
    "timm, plain loader": (timm_script(False, 0), 4),
    "timm, plain loader, workers": (timm_script(False, 1), 4),
    "Lightning in an epoch, Algorithm 1": (lightning(3, backend="kde"), 7),
    "Lightning in an epoch, Algorithm 2": (
        lightning(4, backend="gm", space="latent", backend_params={"covariance_type": "diag"}, warmup_epochs=1),
        9,
    ),
    "Lightning in an epoch, Algorithm 3": (lightning(3, backend="running", space="latent"), 7),
    "Lightning at the end of an epoch, Algorithm 3": (lightning(5, backend="running", space="latent"), 6),
    "pytorch-tabular in an epoch": (tabular, 6),
}


def work(name, folder, kill_at):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    first, labels = RUNS[name][0](folder, kill_at)
    torch.save({"first": first, "labels": labels}, folder / LABELS)


def process(name, folder, kill_at=None):
    """Run in a process of its own and return its exit code."""
    folder.mkdir(exist_ok=True)
    child = multiprocessing.get_context("fork").Process(target=work, args=(name, folder, kill_at))
    child.start()
    child.join()
    return child.exitcode


if __name__ == "__main__":
    results = {}
    for name, (_, kill_at) in RUNS.items():
        whole, killed = (Path(sys.argv[1], name + end) for end in ("", ", killed"))
        codes = [process(name, whole), process(name, killed, kill_at), process(name, killed)]
        seen = [torch.load(each / LABELS) for each in (whole, killed) if (each / LABELS).exists()]
        results[name] = {"codes": codes, "kill_at": kill_at, "seen": seen}
    torch.save(results, Path(sys.argv[1], "results.pt"))
