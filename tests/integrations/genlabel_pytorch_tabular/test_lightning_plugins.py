"""The flag and the callback under either name of Lightning, with two other plug-ins installed beside."""

import pickle
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import pytorch_tabular  # noqa: F401  # without it the flag of pytorch_lightning is off
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genlabel_pytorch_tabular import GenLabelCallback
from genlabel_pytorch_tabular.hook import GenLabelHook

ROOT = Path(__file__).parents[3]
FACTORIES = {
    "Counts": "class Counts(Callback):\n    n = 0\n    def on_train_batch_end(self, *args): self.n += 1",
    "Keeps": (
        "class Keeps(Callback):\n    n = 0\n    def on_train_start(self, *args): self.n += 1\n"
        "    def state_dict(self): return {'n': self.n}"
    ),
}
TARGET = torch.arange(90) % 3
X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + TARGET[:, None]


@pytest.fixture(params=["pytorch_lightning", "lightning.pytorch"])
def pl(request, tmp_path, monkeypatch):
    """Lightning, with this project and two plug-ins installed in a folder."""
    groups = ("pytorch_lightning.callbacks_factory", "lightning.pytorch.callbacks_factory")
    installed = {"genlabel_plugins": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]}
    for name, code in FACTORIES.items():
        module = f"other_{name.lower()}_of_{request.param.partition('.')[0]}"
        body = f"from {request.param} import Callback\n{code}\ndef make(): return [{name}()]\n"
        (tmp_path / f"{module}.py").write_text(body)
        installed[module] = {group: {module: f"{module}:make"} for group in groups}
    for name, points in installed.items():
        folder = tmp_path / f"{name}-0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        lines = [f"[{group}]\n" + "".join(f"{a} = {b}\n" for a, b in points[group].items()) for group in groups]
        (folder / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    return import_module(request.param)


def network(pl, hparams):
    class Network(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters(hparams)
            self.n_classes, self.head, self.loss, self.labels = 3, nn.Linear(4, 3), nn.CrossEntropyLoss(), []
            self.loss.register_forward_hook(
                lambda loss, args, out: self.labels.append(args[1]) if out.requires_grad else None
            )

        def training_step(self, batch, batch_idx):
            return self.loss(self.head(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return Network()


def train(pl, hparams, callbacks=()):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, callbacks=list(callbacks), enable_model_summary=False, **quiet)
    module = network(pl, hparams)
    seen = []
    module.on_train_batch_start = lambda batch, index: seen.append(
        sum(isinstance(each, GenLabelCallback) for each in trainer.callbacks)
    )
    trainer.fit(module, DataLoader(TensorDataset(X, TARGET), batch_size=30))
    return trainer, module, seen


FLAG = {"genlabel": True, "genlabel_gamma": 1.0, "width": 4}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("hparams", "callback", "corrected"),
    [(FLAG, False, True), ({"width": 4}, True, True), (FLAG, True, True), ({"width": 4}, False, False)],
    ids=["flag", "callback", "both", "neither"],
)
def test_labels_are_corrected_once_beside_other_plugins(pl, hparams, callback, corrected):
    trainer, module, seen = train(pl, hparams, [GenLabelCallback("gm", gamma=1.0)] if callback else [])
    assert seen == [int(corrected)] * 3
    assert [each.is_floating_point() for each in module.labels] == [corrected] * 3
    names = [type(each).__name__ for each in trainer.callbacks]
    assert (names.count("Counts"), names.count("Keeps"), names.count("GenLabelHook")) == (1, 1, 1)
    assert next(each for each in trainer.callbacks if type(each).__name__ == "Counts").n == 3
    assert names.count("GenLabelCallback") == int(callback)  # the flag's own has gone


def test_the_hook_pickles_as_a_callback_of_lightning(pl):
    bare = pickle.loads(pickle.dumps(GenLabelHook()))
    assert type(bare).__module__.partition(".")[0] in ("pytorch_lightning", "lightning")
