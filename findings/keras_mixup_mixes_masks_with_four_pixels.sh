#!/usr/bin/env bash
# keras 3.15.1: MixUp on a dictionary with "segmentation_masks" blends each mask not with that of its partner but with B single
# numbers, the first ones of the flattened batch, since numpy.take is called without an axis (seen on the torch backend; the line is
# the same for all). They are broadcast along the last axis: masks of one channel come out with B channels; one-hot masks of as many
# classes as there are images in the batch keep their shape, and are wrong in silence. Images and labels are mixed rightly.
# Seen below: four masks that are each of one class all over, so that every pixel should be the mixed label of its image.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "torch==2.14.1" "numpy<3"
cd "$folder"
KERAS_BACKEND=torch "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

n = 4
labels = np.eye(n, dtype="float32")
one_hot = np.broadcast_to(labels[:, None, None, :], (n, 8, 6, n)).copy()
codes = np.broadcast_to(np.arange(n, dtype="float32")[:, None, None, None], (n, 8, 6, 1)).copy()
for name, masks in (("one-hot masks", one_hot), ("masks of codes", codes)):
    batch = {"images": np.zeros((n, 8, 6, 3), "float32"), "labels": labels, "segmentation_masks": masks}
    mixed = keras.layers.MixUp(seed=0)(batch, training=True)
    pixels = mixed["segmentation_masks"].cpu().numpy()
    label = mixed["labels"].cpu().numpy()
    print(f"{name}: shape {masks.shape} -> {pixels.shape}")
    if name == "one-hot masks":
        wrong = np.abs(pixels - label[:, None, None, :]).max(axis=(1, 2, 3)) > 1e-6
        for row in np.flatnonzero(wrong):
            print(f"image {row}: label {label[row].round(2)}, each pixel of its mask {pixels[row, 0, 0].round(2)}")
        print(f"{wrong.sum()} of {n} masks are not the mixed label")
        assert wrong.any()
    else:
        assert pixels.shape == (n, 8, 6, n), pixels.shape
assert keras.__version__ == "3.15.1"
PYTHON
