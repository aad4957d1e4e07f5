"""Modules of both packages of Lightning, which keep what their loss was given."""

from __future__ import annotations

import copy

import lightning.pytorch
import pytorch_lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TARGET = torch.arange(300) % 3
X = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) + 3 * nn.functional.one_hot(TARGET, 6)


class Steps:
    """What a user writes, and what its loss was given in each step."""

    n_classes = 3

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head, self.loss = nn.Linear(16, 3), nn.CrossEntropyLoss()
        self.rows, self.labels, self.clean = [], [], X
        vars(self).update(options)
        self.loss.register_forward_hook(Note(self))

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        self.rows.append(batch[0].clone())
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], 0.1)

    def accuracy(self):
        return float((copy.deepcopy(self).eval()(X).argmax(1) == TARGET).float().mean())


class Note:
    def __init__(self, module):
        self.labels = module.labels

    def __call__(self, loss, args, output):
        if args[0].requires_grad:
            self.labels.append(args[1].detach().clone())


class PlSteps(Steps, pytorch_lightning.LightningModule):
    pass


class LightningSteps(Steps, lightning.pytorch.LightningModule):
    pass


def module_of(pl, *mixins, **options):
    base = PlSteps if pl is pytorch_lightning else LightningSteps
    made = type("Network", (*mixins, base), {}) if mixins else base
    with torch.random.fork_rng():
        return made(**options)


def loader(x=X, target=TARGET, batch_size=50, **options):
    return DataLoader(TensorDataset(x, target), batch_size=batch_size, **options)


def fit(pl, module, callbacks, data=None, **options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 3,
    }
    how = {name: options.pop(name) for name in ("ckpt_path", "datamodule") if name in options}
    trainer = pl.Trainer(callbacks=callbacks, **{**quiet, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trainer.fit(module, loader() if data is None and "datamodule" not in how else data, **how)
    return trainer
