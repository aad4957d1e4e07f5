"""timm's loaders without one batch size: images of scheduled sizes, and NaFlex."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import NaFlexMixup, create_loader, create_naflex_loader
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from torch.utils.data import Dataset

from genlabel_timm import GenLabelCriterion, GenLabelFastCollateMixup
from genlabel_timm.clean_batches import CleanBatches

C = 4
PLAIN: dict[str, Any] = {
    "is_training": True,
    "no_aug": True,
    "num_workers": 0,
    "mean": (0, 0, 0),
    "std": (1, 1, 1),
    "device": torch.device("cpu"),
}


class Shades(Dataset[tuple[Any, int]]):
    """Images of one gray, which names their row."""

    transform: Any = None

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(np.full((48, 48, 3), 5 * index, dtype=np.uint8))
        return image if self.transform is None else self.transform(image), index % C


def scheduled(collate_fn: Any) -> Any:
    sizes = {"input_size": (3, 48, 48), "input_size_choices": [32, 48], "batch_size_choices": [8, 4]}
    return create_loader(Shades(), batch_size=8, collate_fn=collate_fn, **sizes, **PLAIN)


def rows_of(gray: torch.Tensor) -> torch.Tensor:
    """Rows that images of one gray are, from its value in [0, 1]."""
    return (gray * 51).round().long()


def test_clean_batches_of_scheduled_sizes_are_clean_and_cover_the_rows() -> None:
    loader = scheduled(GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C))
    clean = CleanBatches(loader)
    batches = [next(clean) for _ in range(20)]
    sizes = {(len(x), x.shape[-1]) for x, _ in batches}
    assert sizes == {(8, 32), (4, 48)}
    seen: list[int] = []
    for x, target in batches:
        rows = rows_of(x[:, 0, 0, 0])
        assert torch.allclose(x, x[:, :1, :1, :1].expand_as(x))
        assert torch.equal(target, rows % C)
        seen += rows.tolist()
    assert len(set(seen)) == 48
    resumed = CleanBatches(loader)
    resumed.resume(13)
    assert torch.equal(next(resumed)[1], batches[13][1])


def test_the_criterion_relabels_scheduled_sizes() -> None:
    model = timm.create_model("test_resnet", num_classes=C)
    collate_fn = GenLabelFastCollateMixup(mixup_alpha=1.0, num_classes=C).attach(model)
    loader = scheduled(collate_fn)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), collate_fn, loader=loader)
    for x, y in loader:
        criterion(model(x), y).backward()
    report = criterion.report()
    assert report["relabeled"] > 0.5
    assert report["classes_without_statistics"] == []


def naflex(mixup_fn: Any, prefetcher: bool) -> Any:
    return create_naflex_loader(
        Shades(),
        patch_size=16,
        train_seq_lens=(4, 9),
        batch_size=4,
        mixup_fn=mixup_fn,
        use_prefetcher=prefetcher,
        **PLAIN,
    )


@pytest.mark.parametrize("prefetcher", [True, False])
@pytest.mark.parametrize("keep_clean", [False, True])
def test_the_criterion_serves_naflex_without_another_change(prefetcher: bool, keep_clean: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(
            "naflexvit_base_patch16_gap", num_classes=C, embed_dim=32, depth=1, num_heads=2
        )
        loader = naflex(NaFlexMixup(num_classes=C, label_smoothing=0.1), prefetcher)
        criterion = GenLabelCriterion(
            SoftTargetCrossEntropy(), model, label_smoothing=0.1, loader=loader, keep_clean=keep_clean
        )
        assert criterion.clean_batches is not None
        clean = next(CleanBatches(loader))
        for x, y in loader:
            criterion(model(x), y).backward()
    rows = rows_of(clean[0]["patches"].flatten(1).amax(1))
    assert torch.equal(clean[1], rows % C)
    report = criterion.report()
    assert report["relabeled"] > 0.3
    assert report["clean_accuracy"] >= 0
    assert criterion.clean_batches.n_given > 1
