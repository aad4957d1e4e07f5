"""Trainings on one, two and four ranks of gloo: `python rank_runs.py FOLDER`.

Imports take seconds, so they are made once, and each rank is forked from this process before it has trained anything.
What every door observes, labels and returns is kept, so that it can be compared with one process on the joined batch.
"""

import copy
import multiprocessing
import os
import socket
import sys
import traceback
import warnings
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import timm
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig
from sklearn.datasets import load_digits, load_wine
from timm.data import create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.utils import random_seed
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from genlabel_plugins import GenLabel, GenLabelLoss, HeadFeatures, LabeledMix, Mixup, Relabeling
from genlabel_pytorch_tabular import GenLabelCallback, GenLabelTrainerConfig
from genlabel_timm import GenLabelCriterion, GenLabelFastCollateMixup, GenLabelMixup

X, TARGET = (torch.as_tensor(each) for each in load_wine(return_X_y=True))
X = (X - X.mean(0)) / X.std(0)
IMAGES, DIGITS = (torch.as_tensor(each) for each in load_digits(return_X_y=True))
IMAGES = nn.functional.interpolate(IMAGES.reshape(-1, 1, 8, 8) / 16, 32).expand(-1, 3, -1, -1)
STEPS = 3


class Record:
    """All that the relabeling of a run observes and labels, in the order of the calls, and a copy of it before them."""

    def __enter__(self):
        self.calls, self.relabeling = [], None
        self.methods = Relabeling.observe, Relabeling.label

        def observe(relabeling, features, target):
            self.begin(relabeling)
            self.calls.append({"features": features.clone(), "target": target.clone()})
            self.methods[0](relabeling, features, target)

        def label(relabeling, features, y_lin, mixed=None, parents=None):
            self.begin(relabeling)
            given = {"features": features.clone(), "y_lin": y_lin.clone(), "mixed": mixed.clone()}
            y = self.methods[1](relabeling, features, y_lin, mixed, parents)
            self.calls.append(given | {"y": y.clone()})
            return y

        Relabeling.observe, Relabeling.label = observe, label
        return self

    def begin(self, relabeling):
        if self.relabeling is None:
            self.relabeling = copy.deepcopy(relabeling)

    def __exit__(self, *error):
        Relabeling.observe, Relabeling.label = self.methods


def batch_of(step):
    """Rows of a rank in a step; all ranks together have the same rows whatever their number."""
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(step))[:32]
    rows = order.tensor_split(dist.get_world_size())[dist.get_rank()]
    return X[rows], TARGET[rows]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def loop(*, keep_clean=False, wrap=None, batch=batch_of, accumulate=False, compiled=False, ahead=False, **ddp):
    """A plain loop; `ahead` relabels while it mixes, by a pass of its own."""
    network_ = network()
    features = HeadFeatures(network_, "2")
    relabeling = Relabeling(3, beta=0.7)
    draws = torch.Generator().manual_seed(100 + dist.get_rank())
    if ahead:
        mix = LabeledMix(Mixup(3, generator=draws), relabeling, embed=features)
        criterion = nn.CrossEntropyLoss()
    else:
        mix = LabeledMix(Mixup(3, generator=draws), keep_clean=keep_clean)
        criterion = GenLabelLoss(nn.CrossEntropyLoss(), mix, features, relabeling)
    model = wrap(network_) if wrap else DistributedDataParallel(network_, **ddp)
    model = torch.compile(model, backend="eager") if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gradients, rows = [], []
    for step in range(STEPS):
        x, target = batch(step)
        x_mix, y = mix(x, target)
        rows.append(x_mix)
        waiting = accumulate and step < STEPS - 1
        with model.no_sync() if waiting else nullcontext():
            criterion(model(x_mix), y).backward()
        if not waiting:
            gradients.append([full(each.grad) for each in network_.parameters() if each.grad is not None])
            optimizer.step()
            optimizer.zero_grad()
    weights = [full(parameter) for parameter in network_.parameters()]
    return {"gradients": gradients, "weights": weights, "rows": rows}


