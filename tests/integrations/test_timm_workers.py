"""Turning mixing off reaches the persistent workers of timm's loader, started by fork and by spawn."""

import warnings
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
from genlabel_timm.clean import clean_batches

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
    with pytest.raises(ValueError, match="multi_label"):
        GenLabelFastCollateMixup(num_classes=C, multi_label=True)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_clean_batches_are_clean_and_normalised_alike(n_workers: int) -> None:
    mixing = loader(GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C), "fork", n_workers)
    clean = clean_batches(mixing)
    seen = []
    for _ in range(6):  # beyond one epoch
        x, target = next(clean)
        row = (x[:, 0, 0, 0]).round().long()
        assert torch.equal(x, row.reshape(-1, 1, 1, 1).float().expand_as(x))
        assert torch.equal(target, row % C)
        seen += row.tolist()
    assert len(set(seen[:32])) == 32


def test_clean_batches_need_a_batch_size() -> None:
    batches = DataLoader(Ramps(), batch_sampler=[[0, 1]])
    with pytest.raises(ValueError, match="update"):
        next(clean_batches(batches))
    assert isinstance(GenLabelFastCollateMixup(num_classes=C), Mixup)
