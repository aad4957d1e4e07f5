"""The densities, posteriors, intrusion and moments that `densities.py` times, and what one would use instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.mixture import GaussianMixture
from torch import Tensor

from genlabel_plugins import class_posterior, make_backend
from genlabel_plugins.densities._moments import class_moments
from genlabel_plugins.mixing.intrusion import TrainingSamples

try:
    import faiss
except ModuleNotFoundError:
    faiss = None

BATCH = 256
OURS = "genlabel"
POSTERIOR = "genlabel's posterior"  # beside scikit-learn's predict_proba
COMPILED = "genlabel's posterior, compiled"
COMPILED_DENSITY = "genlabel, compiled"
Call = Callable[[], Any]


class Case(NamedTuple):
    """One row block of the table: candidates by name, and the ratio to `genlabel` that each must reach."""

    title: str
    candidates: dict[str, Call]
    at_least: dict[str, float]  # incumbent / genlabel
    at_most: dict[str, float]  # genlabel / limit
    n_bytes: int = 0  # learnt state read by one call


class Problem:
    """Gaussian classes of equal size, their rows and a batch of mixed rows."""

    def __init__(self, n_features: int, n_classes: int, n_per_class: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        target = torch.arange(n_classes).repeat_interleave(n_per_class)
        x = torch.randn(len(target), n_features, generator=generator)
        x += torch.randn(n_classes, n_features, generator=generator)[target]
        i, j = torch.randint(len(x), (2, BATCH), generator=generator)
        self.x, self.target, self.query = x.to(device), target.to(device), (0.7 * x[i] + 0.3 * x[j]).to(device)
        self.numpy_query = self.query.cpu().numpy()
        self.classes = [x[target == c].numpy() for c in range(n_classes)]
        self.n_features, self.n_classes = n_features, n_classes
        self.title = f"{n_features},{n_classes},{n_per_class}"


def gm_cases(device: str) -> Iterator[Case]:
    small = Problem(20, 10, 500, device)
    gaussians = [(rows.mean(0), np.cov(rows.T) + 1e-4 * np.eye(20)) for rows in small.classes]

    def published_recipe() -> np.ndarray:
        p = np.stack([stats.multivariate_normal(*g).pdf(small.numpy_query) for g in gaussians], 1)
        if (p.sum(1) == 0).any():
            p = softmax(np.stack([stats.multivariate_normal(*g).logpdf(small.numpy_query) for g in gaussians], 1), 1)
        return p / p.sum(1, keepdims=True)

    yield gm_case("full", small, {"published recipe": (published_recipe, 30.0), "sklearn": 4.0}, {"product": 3.0})
    yield gm_case("full", Problem(128, 10, 500, device), {"sklearn": 3.0}, {})
    yield gm_case("full", Problem(512, 100, 600, device), {"sklearn": 3.0}, {"full product form": 0.6})
    yield gm_case("diag", Problem(512, 100, 100, device), {"sklearn": 2.3}, {})
    yield gm_case("tied", Problem(128, 10, 500, device), {"sklearn": 12.0}, {})


def gm_case(kind: str, problem: Problem, at_least: dict[str, Any], at_most: dict[str, float]) -> Case:
    gm = make_backend("gm", covariance_type=kind).fit(problem.x, problem.target)
    stacked = torch.randn(problem.n_features, problem.n_classes * problem.n_features).to(problem.query)
    bias = stacked[0].clone()
    squared = torch.cat([problem.query, problem.query], 1)  # for [z^2, z]
    by_kind: dict[str, Call] = {
        "full": lambda: problem.query @ stacked,
        "diag": lambda: squared @ stacked.view(2 * problem.n_features, -1)[:, : problem.n_classes],
        "tied": lambda: problem.query @ stacked[:, : problem.n_features],
    }

    def full_product_form() -> Tensor:
        z = torch.addmm(bias, problem.query, stacked).view(BATCH, problem.n_classes, -1)
        return z.square().sum(-1)

    mixture, mixture32 = sklearn_mixture(problem, kind, np.float64), sklearn_mixture(problem, kind, np.float32)
    query64 = problem.numpy_query.astype(np.float64)
    compiled = torch.compile(lambda x: class_posterior(gm.log_prob(x)), fullgraph=True)
    available: dict[str, Call] = {
        OURS: lambda: gm.log_prob(problem.query),
        POSTERIOR: lambda: class_posterior(gm.log_prob(problem.query)),
        COMPILED: lambda: compiled(problem.query),
        "sklearn": lambda: mixture.predict_proba(query64),
        "sklearn float32": lambda: mixture32.predict_proba(problem.numpy_query),
        "product": by_kind[kind],
        "full product form": full_product_form,
    }
    available |= {name: entry[0] for name, entry in at_least.items() if isinstance(entry, tuple)}
    bars = {name: entry[1] if isinstance(entry, tuple) else entry for name, entry in at_least.items()}
    candidates = {
        name: available[name] for name in [OURS, POSTERIOR, COMPILED, *at_least, "sklearn float32", "product", *at_most]
    }
    return Case(f"gm {kind} {problem.title}", candidates, bars, at_most, learnt_bytes(gm))


def sklearn_mixture(problem: Problem, kind: str, dtype: type) -> GaussianMixture:
    """One component per class, with the parameters of the class and not by EM."""
    means = np.stack([rows.mean(0) for rows in problem.classes]).astype(dtype)
    spreads = [np.cov(rows.T) + 1e-4 * np.eye(problem.n_features) for rows in problem.classes]
    covariances = {
        "full": np.stack(spreads),
        "tied": np.mean(spreads, 0),
        "diag": np.stack([np.diag(s) for s in spreads]),
    }
    precision = np.linalg.inv(covariances[kind]) if kind != "diag" else 1 / covariances[kind]
    root = np.sqrt(precision) if kind == "diag" else np.linalg.cholesky(precision)
    mixture = GaussianMixture(problem.n_classes, covariance_type=kind)
    mixture.weights_ = np.full(problem.n_classes, 1 / problem.n_classes, dtype=dtype)
    mixture.means_, mixture.precisions_cholesky_ = means, root.astype(dtype)
    return mixture


def kde_cases(device: str) -> Iterator[Case]:
    yield kde_case(Problem(20, 10, 500, device), {"scipy": 16.0, "naive torch": 3.5}, {})
    yield kde_case(Problem(128, 10, 5000, device), {"scipy": 22.0}, {"product + exp2": 1.15})
    yield kde_case(Problem(20, 10, 50_000, device), {"naive torch": 4.0}, {})


def kde_case(problem: Problem, at_least: dict[str, float], at_most: dict[str, float]) -> Case:
    kde = make_backend("kde").fit(problem.x, problem.target)
    scipy_kdes = [stats.gaussian_kde(rows.T) for rows in problem.classes] if "scipy" in at_least else []
    width = len(problem.classes[0]) ** (-1 / (problem.n_features + 4))  # the classes have unit covariance
    whiten = torch.eye(problem.n_features).to(problem.query) / width
    whitened = [torch.from_numpy(rows).to(whiten) @ whiten for rows in problem.classes]
    chunks = torch.cat(whitened).split(2048)

    def naive_torch() -> Tensor:
        columns = [-0.5 * torch.cdist(problem.query @ whiten, rows).square() for rows in whitened]
        return torch.stack([torch.logsumexp(column, 1) for column in columns], 1)

    def product_and_exp2() -> None:
        for rows in chunks:
            (problem.query @ rows.T).exp2_()

    def product_exp2_and_sum() -> None:  # all but the maximum that keeps far rows from underflowing
        for rows in chunks:
            (problem.query @ rows.T).exp2_().sum(1)

    compiled = torch.compile(kde.log_prob, fullgraph=True)
    available: dict[str, Call] = {
        OURS: lambda: kde.log_prob(problem.query),
        "scipy": lambda: np.stack([each.logpdf(problem.numpy_query.T) for each in scipy_kdes], 1),
        "naive torch": naive_torch,
        "product + exp2": product_and_exp2,
        "product + exp2 + sum": product_exp2_and_sum,
        COMPILED_DENSITY: lambda: compiled(problem.query),
    }
    at_most = {"product + exp2": math.inf, "product + exp2 + sum": math.inf} | at_most
    candidates = {name: available[name] for name in (OURS, COMPILED_DENSITY, *at_least, *at_most)}
    return Case(f"kde {problem.title}", candidates, at_least, at_most, learnt_bytes(kde))


def nn_cases(device: str) -> Iterator[Case]:
    for problem, bar in ((Problem(20, 10, 500, device), 1.7), (Problem(128, 10, 5000, device), 1.4)):
        yield nn_case(problem, bar)


def nn_case(problem: Problem, bar: float) -> Case:
    nearest = make_backend("nn").fit(problem.x, problem.target)
    chunks = problem.x.split(2048)

    def product() -> None:
        for rows in chunks:
            problem.query @ rows.T

    candidates: dict[str, Call] = {OURS: lambda: nearest.log_prob(problem.query), "product": product}
    if faiss is None:
        return Case(f"nn {problem.title}", candidates, {}, {"product": math.inf}, learnt_bytes(nearest))
    indices = []
    for rows in problem.classes:
        indices.append(faiss.IndexFlatL2(problem.n_features))
        indices[-1].add(rows)
    candidates["faiss Flat"] = lambda: [index.search(problem.numpy_query, 1) for index in indices]
    return Case(f"nn {problem.title}", candidates, {"faiss Flat": bar}, {"product": math.inf}, learnt_bytes(nearest))


def posterior_cases(device: str) -> Iterator[Case]:
    """Base 2 has the cheaper exponential, torch.softmax one call: which is faster depends on the size of the batch."""
    for n_rows, n_classes in ((32, 3), (128, 3), (128, 10), (128, 100), (1024, 10)):
        log_prob = (100 * torch.randn(n_rows, n_classes, generator=torch.Generator().manual_seed(0))).to(device)

        def base_2(log_prob: Tensor = log_prob) -> Tensor:
            p = ((log_prob - log_prob.amax(-1, keepdim=True)) * math.log2(math.e)).exp2()
            return p / p.sum(-1, keepdim=True)

        candidates: dict[str, Call] = {
            OURS: lambda log_prob=log_prob: class_posterior(log_prob),
            "softmax in base 2": base_2,
            "torch.softmax": lambda log_prob=log_prob: torch.softmax(log_prob, -1),
        }
        yield Case(f"posterior {n_rows},{n_classes}", candidates, {}, {"torch.softmax": 1.2})


def intrusion_cases(device: str) -> Iterator[Case]:
    for problem in (Problem(20, 10, 500, device), Problem(128, 10, 5000, device)):
        samples = TrainingSamples(problem.x, problem.target)
        nearest = make_backend("nn").fit(problem.x, problem.target)
        candidates: dict[str, Call] = {
            OURS: lambda s=samples, p=problem: s.class_share(p.query),
            "cdist": lambda p=problem: p.target[torch.cdist(p.query, p.x).argmin(1)],
            "backend nn": lambda n=nearest, p=problem: n.log_prob(p.query),
        }
        yield Case(f"intrusion {problem.title}", candidates, {"cdist": 1.0}, {"backend nn": 1.15})


def moment_cases(device: str) -> Iterator[Case]:
    for n_features, n_classes, n_rows, bar in ((20, 10, 50_000, 4.0), (64, 100, 1_000_000, 2.4)):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(n_rows, n_features, generator=generator)
        target = torch.randint(n_classes, (n_rows,), generator=generator)
        yield moment_case(x, target, n_classes, bar, device)


def moment_case(x: Tensor, target: Tensor, n_classes: int, bar: float, device: str) -> Case:
    rows, labels = x.numpy(), target.numpy()
    device_x, device_target = x.to(device), target.to(device)
    candidates: dict[str, Call] = {
        OURS: lambda: class_moments(device_x, device_target, n_classes),
        "EmpiricalCovariance": lambda: [EmpiricalCovariance().fit(rows[labels == c]) for c in range(n_classes)],
        "product": lambda: device_x.T @ device_x,
    }
    title = f"fit moments {len(x)}x{x.shape[1]},{n_classes}"
    return Case(title, candidates, {"EmpiricalCovariance": bar}, {"product": math.inf}, 4 * x.numel())


def learnt_bytes(density: torch.nn.Module) -> int:
    return sum(buffer.nbytes for buffer in density.buffers())