def full(tensor):
    """A copy of a tensor, put together where FSDP has sharded it."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def shard(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def with_unused_part(model):
    model[1].unused = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    return DistributedDataParallel(model, find_unused_parameters=True)


def one_class_missing(step):
    """No row of class 0 on the last of several ranks."""
    x, target = batch_of(step)
    if dist.get_world_size() > 1 and dist.get_rank() == dist.get_world_size() - 1:
        x, target = x[target > 0], target[target > 0]
    return x, target


def uneven(step):
    """More rows on the first rank than on the last."""
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(step))[:30]
    sizes = {1: [30], 2: [21, 9], 4: [14, 10, 4, 2]}[dist.get_world_size()]
    rows = order.split(sizes)[dist.get_rank()]
    return X[rows], TARGET[rows]


def timm_loop(*, criterion, keep_clean=False, prefetcher=False):
    """Timm's script, with its seeds, its mixers and, for the prefetching loader, clean rows of a second loader."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, depth=1, embed_dim=24, num_heads=2)
    model = DistributedDataParallel(model.double())
    random_seed(5, rank)
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "num_classes": 10, "beta": 0.7}
    batches = [
        (IMAGES[s].double(), DIGITS[s])
        for s in (torch.arange(32).reshape(world, -1)[rank] + 32 * step for step in range(STEPS))
    ]
    if prefetcher:
        mixer = GenLabelFastCollateMixup(**options).attach(model)
        batches = create_loader(
            Digits(),
            input_size=(3, 32, 32),
            batch_size=32 // world,
            is_training=True,
            collate_fn=mixer,
            num_workers=0,
            persistent_workers=False,
            distributed=world > 1,
            device=torch.device("cpu"),
            img_dtype=torch.float64,
        )
    else:
        mixer = GenLabelMixup(**options).attach(model)
    loss = SoftTargetCrossEntropy()
    if criterion:
        loss = GenLabelCriterion(loss, mixer, loader=batches if prefetcher else None, keep_clean=keep_clean)
    optimizer, labels = torch.optim.SGD(model.parameters(), 0.1), []
    for x, target in batches:
        x, y = (x, target) if prefetcher else mixer(x.clone(), target)  # noqa: PLW2901
        labels.append(y)
        loss(model(x), y.double()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"weights": [full(parameter) for parameter in model.parameters()], "drawn": labels}


class Digits:
    """Digits as images that timm's transforms expect."""

    transform = None
    rows = (IMAGES[: 32 * STEPS, 0] * 255).byte().numpy()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.rows[index]).convert("RGB")), int(DIGITS[index])


class Module(LightningModule):
    n_classes = 3

    def __init__(self):
        super().__init__()
        model = network()
        self.body, self.head, self.loss = model[:2], model[2], nn.CrossEntropyLoss()

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
}


