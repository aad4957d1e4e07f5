"""What a backend with a `partial_fit` makes of rows that come in parts: the same as of all at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from genlabel_plugins.testing._assertions import LABEL_TOLERANCE, Make, assert_raises, assert_same_label, blobs

EDGES = (0, 1, 2, 30, 35, 80, 120)  # of parts: single rows, few, many


def check_parts_equal_one_fit(make: Make) -> None:
    """Parts of any size teach what all rows teach at once, whole classes that come late and rows far from zero too."""
    x, target = _in_order(make)
    for dtype, offset in ((torch.float64, 0.0), (torch.float64, 1e6), (torch.float32, 0.0)):
        rows = (x + offset).to(dtype)
        density: Any = make()
        for part in _parts():
            assert density.partial_fit(rows[part], target[part]) is density, "partial_fit must return self"
        log_prob = density.log_prob(rows)
        assert log_prob.dtype == dtype, f"log_prob must have dtype {dtype}, got {log_prob.dtype}"
        tolerance = LABEL_TOLERANCE if dtype == torch.float64 else 1e-3
        assert_same_label(log_prob, make().fit(rows, target).log_prob(rows), f"of parts in {dtype}", tolerance)
        assert density.class_count_.tolist() == [40, 40, 40], f"rows must be counted, got {density.class_count_}"


def check_merge_equals_one_fit(make: Make) -> None:
    """Densities taught on partitions, merged in any tree, are the one taught on all rows."""
    x, target = _in_order(make)
    expected = make().fit(x, target, n_classes=4).log_prob(x)
    leaves: list[Any] = [_new(make).partial_fit(x[part], target[part], n_classes=4) for part in _parts()]
    left = _new(make).merge(leaves[0]).merge(leaves[1]).merge(leaves[2])
    right = leaves[3].merge(leaves[4].merge(leaves[5]))
    before = right.log_prob(x)
    merged = left.merge(right)
    right.partial_fit(x[:40] + 1, target[:40])  # nothing is shared
    assert_same_label(merged.log_prob(x)[:, :3], expected[:, :3], "of merged densities")
    assert bool((merged.log_prob(x)[:, 3] == -torch.inf).all()), "a class without a row must have -inf"
    assert bool(torch.isfinite(before[:, target[EDGES[3] :].unique()]).all()), "the other must answer, too"


def check_stream_goes_on_after_a_question_and_a_restart(make: Make) -> None:
    """A density answers for the rows so far; its state dict is all that another needs to go on."""
    x, target = _in_order(make)
    half = EDGES[3]
    first = _new(make).partial_fit(x[:half], target[:half])
    assert_same_label(first.log_prob(x), make().fit(x[:half], target[:half]).log_prob(x), "of half a stream")
    second = _new(make)
    second.load_state_dict(first.state_dict())
    second.partial_fit(x[half:], target[half:])
    assert_same_label(second.log_prob(x), make().fit(x, target).log_prob(x), "after a restart")
    second.fit(x[:half], target[:half])
    assert_same_label(second.log_prob(x), first.log_prob(x), "of a fit after a stream")


def check_partial_fit_refuses_what_does_not_go_on(make: Make) -> None:
    """Another width, fewer classes or rows that are not finite are a clear error, and change nothing."""
    x, target = _in_order(make)
    density = _new(make).partial_fit(x, target)
    expected = density.log_prob(x)
    assert_raises(ValueError, density.partial_fit, x[:, :1], target)
    assert_raises(ValueError, density.partial_fit, x, target, n_classes=2)
    assert_raises(ValueError, density.partial_fit, x / 0, target)
    assert_raises(ValueError, density.merge, _new(make).partial_fit(x[:, :1], target))
    assert_same_label(density.log_prob(x), expected, "after a refusal")
    assert_same_label(density.partial_fit(x[:0], target[:0]).log_prob(x), expected, "after a part without rows")


def _in_order(make: Make) -> tuple[Tensor, Tensor]:
    """Rows sorted by class, for a backend that learns from parts."""
    density: Any = make()
    if not (hasattr(density, "partial_fit") and getattr(density, "streamable", True)):
        raise SkipTest("the backend does not learn from parts")
    x, target = blobs()
    order = target.argsort(stable=True)
    return x[order], target[order]


def _new(make: Make) -> Any:
    """A density with `partial_fit`, which the contract of all densities does not ask for."""
    return make()


def _parts() -> list[slice]:
    return [slice(*edges) for edges in pairwise(EDGES)]
