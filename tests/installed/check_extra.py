"""Run alone beside an installed wheel: `python -I check_extra.py EXTRA` imports and runs what that extra is for."""

import importlib
import subprocess
import sys
import tempfile

import torch

import genlabel_plugins

MODULES = {
    "timm": ["genlabel_timm"],
    "tabular": ["genlabel_pytorch_tabular"],
    "sklearn": ["genlabel_sklearn"],
    "imblearn": ["genlabel_imblearn"],
    "flows": ["genlabel_plugins.densities.backends.normalizing_flow"],
    "cli": ["genlabel_plugins.cli.main"],
    "paper": ["genlabel_plugins.paper", "foolbox", "pyautoattack", "bencheval"],
}
BACKENDS = {"": ["gm", "kde", "nn", "vae", "mixed_types"], "flows": ["flow"]}


def main(extra: str) -> None:
    """Raises or exits with 1 if what `extra` is for does not work."""
    extras = sorted(set(MODULES) | set(BACKENDS)) if extra == "all" else ["", extra]
    target = torch.arange(60) % 3
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + target[:, None]
    for name in extras:
        for module in MODULES.get(name, []):
            importlib.import_module(module)
        for backend in BACKENDS.get(name, []):
            label = genlabel_plugins.GenLabel(backend).fit(x, target).relabel(x, torch.eye(3)[target])
            torch.testing.assert_close(label.sum(1), torch.ones(60))
        if name == "cli":
            subprocess.run(["genlabel", "--version"], check=True)
        if name == "paper":
            subprocess.run(["genlabel", "paper", "examples", "--out", tempfile.mkdtemp()], check=True)
    print(f"genlabel_plugins {genlabel_plugins.__version__}[{extra}] works alone")


if __name__ == "__main__":
    main(*sys.argv[1:2])