def lightning(strategy="ddp", **options):
    module = Module()
    callback = GenLabelCallback(**options)
    trainer = Trainer(max_epochs=2, strategy=strategy, devices=dist.get_world_size(), callbacks=[callback], **QUIET)
    torch.manual_seed(100 + dist.get_rank())
    trainer.fit(module, DataLoader(TensorDataset(X[:128], TARGET[:128]), 32 // dist.get_world_size()))
    return {"weights": [full(parameter) for parameter in module.parameters()]}


def tabular(**options):
    """pytorch-tabular with strategy "ddp" in its config."""
    frame = load_wine(as_frame=True).frame[:160]
    torch.manual_seed(0)
    model = TabularModel(
        data_config=DataConfig(target=["target"], continuous_cols=[name for name in frame if name != "target"]),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="16-8"),
        optimizer_config=OptimizerConfig(),
        trainer_config=GenLabelTrainerConfig(
            genlabel=True,
            max_epochs=1,
            batch_size=32 // dist.get_world_size(),
            accelerator="cpu",
            devices=dist.get_world_size(),
            progress_bar="none",
            checkpoints=None,
            load_best=False,
            early_stopping=None,
            trainer_kwargs={"strategy": "ddp", "enable_model_summary": False},
            **options,
        ),
        verbose=False,
        suppress_lightning_logger=True,
    )
    model.fit(train=frame, validation=frame, seed=7)
    return {"weights": [full(parameter) for parameter in model.model.parameters()]}


def join():
    """Two batches on the first rank, one on the others, in a plain loop under `ddp.join()`, compiled inside or out."""
    said = []
    plain = DistributedDataParallel
    inside, outside = (
        lambda model: plain(torch.compile(model, backend="eager")),
        lambda model: torch.compile(plain(model), backend="eager"),
    )
    for fitted, wrap in ((True, plain), (False, plain), (False, inside), (False, outside)):
        network_ = network()
        features, mix = HeadFeatures(network_, "2"), LabeledMix(Mixup(3))
        relabeler = GenLabel("gm").fit(features(X), TARGET) if fitted else None
        criterion = GenLabelLoss(nn.CrossEntropyLoss(), mix, features, Relabeling(3, relabeler=relabeler))
        model = wrap(network_)
        try:
            with model.join():
                for step in range(2 - min(dist.get_rank(), 1)):
                    x_mix, y = mix(*batch_of(step))
                    criterion(model(x_mix), y).backward()
            said.append("went through")
        except ValueError as error:
            said.append(str(error))
    return {"said": said}


RUNS = {
    "plain loop": loop,
    "plain loop, keep_clean": lambda: loop(keep_clean=True),
    "plain loop, relabeled while mixing": lambda: loop(ahead=True),
    "a class missing on a rank": lambda: loop(batch=one_class_missing),
    "uneven batches": lambda: loop(batch=uneven),
    "no_sync": lambda: loop(accumulate=True),
    "static graph": lambda: loop(static_graph=True),
    "find_unused_parameters": lambda: loop(wrap=with_unused_part),
    "torch.compile": lambda: loop(compiled=True),
    "FSDP2": lambda: loop(wrap=shard),
    "timm, mixer alone": lambda: timm_loop(criterion=False),
    "timm, criterion": lambda: timm_loop(criterion=True),
    "timm, criterion, keep_clean": lambda: timm_loop(criterion=True, keep_clean=True),
    "timm, prefetching loader": lambda: timm_loop(criterion=True, prefetcher=True),
    "Lightning, Algorithm 1": lambda: lightning(backend="kde"),
    "Lightning, Algorithm 2": lambda: lightning(
        "ddp_find_unused_parameters_true",
        backend="gm",
        space="latent",
        warmup_epochs=1,
        backend_params={"covariance_type": "diag"},
    ),
    "Lightning, Algorithm 3": lambda: lightning(backend="running", space="latent"),
    "pytorch-tabular, Algorithm 1": tabular,
    "pytorch-tabular, Algorithm 3": lambda: tabular(genlabel_backend="running", genlabel_space="latent"),
    "join": join,
}


EVERYWHERE = [  # the others run on two ranks alone: four on two cores wait for one another
    "plain loop",
    "a class missing on a rank",
    "uneven batches",
    "timm, criterion",
    "Lightning, Algorithm 1",
    "Lightning, Algorithm 2",
    "Lightning, Algorithm 3",
    "pytorch-tabular, Algorithm 1",
    "pytorch-tabular, Algorithm 3",
]


def work(rank, world, port, folder, names):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    dist.init_process_group("gloo", rank=rank, world_size=world, timeout=timedelta(seconds=120))
    results = {}
    for name in names:
        try:
            with Record() as record:
                results[name] = {"said": ""} | RUNS[name]()
            results[name] |= {"calls": record.calls, "relabeling": record.relabeling}
        except Exception:
            results[name] = {"said": traceback.format_exc()}
        torch.save(results, folder / f"{world}-{rank}.pt")
        dist.barrier()
    dist.destroy_process_group()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    for world in (1, 2, 4):
        names = [name for name in RUNS if world == 2 or name in EVERYWHERE]
        port = free_port()
        ranks = [
            multiprocessing.get_context("fork").Process(target=work, args=(i, world, port, Path(sys.argv[1]), names))
            for i in range(world)
        ]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()
