"""What a backend makes of untidy rows: tied, doubled, one too large, one more, or with a class far away.

Each check is a claim that a backend may decline in the open, by its name in `Density.declines`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from torch import Tensor

from genlabel_plugins.scoring import classifier_accuracy
from genlabel_plugins.testing._assertions import (
    Make,
    assert_equivariant,
    assert_no_fall,
    assert_same_label,
    skip_if_declined,
)


def check_row_order_of_ties(make: Make) -> None:
    """`row_order_of_ties`: where rows of several classes are equal, their order does not matter either."""
    skip_if_declined(make, "row_order_of_ties")
    x, target = _classes(100, 2, n_classes=3, apart=1.5)
    x = x.round()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    density, shuffled = make().fit(x, target), make().fit(x[order], target[order])
    assert_equivariant(shuffled, shuffled.log_prob(x), density.log_prob(x))


def check_far_class(make: Make) -> None:
    """`far_class`: classes 10,000 standard deviations away leave the posterior of two others what it was."""
    skip_if_declined(make, "far_class")
    x, target = _classes(100, 2, n_classes=2, apart=3.0)
    without = make().fit(x, target)
    with_far = make().fit(torch.cat([x, x + 1e4]), torch.cat([target, target + 2]))  # the spread within is the same
    x_test, target_test = _classes(300, 2, n_classes=2, apart=3.0, seed=2)
    expected, log_prob = without.log_prob(x_test), with_far.log_prob(x_test)[:, :2]
    if without.exact:
        assert_same_label(log_prob, expected, "with classes far away", tolerance=0.02)
    assert_no_fall(_accuracy(expected, target_test), _accuracy(log_prob, target_test), "classes far away")


def check_sentinel(make: Make) -> None:
    """`sentinel`: with one value of 999999 the classifier is as good as quadratic discriminant analysis on the rows."""
    skip_if_declined(make, "sentinel")
    x, target = _classes(100, 5, n_classes=3, apart=1.5)
    x[0, 0] = 999_999.0
    x_test, target_test = _classes(300, 5, n_classes=3, apart=1.5, seed=2)
    reference = (
        QuadraticDiscriminantAnalysis().fit(x.numpy(), target.numpy()).score(x_test.numpy(), target_test.numpy())
    )
    log_prob = make().fit(x, target).log_prob(x_test)
    assert_no_fall(float(reference), _accuracy(log_prob, target_test), "a sentinel, where QDA is the measure")


def check_one_more_row(make: Make) -> None:
    """`one_more_row`: with one more row a class, about as many as there are features, accuracy does not fall."""
    skip_if_declined(make, "one_more_row")
    x_test, target_test = _classes(200, 10, n_classes=3, apart=2.0, seed=0)
    accuracy = []
    for n_rows in (10, 11, 12):
        draws = [_classes(n_rows, 10, n_classes=3, apart=2.0, seed=seed) for seed in range(1, 4)]
        accuracy.append(sum(_accuracy(make().fit(*rows).log_prob(x_test), target_test) for rows in draws) / 3)
    for fewer, more in pairwise(accuracy):
        assert_no_fall(fewer, more, "one more row a class")


def check_twins(make: Make) -> None:
    """`twins`: rows that come five times teach no more than once, and pure noise is not held to be learnable."""
    skip_if_declined(make, "twins")
    x, target = _classes(60, 3, n_classes=2, apart=2.0)
    x_test, target_test = _classes(300, 3, n_classes=2, apart=2.0, seed=2)
    once = _accuracy(make().fit(x, target).log_prob(x_test), target_test)
    five_times = make().fit(x.repeat(5, 1), target.repeat(5))
    assert_no_fall(once, _accuracy(five_times.log_prob(x_test), target_test), "five times the rows")
    noise = torch.randint(2, (len(x),), generator=torch.Generator().manual_seed(1))
    accuracy = classifier_accuracy(make(), x.repeat(5, 1), noise.repeat(5))
    assert accuracy < 0.65, f"on noise that comes five times the held-out accuracy must be near 0.5, got {accuracy}"


def _classes(n_rows: int, n_features: int, *, n_classes: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Round classes of variance one, `apart` along an axis each, in float64; more rows begin with the fewer."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_rows, n_classes, n_features, generator=generator, dtype=torch.float64)
    center = apart * torch.eye(n_classes, n_features, dtype=torch.float64)
    return (noise + center).transpose(0, 1).reshape(-1, n_features), torch.arange(n_classes).repeat_interleave(n_rows)


def _accuracy(log_prob: Tensor, target: Tensor) -> float:
    return float((log_prob.argmax(1) == target).double().mean())
