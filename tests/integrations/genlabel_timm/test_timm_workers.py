"""Turning mixing off reaches the persistent workers of timm's loader, started by fork and by spawn."""

import inspect
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data.loader import PrefetchLoader
from timm.data.mixup import FastCollateMixup, Mixup
from timm.loss import SoftTargetCrossEntropy
from torch.utils.data import DataLoader, Dataset

from genlabel_timm import GenLabelCriterion, GenLabelFastCollateMixup
from genlabel_timm.clean_batches import CleanBatches

C = 4


class Ramps(Dataset[tuple[Any, int]]):
    """Images whose pixels all name their row."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return np.full((3, 8, 8), index, dtype=np.uint8), index % C


def loader(collate_fn: Any, context: str, n_workers: int = 1) -> Any:
    workers = {"num_workers": n_workers, "persistent_workers": True, "multiprocessing_context": context}
    mixing = DataLoader(Ramps(), batch_size=8, collate_fn=collate_fn, drop_last=True, **workers if n_workers else {})
    return PrefetchLoader(mixing, mean=(0, 0, 0), std=(1 / 255,) * 3, device=torch.device("cpu"))


def mixed_share(batches: Any) -> float:
    return float(np.mean([float((y.amax(1) < 1).float().mean()) for _, y in batches]))


def test_upstream_keeps_mixing_in_persistent_workers() -> None:
    # timm's plain attribute: should this ever fail, timm has mended it and the shared flag may go.
    batches = loader(FastCollateMixup(mixup_alpha=1.0, num_classes=C, label_smoothing=0.0), "fork")
    assert mixed_share(batches) > 0.5
    batches.mixup_enabled = False
    assert mixed_share(batches) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_shared_switch_reaches_persistent_workers(context: str) -> None:
    batches = loader(GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C, label_smoothing=0.0), context)
    assert batches.mixup_enabled
    assert mixed_share(batches) > 0.5
    batches.mixup_enabled = False
    assert mixed_share(batches) == 0
    batches.mixup_enabled = True
    assert mixed_share(batches) > 0.5


@pytest.mark.parametrize("mode", ["batch", "pair", "elem", "half"])
def test_it_mixes_as_timm_does(mode: str) -> None:
    rows = [Ramps()[i] for i in range(8)]
    options: dict[str, Any] = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "num_classes": C, "mode": mode, "prob": 0.8}
    for seed in range(5):
        np.random.seed(seed)  # noqa: NPY002
        x, y = FastCollateMixup(**options)([(image.copy(), c) for image, c in rows])
        np.random.seed(seed)  # noqa: NPY002
        collate_fn = GenLabelFastCollateMixup(**options)
        collate_fn.deferred = True  # as a criterion sets it
        ours = collate_fn([(image.copy(), c) for image, c in rows])
        assert torch.equal(ours[0], x)
        assert torch.equal(ours[1], y)


def test_without_a_criterion_the_collate_says_once_that_it_mixes_as_timm() -> None:
    rows = [Ramps()[i] for i in range(8)]
    collate_fn = GenLabelFastCollateMixup(num_classes=C)
    with pytest.warns(UserWarning, match="GenLabelCriterion"):
        collate_fn(rows)
    other = GenLabelFastCollateMixup(num_classes=C).attach(timm.create_model("test_resnet", num_classes=C))
    GenLabelCriterion(SoftTargetCrossEntropy(), other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate_fn(rows)
        other(rows)


def test_odd_batches_and_multi_label_are_refused() -> None:
    with pytest.raises(ValueError, match=r"even, got 7.*drop_last"):
        GenLabelFastCollateMixup(num_classes=C)([Ramps()[i] for i in range(7)])
    if "multi_label" in inspect.signature(Mixup).parameters:  # from timm 1.0.31 on
        with pytest.raises(ValueError, match="multi_label"):
            GenLabelFastCollateMixup(num_classes=C, multi_label=True)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_clean_batches_are_clean_and_normalized_alike(n_workers: int) -> None:
    mixing = loader(GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C), "fork", n_workers)
    clean = CleanBatches(mixing)
    seen = []
    for _ in range(6):  # beyond one epoch
        x, target = next(clean)
        row = (x[:, 0, 0, 0]).round().long()
        assert torch.equal(x, row.reshape(-1, 1, 1, 1).float().expand_as(x))
        assert torch.equal(target, row % C)
        seen += row.tolist()
    assert len(set(seen[:32])) == 32


@pytest.mark.parametrize("mode", ["pair", "half", "elem", "batch"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_data_sets_own_images_stay_clean(mode: str, kind: str) -> None:
    images = [np.full((3, 16, 16), 5 * i, dtype=np.uint8) for i in range(8)]
    rows = [(image if kind == "numpy" else torch.as_tensor(image), i % C) for i, image in enumerate(images)]
    options: dict[str, Any] = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "mode": mode, "num_classes": C}
    collate_fn = GenLabelFastCollateMixup(**options)
    collate_fn.deferred = True
    np.random.seed(0)  # noqa: NPY002
    mixing = DataLoader(rows, batch_size=8, collate_fn=collate_fn)  # type: ignore[arg-type]
    x, _ = next(iter(mixing))
    assert any(len(image.unique()) > 1 for image in x)
    assert all(len(np.unique(image)) == 1 for image, _ in rows)
    assert all(len(image.unique()) == 1 for image in next(CleanBatches(mixing))[0])


def test_in_mode_batch_one_label_tells_of_all_rows() -> None:
    net = timm.create_model("test_resnet", num_classes=C).train()
    rows = [(np.random.default_rng(i).integers(0, 255, (3, 32, 32), dtype=np.uint8), i // 3 % 2) for i in range(8)]
    collate_fn = GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C, gamma=1.0).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), collate_fn)
    x, y = collate_fn(rows)
    assert not (y.amax(1) < 0.9).all()  # some rows are mixed within their class
    criterion.observe(x.float(), torch.arange(8) % C)
    criterion(net(x.float()), y)
    assert criterion.report()["relabeled"] == 1
    collate_fn.mix_prob = 0.0
    _, y = collate_fn(rows)
    criterion(net(x.float()), y)
    assert criterion.report()["relabeled"] == 0


@pytest.mark.parametrize("n_workers", [0, 1])
def test_the_order_of_clean_batches_goes_on_where_it_was(n_workers: int) -> None:
    def batches() -> CleanBatches:
        mixing = loader(GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C), "fork", n_workers)
        return CleanBatches(mixing)

    with torch.random.fork_rng():
        torch.manual_seed(5)
        clean = batches()
        expected = [next(clean)[1] for _ in range(11)]
        net = timm.create_model("test_resnet", num_classes=C)
        saved = GenLabelCriterion(SoftTargetCrossEntropy(), net)
        saved.clean_batches = clean
        clean.resume(6)
        state = saved.state_dict()
        resumed = GenLabelCriterion(SoftTargetCrossEntropy(), timm.create_model("test_resnet", num_classes=C))
        resumed.clean_batches = batches()
        resumed.load_state_dict(state)
        assert all(torch.equal(next(resumed.clean_batches)[1], y) for y in expected[6:])
        assert not all(torch.equal(a, b) for a, b in zip(expected[:4], expected[4:8], strict=True))  # epochs differ


class Failing(Ramps):
    """Images of which one cannot be read the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 5 and not self.mark.exists():
            self.mark.touch()
            raise OSError("the disk is away")
        return super().__getitem__(index)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_clean_batches_go_on_after_an_error_and_draw_from_no_generator_of_the_training(
    n_workers: int, tmp_path: Path
) -> None:
    mixing = DataLoader(Failing(tmp_path / "failed"), batch_size=8, num_workers=n_workers)
    clean, seen = CleanBatches(mixing), []
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    with pytest.raises(OSError, match="the disk is away"):  # noqa: PT012  # in which of an epoch's batches is chance
        while True:
            seen.append(next(clean)[1])
    assert clean.n_given == len(seen) < 4
    while len(seen) < 4:
        seen.append(next(clean)[1])
    assert [random.getstate(), str(np.random.get_state())] == list(before[:2])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    again = CleanBatches(mixing)
    assert all(torch.equal(next(again)[1], target) for target in seen)


def test_clean_batches_need_a_batch_size() -> None:
    batches = DataLoader(Ramps(), batch_sampler=[[0, 1]])
    with pytest.raises(ValueError, match="observe"):
        next(CleanBatches(batches))
    assert isinstance(GenLabelFastCollateMixup(num_classes=C), Mixup)
