"""Data and assertions of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from genlabel_plugins.densities.density import Density
from genlabel_plugins.posterior import class_posterior

Make = Callable[[], Density]

LABEL_TOLERANCE = 1e-5  # of a posterior in float64, after arithmetic that rounds in another order
FALL = 0.05  # of an accuracy, by the chance of which rows were drawn
AGREEMENT = 0.75  # share of equal decisions after training that draws other batches


def blobs(n_rows: int = 120, n_features: int = 2) -> tuple[Tensor, Tensor]:
    """Three round classes of variance one, five apart, in float64: rows `(N, D)` and targets `(N,)`."""
    target = torch.arange(n_rows) % 3
    noise = torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise + 5 * (target[:, None] - 1) * torch.tensor([1.0, -1.0]).repeat(n_features)[:n_features], target


def skip_unless(make: Make, claim: str) -> None:
    """Pass over a check of a claim that the backend does not make."""
    if not getattr(make(), claim):
        raise SkipTest(f"the backend does not claim to be {claim}")


def skip_if_declined(make: Make, regime: str) -> None:
    """Pass over a regime that the backend declines."""
    if regime in make().declines:
        raise SkipTest(f"the backend declines the regime {regime!r}")


def assert_fits(make: Make, x: Tensor, target: Tensor) -> None:
    """Degenerate rows: finite log-densities, or from a trained backend a clear error in their place."""
    density = make()
    try:
        density.fit(x, target)
    except ValueError:
        if density.exact:
            raise
        return
    assert_finite(density.log_prob(x), "of degenerate rows")


def assert_finite(log_prob: Tensor, where: str) -> None:
    """No NaN and no infinity."""
    assert bool(torch.isfinite(log_prob).all()), f"log_prob {where} must be finite, got {log_prob}"


def assert_same(log_prob: Tensor, expected: Tensor, where: str) -> None:
    """Equal up to the rounding of one order of operations."""
    assert torch.allclose(log_prob, expected, rtol=1e-9, atol=1e-9), (
        f"log_prob {where} must not change, moved by up to {(log_prob - expected).abs().max()}"
    )


def assert_no_fall(before: float, after: float, where: str) -> None:
    """An accuracy that does not fall by more than noise."""
    assert after >= before - FALL, f"accuracy must not fall from {before:.3f} with {where}, got {after:.3f}"


def assert_same_label(log_prob: Tensor, expected: Tensor, where: str, tolerance: float = LABEL_TOLERANCE) -> None:
    """Equal posteriors."""
    moved = (class_posterior(log_prob) - class_posterior(expected)).abs().max()
    assert moved <= tolerance, f"labels {where} must not change, moved by up to {moved}"


def assert_equivariant(density: Density, log_prob: Tensor, expected: Tensor) -> None:
    """Equal posteriors, or from a trained backend mostly equal decisions."""
    if density.exact:
        assert_same_label(log_prob, expected, "of classes or rows in another order")
        return
    share = (log_prob.argmax(1) == expected.argmax(1)).double().mean()
    assert share >= AGREEMENT, f"at least {AGREEMENT} of the decisions must stay in another order, got {share}"


def assert_raises(kind: type[Exception], function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """An error of the kind; pytest is not needed to run the contract."""
    try:
        function(*args, **options)
    except kind:
        return
    raise AssertionError(f"must raise {kind.__name__} on {args}")
