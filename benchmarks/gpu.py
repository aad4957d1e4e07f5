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
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from statistics import median
from typing import Any
from unittest import SkipTest

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scikit-learn is imported

import sklearn
import torch
from _timing import Results, add_json_option, interleave, ratios, versions
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

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
from genlabel_sklearn import GenLabelClassifierCV

BATCH = 256
CHEAP = {  # trained backends, small enough for a check
    "flow": {"max_epochs": 3, "n_layers": 1, "hidden_features": 8},
    "gan": {"latent_dim": 1, "max_epochs": 20, "hidden_features": (16,), "n_restarts": 32, "n_steps": 3},
    "vae": {"max_epochs": 5, "hidden_features": 8, "n_samples": 8},
}


def rows(n_features: int, n_classes: int, n_per_class: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Training rows, targets and a batch of mixed rows."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n_classes).repeat_interleave(n_per_class)
    x = torch.randn(len(target), n_features, generator=generator)
    x += torch.randn(n_classes, n_features, generator=generator)[target]
    i, j = torch.randint(len(x), (2, BATCH), generator=generator)
    return x.to(device), target.to(device), (0.7 * x[i] + 0.3 * x[j]).to(device)


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


def time_densities(device: str, size: tuple[int, int, int], rounds: int, results: Results) -> None:
    """Ratios of what one would use instead, and of what no form can avoid, to ours."""
    n_features, n_classes, n_per_class = size
    x, target, query = rows(*size, device)
    title = f"{n_features},{n_classes},{n_per_class}" + ", tf32" * torch.backends.cuda.matmul.allow_tf32
    gm, kde = make_backend("gm").fit(x, target), make_backend("kde").fit(x, target)
    stacked = torch.randn(n_features, n_features * n_classes, device=device)
    chunks = x.split(2**16)

    def product() -> None:
        for chunk in chunks:
            query @ chunk.T

    def read_rows() -> None:
        for chunk in chunks:
            chunk.sum()

    candidates: dict[str, Callable[[], Any]] = {
        "gm": lambda: gm.log_prob(query),
        "gm product": lambda: query @ stacked,
        "kde": lambda: kde.log_prob(query),
        "kde product": product,
        "kde reading": read_rows,
        "kde flex_attention": flex_kde(x, n_classes, query),
    }
    if mixture := array_api_mixture(x, target, n_classes):
        candidates["gm sklearn"] = lambda: mixture.predict_proba(query)
    seconds = interleave(
        candidates, rounds=rounds, on_device=frozenset(candidates) if device == "cuda" else frozenset()
    )
    for name in list(candidates):
        ours = name.split()[0]
        if name == ours:
            n_bytes = sum(buffer.nbytes for buffer in (gm if ours == "gm" else kde).buffers())
            rate = n_bytes / median(seconds[name]) / 1e9
            print(f"{name} {title}: {1e3 * median(seconds[name]):.3f} ms, {rate:.0f} GB/s of learnt state")
        else:
            spread = ratios(seconds, name, ours)
            results.add(f"{ours} {title}: {name.removeprefix(ours).strip()}", spread)
            print(f"    {name} takes {spread[1]:.2f}x as long [{spread[0]:.2f}, {spread[2]:.2f}]")


def time_search(device: str, head: str, n_rows: int, results: Results) -> None:
    """How long a search takes on one thread of the CPU, over how long it takes on the device."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of classes with fewer rows than features
    X, y = (part[:n_rows] for part in load_digits(return_X_y=True))

    def search(where: str) -> None:
        GenLabelClassifierCV(heads=(head,), n_repeats=1, device=where, random_state=0).fit(X, y)

    ours = "on the device"
    candidates = {ours: partial(search, device), "on the CPU": partial(search, "cpu")}
    seconds = interleave(candidates, rounds=1, on_device=frozenset([ours]) if device == "cuda" else frozenset())
    spread = ratios(seconds, "on the CPU", ours)
    title = f"search of {n_rows} digits, {head} head"
    results.add(f"{title}: CPU", spread)
    print(f"{title}: {seconds[ours][0]:.1f} s, on one thread of the CPU {spread[1]:.2f}x as long")


def flex_kde(x: Tensor, n_classes: int, query: Tensor) -> Callable[[], Tensor]:
    """A kde of unit covariance as attention, a head a class: log-sum-exp of q k - |k|^2 / 2 - |q|^2 / 2, `(C, B)`."""
    keys = x.view(n_classes, -1, x.shape[1])
    center = keys.mean(1, keepdim=True)
    width = keys.shape[1] ** (-1 / (x.shape[1] + 4))
    keys, queries = ((keys - center) / width)[None], ((query - center) / width)[None]  # (1, C, n, D), (1, C, B, D)
    bias, constant = (-0.5 * part.square().sum(-1)[0] for part in (keys, queries))
    values = keys[..., :16].contiguous()

    def score(value: Tensor, _b: Tensor, head: Tensor, _q: Tensor, key: Tensor) -> Tensor:
        return value + bias[head, key]

    attend = torch.compile(flex_attention) if x.is_cuda else flex_attention  # eager holds all scores

    def call() -> Tensor:
        _, lse = attend(queries, keys, values, score_mod=score, scale=1.0, return_lse=True)
        return lse[0] + constant

    expected = torch.logsumexp(-0.5 * torch.cdist(queries[0, :, :4], keys[0]).square(), 2)
    lost = float((call()[:, :4] - expected).abs().max())
    print(f"flex_attention is off by {lost:.1e} nats from a plain sum")
    return call


def array_api_mixture(x: Tensor, target: Tensor, n_classes: int) -> Any:
    """scikit-learn's mixture of one component a class on the device, through the array API; None where it has none."""
    try:
        sklearn.set_config(array_api_dispatch=True)
        means = torch.stack([x[target == c].mean(0) for c in range(n_classes)])
        mixture = GaussianMixture(n_classes, means_init=means, init_params="random", max_iter=1, reg_covar=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture.fit(x[:: max(1, len(x) // 50_000)])
        mixture.predict_proba(x[:4])
    except Exception as error:
        print(f"scikit-learn's mixture is left out: {error}")
        return None
    return mixture


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
