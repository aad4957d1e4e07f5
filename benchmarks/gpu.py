"""All that wants a GPU, in one run of under eight minutes: checks, then timings by device events.

    python benchmarks/gpu.py                      # on CUDA
    python benchmarks/gpu.py --device cpu --tiny  # what continuous integration runs: the same code, small sizes

Checks: a step of each door waits for the device nowhere (`torch.cuda.set_sync_debug_mode("error")`); every backend
keeps the contract on CUDA; float32 log-densities lose no 1e-3 nats, whatever `allow_tf32` says.
Timings at (128 features, 10 classes, 50,000 rows a class), 256 rows: `gm` and `kde` against a bare product, against
reading the rows once, against scikit-learn's `GaussianMixture` through the array API, and `kde` against
`flex_attention(..., return_lse=True)`, an exact fused kde; then the search of `GenLabelClassifierCV` on the digits
against itself on one thread of the CPU. Ends with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any
from unittest import SkipTest

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scikit-learn is imported

import torch
from _gpu_timings import rows, time_densities, time_search
from _timing import Results, add_json_option, versions
from torch import Tensor, nn

from genlabel_plugins import (
    GenLabel,
    GenLabelLoss,
    GenLabelMix,
    HeadFeatures,
    LabeledMix,
    Mixup,
    Relabeling,
    RunningGaussian,
    list_backends,
    make_backend,
)
from genlabel_plugins.testing import relabeler_checks

CHEAP = {  # trained backends, small enough for a check
    "flow": {"max_epochs": 3, "n_layers": 1, "hidden_features": 8},
    "gan": {"latent_dim": 1, "max_epochs": 20, "hidden_features": (16,), "n_restarts": 32, "n_steps": 3},
    "vae": {"max_epochs": 5, "hidden_features": 8, "n_samples": 8},
}


@contextlib.contextmanager
def no_sync(device: str) -> Iterator[None]:
    """Raise where the host waits for the device."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def steps(device: str) -> dict[str, Callable[[], Any]]:
    """A training step of each door of the core."""
    x, target, _ = rows(16, 4, 64, device)
    y_mix = torch.full((len(x), 4), 0.25, device=device)
    found: dict[str, Callable[[], Any]] = {}
    for name in ("gm", "kde", "nn"):
        found[f"relabel by {name}"] = partial(GenLabel(name).fit(x, target).relabel, x, y_mix)
    found["GenLabelMix"] = partial(GenLabelMix(GenLabel("gm").fit(x, target), alpha=1.0), x, target)
    found["RunningGaussian"] = partial(RunningGaussian(4).fit(x, target).update, x, target)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).to(device)
    mix = LabeledMix(Mixup(4, alpha=1.0))
    loss = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(model, "2"), Relabeling(4)).to(device)

    def joint() -> None:
        x_mix, y = mix(x, target)
        loss(model(x_mix), y).backward()

    found["GenLabelLoss"] = joint
    return found


def check_steps(device: str) -> Iterator[tuple[str, Exception | None]]:
    for name, step in steps(device).items():
        step()  # the first may check its input
        error = None
        try:
            with no_sync(device):
                step()
        except Exception as raised:
            error = raised
        yield f"no wait for the device: {name}", error


def check_contract(names: list[str], device: str) -> Iterator[tuple[str, Exception | None]]:
    """The contract, whose rows go to the device for every call."""
    for name in names:
        error = None
        for check in relabeler_checks():
            stays = check.__name__ == "check_device"  # goes from device to device of its own
            try:
                check(partial(make_backend, name, **CHEAP.get(name, {})) if stays else partial(moved, device, name))
            except SkipTest:
                continue
            except Exception as raised:
                raised.add_note(check.__name__)
                error = raised
                break
        yield f"contract: {name}", error


def moved(device: str, name: str) -> Any:
    """A backend that takes its rows to the device and its answers back."""
    density = make_backend(name, **CHEAP.get(name, {}))
    density.__class__ = moving(type(density), device)
    return density


@cache
def moving(backend: type, device: str) -> type:
    class Moved(backend):
        def fit(self, x: Tensor, target: Tensor, **options: Any) -> Any:
            return super().fit(x.to(device), target.to(device), **options)

        def partial_fit(self, x: Tensor, target: Tensor, **options: Any) -> Any:
            return super().partial_fit(x.to(device), target.to(device), **options)

        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x.to(device)).cpu()

    if not hasattr(backend, "partial_fit"):
        del Moved.partial_fit
    return Moved


def check_tf32(device: str) -> Iterator[tuple[str, Exception | None]]:
    """Log-densities in float32 against those in float64, with TF32 allowed and not."""
    x, target, query = rows(64, 5, 400, device)
    before = torch.backends.cuda.matmul.allow_tf32
    for allowed in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        for name in ("gm", "kde", "nn"):
            found = make_backend(name).fit(x, target).log_prob(query).double()
            expected = make_backend(name).fit(x.double(), target).log_prob(query.double())
            lost = float((found - expected).abs().max())
            error = None if lost < 1e-3 else AssertionError(f"float32 loses {lost:.1e} nats")
            yield f"{name} in float32, allow_tf32={allowed}", error
    torch.backends.cuda.matmul.allow_tf32 = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small sizes, few backends and one round")
    add_json_option(parser)
    args = parser.parse_args()
    results = Results(args.json)
    print(versions("torch", "scikit-learn"), torch.cuda.get_device_name() if args.device == "cuda" else "CPU")
    failed = 0
    for found in (check_steps(args.device), check_contract(["gm"] if args.tiny else list_backends(), args.device)):
        failed += report(found)
    failed += report(check_tf32(args.device))
    size = (8, 3, 40) if args.tiny else (128, 10, 50_000 if args.device == "cuda" else 2000)
    for allowed in (False, True) if args.device == "cuda" else (False,):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        print(f"allow_tf32={allowed}")
        time_densities(args.device, size, 1 if args.tiny else 5, results)
    torch.backends.cuda.matmul.allow_tf32 = False
    for head, n_rows in (("logistic", 1797), ("mlp", 600)):
        time_search(args.device, head, 100 if args.tiny else n_rows, results)
    results.write("torch", "scikit-learn")
    sys.exit(failed > 0)


def report(found: Iterator[tuple[str, Exception | None]]) -> int:
    """Print each check, and count those that failed."""
    failed = 0
    for name, error in found:
        notes = " ".join(getattr(error, "__notes__", []))
        print(f"{name}: {'ok' if error is None else f'FAILED {notes} {error!r}'}", flush=True)
        failed += error is not None
    return failed


if __name__ == "__main__":
    main()
