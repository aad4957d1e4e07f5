"""Tables and epochs: what a set of weighted rows is, and how often training visits each of them."""

import numpy as np
import pytest
import torch
from scipy import stats

from genlabel_plugins.selection._epochs import Epochs
from genlabel_plugins.selection._training_table import TrainingTable, systematic_sample


def rows(n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, dtype=torch.float64, generator=generator) * torch.tensor([1.0, 1e6, 1e-6]) + 5
    return x, torch.arange(n) % 3, torch.rand(n, dtype=torch.float64, generator=generator) + 0.1


def epochs(n_rows, batch_size, **options):
    return Epochs(n_rows, batch_size, options.pop("alpha", 1.0), torch.Generator().manual_seed(3), **options)


@pytest.mark.parametrize("weighing", ["none", "whole", "relative"])
def test_the_order_of_rows_does_not_matter(weighing):
    x, target, weight = rows()
    weight = {"none": None, "whole": (3 * weight).round(), "relative": weight}[weighing]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    class_weight = torch.tensor([1.0, 2.0, 0.5])
    here = TrainingTable.of(x, target, weight, class_weight)
    there = TrainingTable.of(x[order], target[order], None if weight is None else weight[order], class_weight)
    for a, b in zip(here, there, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_whole_weights_repeat_rows_and_zero_leaves_out():
    x, target, weight = rows()
    count = (3 * weight).round().long()
    assert (count == 0).any()
    assert (count > 1).any()
    for a, b in zip(
        TrainingTable.of(x, target, count),
        TrainingTable.of(*(t.repeat_interleave(count, 0) for t in (x, target))),
        strict=True,
    ):
        assert (a is None and b is None) or torch.equal(a, b)


def test_rows_are_standardised_and_constants_stay():
    x, target, _ = rows()
    x[:, 1] = 7.3
    table = TrainingTable.of(x, target)
    np.testing.assert_allclose(table.x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(table.x.std(0, correction=0), [1, 0, 1], atol=1e-6)
    assert torch.equal(table.standardize(x).sort(0).values, table.x.sort(0).values)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e155, 1e300])
def test_no_unit_is_too_large_or_too_small(size):
    x, target, _ = rows()
    table = TrainingTable.of(size * x, target)
    np.testing.assert_allclose(table.x, TrainingTable.of(x, target).x, atol=1e-6)


def test_no_row_of_positive_weight_is_refused():
    x, target, _ = rows()
    with pytest.raises(ValueError, match="at least one row, got none"):
        TrainingTable.of(x, target, torch.zeros(40))


def test_systematic_sample_rounds_expected_counts():
    weight = torch.cat([rows()[2], torch.zeros(10)])[torch.randperm(50, generator=torch.Generator().manual_seed(2))]
    expected = 50 * weight / weight.sum()
    total = torch.zeros(50)
    for step in range(100):
        drawn = systematic_sample(weight, step / 100)
        count = torch.bincount(drawn, minlength=50)
        assert len(drawn) == 50
        assert ((count == expected.floor()) | (count == expected.ceil())).all()
        assert (count[weight == 0] == 0).all()
        total += count
    np.testing.assert_allclose(total / 100, expected, atol=0.011)  # the grid of offsets has 100 points


def test_rounding_does_not_break_a_tie():
    weight = torch.linspace(0.5, 1.5, 178, dtype=torch.float64)  # symmetric, so that sums meet the grid
    expected = systematic_sample(weight, 0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # as where a GPU adds in another order
        noise = torch.randn(178, dtype=torch.float64, generator=generator)
        assert torch.equal(systematic_sample(weight * (1 + 3e-16 * noise), 0.5), expected)


@pytest.mark.parametrize(("n_rows", "batch_size"), [(7, 3), (8, 4), (5, 9), (100, 32), (129, 128)])
def test_an_epoch_visits_each_row_once_in_batches_of_nearly_one_size(n_rows, batch_size):
    draws = epochs(n_rows, batch_size).draw(3)
    n_steps = -(-n_rows // batch_size)
    for epoch in range(3):
        part = draws.steps(epoch * n_steps, (epoch + 1) * n_steps)
        kept = part.weight > 0
        assert part.rows[kept].sort().values.tolist() == list(range(n_rows))
        sizes = kept.sum(1)
        assert sizes.max() <= batch_size
        assert sizes.max() - sizes.min() <= 1
        np.testing.assert_allclose(part.weight.sum(1), 1, atol=1e-6)
        for partner, n in zip(part.partner.tolist(), sizes.tolist(), strict=True):
            assert sorted(partner[:n]) == list(range(n))  # a permutation, and padding meets padding
            assert partner[n:] == list(range(n, len(partner)))


def test_draws_do_not_depend_on_how_many_epochs_come_at_a_time():
    share = rows()[2]
    at_once, one_by_one = epochs(40, 16, share=share), epochs(40, 16, share=share)
    together = at_once.draw(4)
    apart = [one_by_one.draw(n) for n in (1, 2, 1)]
    for a, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert torch.equal(a, torch.cat(parts))


def test_epochs_visit_rows_as_often_as_they_weigh():
    share = torch.tensor([1.0, 1.0, 2.0, 4.0, 0.0])
    draws = epochs(5, 5, share=share).draw(400)
    count = torch.bincount(draws.rows.flatten(), minlength=5) / 400
    np.testing.assert_allclose(count, 5 * share / 8, atol=0.08)
    assert count[4] == 0


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_lam_is_beta_and_partners_are_uniform(alpha):
    draws = epochs(4, 4, alpha=alpha).draw(2000)
    assert stats.kstest(draws.lam.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    orders = np.unique(draws.partner.numpy(), axis=0, return_counts=True)[1]
    assert len(orders) == 24
    assert stats.chisquare(orders).pvalue > 0.01
