"""Masks and other codes: they go with their images, and are never interpolated."""

import pytest
import torch
from torchvision import tv_tensors

from genlabel_plugins import BatchMix, ColumnCutMix, CutMix, GenLabel, GenLabelMix, Mixup

B = 8
TARGET = torch.arange(B) % 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(dtype=torch.int64):
    """Images whose red channel is the mask, and masks of classes 0 and 2."""
    mask = 2 * torch.randint(2, (B, 6, 6), generator=seeded())
    image = torch.randn(B, 3, 6, 6, generator=seeded(1))
    image[:, 0] = mask
    return {"image": image, "mask": mask.to(dtype)}


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_cutmix_gives_mask_and_image_one_box(dtype, per_sample):
    x = scene(dtype)
    mixed = CutMix(2, per_sample=per_sample, generator=seeded(2))(x, TARGET)
    assert mixed.x["mask"].dtype == dtype
    assert (mixed.x["mask"] != x["mask"]).any()
    assert torch.equal(mixed.x["image"][:, 0].to(dtype), mixed.x["mask"])


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("how", ["named", "marked"])
def test_mixup_takes_the_mask_of_the_input_that_is_seen_more(dtype, how):
    x = scene(dtype)
    if how == "marked":
        x["mask"] = tv_tensors.Mask(x["mask"])
    masks = ["mask"] if how == "named" else ()
    mixed = Mixup(2, per_sample=True, masks=masks, generator=seeded(2))(x, TARGET)
    assert mixed.x["mask"].dtype == dtype
    for i in range(B):
        nearest = i if mixed.lam[i] >= 0.5 else int(mixed.partner[i])
        assert torch.equal(mixed.x["mask"][i], x["mask"][nearest])
    plain = Mixup(2, per_sample=True, generator=seeded(2))({"image": x["image"]}, TARGET)
    assert torch.equal(mixed.x["image"], plain.x["image"])


def test_no_distance_is_measured_in_a_mask():
    x = scene()
    options = {"pairing": "nearest_other", "generator": seeded()}
    partner = Mixup(2, masks=["mask"], **options)(x | {"mask": 1000 * x["mask"]}, TARGET).partner
    assert torch.equal(partner, Mixup(2, **options)({"image": x["image"]}, TARGET).partner)


def test_masks_pass_every_door_by_name():
    x = scene()
    genlabel = GenLabel("gm", gamma=0.5).fit(x["image"][:, :, 0, 0], TARGET)
    mix = GenLabelMix(genlabel, masks=["mask"], embed=lambda inputs: inputs["image"][:, :, 0, 0])
    batch = BatchMix(mix, x=["image", "mask"], target="label", collate_fn=None)({**x, "label": TARGET})
    assert set(batch["mask"].unique().tolist()) == {0, 2}
    assert batch["label"].shape == (B, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (scene(), "got torch.int64: use 'cutmix', or name a mask in masks="),
        (scene(torch.uint8), r"x\['mask'\] is uint8 of one channel beside other inputs.*name it in masks="),
        ({"numbers": torch.rand(B, 2), "codes": torch.zeros(B, 2, dtype=torch.uint8)}, r"x\['codes'\] is a table of"),
        (torch.zeros(B, 2, dtype=torch.uint8), "x is a table of uint8, whose values may be codes.*'column_cutmix'"),
        (torch.zeros(B, 2, dtype=torch.int64), "got torch.int64: use 'column_cutmix'"),
    ],
)
def test_what_may_be_codes_is_not_interpolated(x, message):
    with pytest.raises(ValueError, match=message):
        Mixup(2)(x, TARGET)


def test_bytes_in_colors_are_pixels_beside_a_mask():
    x = {"image": torch.randint(256, (B, 3, 4, 4), dtype=torch.uint8), "mask": torch.zeros(B, 1, 4, 4).byte()}
    assert Mixup(2, masks=["mask"])(x, TARGET).x["image"].dtype == torch.uint8


@pytest.mark.parametrize("x", [scene()["image"], scene()["mask"], scene()])
def test_pixels_are_no_columns(x):
    with pytest.raises(ValueError, match=r"x must hold rows \(B, D\), got \(8, .*: use 'cutmix'"):
        ColumnCutMix(2)(x, TARGET)


@pytest.mark.parametrize(
    ("masks", "x", "message"),
    [
        (["label"], scene(), r"masks must name inputs of a mapping, got \['label'\] beside \['image', 'mask'\]"),
        (["mask"], scene()["image"], r"masks must name inputs of a mapping, got \['mask'\] beside a single tensor"),
    ],
)
def test_masks_that_are_not_there_are_named(masks, x, message):
    with pytest.raises(ValueError, match=message):
        Mixup(2, masks=masks)(x, TARGET)


def test_one_name_is_a_sequence_of_one():
    with pytest.raises(ValueError, match="masks must be a sequence of names, got the text 'mask'"):
        CutMix(2, masks="mask")
