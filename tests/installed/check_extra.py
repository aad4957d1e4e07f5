"""Run alone beside an installed wheel: `python -I check_extra.py EXTRA` imports and runs what that extra is for."""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

import genlabel_plugins

os.environ.setdefault("KERAS_BACKEND", "torch")
TARGET = torch.arange(60) % 3
X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + TARGET[:, None]
Y = torch.eye(3)[TARGET]


def backends(*names: str) -> None:
    for name in names:
        label = genlabel_plugins.GenLabel(name).fit(X, TARGET).relabel(X, Y)
        torch.testing.assert_close(label.sum(1), torch.ones(60))


def modules(*names: str) -> None:
    for name in names:
        importlib.import_module(name)


def timm() -> None:
    from genlabel_timm import GenLabelMixup

    GenLabelMixup(mixup_alpha=1.0, num_classes=3)


def sklearn() -> None:
    from genlabel_sklearn import GenLabelClassifier

    assert GenLabelClassifier().fit(X.numpy(), TARGET.numpy()).score(X.numpy(), TARGET.numpy()) > 0.5


def imblearn() -> None:
    from genlabel_imblearn import GenLabelSampler

    _, classes = GenLabelSampler(random_state=0).fit_resample(X.numpy()[:50], TARGET.numpy()[:50])
    assert set(classes) == {0, 1, 2}


def keras() -> None:
    from genlabel_keras import GenLabelMixUp

    images = X.view(60, 2, 2, 1)
    GenLabelMixUp(genlabel_plugins.GenLabel("nn").fit(images, TARGET))({"images": images, "labels": Y})


def save() -> None:
    genlabel = genlabel_plugins.GenLabel("gm").fit(X, TARGET)
    with tempfile.TemporaryDirectory() as folder:
        genlabel_plugins.save(genlabel, Path(folder) / "densities.safetensors")
        loaded = genlabel_plugins.load(Path(folder) / "densities.safetensors")
    assert torch.equal(loaded.log_prob(X), genlabel.log_prob(X))


def cli() -> None:
    subprocess.run(
        [Path(sys.executable).with_name("genlabel"), "diagnose", "sklearn:iris", "--target", "target"], check=True
    )


def paper() -> None:
    modules("genlabel_plugins.paper", "foolbox", "pyautoattack", "bencheval")
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("genlabel"), "paper", "examples", "--out", folder]
        subprocess.run(command, check=True)


CHECKS: dict[str, Callable[[], None]] = {
    "": lambda: backends("gm", "kde", "nn", "vae", "mixed_types"),
    "timm": timm,
    "tabular": lambda: modules("genlabel_pytorch_tabular"),
    "flows": lambda: backends("flow"),
    "sklearn": sklearn,
    "plots": lambda: modules("matplotlib"),
    "save": save,
    "frames": lambda: modules("narwhals"),
    "imblearn": imblearn,
    "formats": lambda: modules("pyreadstat", "python_calamine", "rdata"),
    "transformers": lambda: modules("genlabel_transformers"),
    "keras": keras,
    "cli": cli,
    "paper": paper,
}


def main(extra: str) -> None:
    """Raises if what `extra` is for does not work."""
    for name in CHECKS if extra == "all" else dict.fromkeys(["", extra]):
        CHECKS[name]()
    print(f"genlabel_plugins {genlabel_plugins.__version__}[{extra}] works alone")


if __name__ == "__main__":
    main(*sys.argv[1:2])
