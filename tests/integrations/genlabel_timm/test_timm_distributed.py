"""Two gloo processes under DistributedDataParallel: class statistics and gradients are those of all ranks."""

import os
import tempfile
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from genlabel_plugins import RunningGaussian
from genlabel_timm import GenLabelCriterion, GenLabelMixup, ModelFeatures

pytestmark = pytest.mark.slow

C, WORLD = 4, 2


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 3, 32, 32, generator=generator), torch.arange(32) % C


def create() -> Any:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=C, img_size=32, depth=1)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    torch.save([train_step(rank, keep_clean) for keep_clean in (False, True)], os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def train_step(rank: int, keep_clean: bool) -> dict[str, Any]:
    model = create()
    # Rank 0 mixes nothing: ranks draw on their own and must not wait for one another.
    mixup_fn = GenLabelMixup(mixup_alpha=1.0, prob=rank, num_classes=C, gamma=0.8).attach(model)
    wrapped = DistributedDataParallel(model)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup_fn, keep_clean=keep_clean)
    x, target = rows()
    np.random.seed(rank)  # noqa: NPY002
    x_mix, y_mix = mixup_fn(x[rank::WORLD].clone(), target[rank::WORLD])
    criterion(wrapped(x_mix), y_mix).backward()
    density = criterion.relabeling.relabeler.density
    return {
        "mean": density.mean_,
        "variance": density.variance_,
        "gradient": [parameter.grad for parameter in model.parameters()],
        "relabeled": criterion.report()["relabeled"],
    }


def test_two_ranks() -> None:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, args=(folder,), nprocs=WORLD)
        ranks = [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=True) for rank in range(WORLD)]
    x, target = rows()
    with torch.random.fork_rng():
        features = ModelFeatures(create())
    whole = RunningGaussian(C)
    whole.update(features(x), target)
    for first, second in zip(*ranks, strict=True):  # without and with keep_clean
        for i, rank in enumerate((first, second)):
            torch.testing.assert_close(rank["mean"], whole.mean_, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(rank["variance"], whole.variance_, atol=1e-5, rtol=1e-4)
            assert rank["relabeled"] == i
        for mine, yours in zip(first["gradient"], second["gradient"], strict=True):
            assert torch.equal(mine, yours)
            assert torch.isfinite(mine).all()
