"""The timings of `gpu`: densities beside what one would use instead, and a search on the device beside one thread."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import sklearn
import torch
from _timing import Results, interleave, ratios
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from genlabel_plugins import make_backend
from genlabel_sklearn import GenLabelClassifierCV

BATCH = 256


def rows(n_features: int, n_classes: int, n_per_class: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Training rows, targets and a batch of mixed rows."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n_classes).repeat_interleave(n_per_class)
    x = torch.randn(len(target), n_features, generator=generator)
    x += torch.randn(n_classes, n_features, generator=generator)[target]
    i, j = torch.randint(len(x), (2, BATCH), generator=generator)
    return x.to(device), target.to(device), (0.7 * x[i] + 0.3 * x[j]).to(device)


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
