"""Running class statistics against a slow loop, and over two processes against one."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError
from torch import distributed as dist
from torch import multiprocessing

from genlabel_plugins import GenLabel, Relabeling, RunningGaussian


def _batches(n_batches=6, n_rows=20, n_classes=4, offset=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_batches):
        target = torch.randint(0, n_classes, (n_rows,), generator=generator)
        noise = torch.randn(n_rows, 3, generator=generator, dtype=torch.float64)
        yield (noise * (1 + target[:, None]) + target[:, None] + offset).to(dtype), target


def _slow_loop(batches, n_classes, beta):
    """Algorithm 3 as it is written: one class and one batch at a time, in numpy."""
    mean, variance = [None] * n_classes, [None] * n_classes
    for x, target in batches:
        for c in range(n_classes):
            rows = x[target == c].double().numpy()
            if len(rows) == 0:
                continue
            mean[c] = rows.mean(0) if mean[c] is None else (1 - beta) * rows.mean(0) + beta * mean[c]
            if len(rows) == 1:
                continue
            found = np.trace(np.cov(rows.T)) / rows.shape[1]
            variance[c] = found if variance[c] is None else (1 - beta) * found + beta * variance[c]
    return mean, variance


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("n_rows", [3, 20])
def test_running_statistics_equal_the_slow_loop(beta, n_rows):
    running = RunningGaussian(4, beta=beta)
    for x, target in _batches(n_rows=n_rows):
        running.update(x, target)
    mean, variance = _slow_loop(_batches(n_rows=n_rows), 4, beta)
    for c in range(4):
        if mean[c] is not None:
            np.testing.assert_allclose(running.mean_[c], mean[c], rtol=1e-12)
        np.testing.assert_allclose(running.variance_[c], math.nan if variance[c] is None else variance[c], rtol=1e-12)


def test_log_prob_is_that_of_spherical_gaussians():
    running = RunningGaussian(4)
    for x, target in _batches():
        running.update(x, target)
    x = torch.randn(9, 3, dtype=torch.float64)
    for c in range(4):
        expected = multivariate_normal(running.mean_[c], float(running.variance_[c]) * np.eye(3)).logpdf(x)
        np.testing.assert_allclose(running.log_prob(x)[:, c], expected, rtol=1e-10)


def test_float64_keeps_its_digits_at_an_offset():
    near, far = RunningGaussian(4), RunningGaussian(4)
    for x, target in _batches():
        near.update(x, target)
    for x, target in _batches(offset=1e6):
        far.update(x, target)
    x = torch.randn(9, 3, dtype=torch.float64)
    assert torch.allclose(far.variance_, near.variance_, rtol=1e-8)
    assert torch.allclose(far.log_prob(x + 1e6), near.log_prob(x), rtol=1e-7)


def test_an_absent_class_keeps_its_estimate():
    running = RunningGaussian(3, beta=0.5)
    x = torch.randn(9, 2)
    running.update(x, torch.arange(9) % 3)
    before = running.mean_[2].clone(), running.variance_[2].clone()
    running.update(x + 5, torch.arange(9) % 2)
    assert torch.equal(running.mean_[2], before[0])
    assert torch.equal(running.variance_[2], before[1])
    assert running.class_count_.tolist() == [8, 7, 3]


def test_a_class_never_seen_has_density_zero_and_one_row_borrows_a_variance():
    running = RunningGaussian(4)
    running.update(torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1, 2]))
    log_prob = running.log_prob(torch.zeros(5, 2, dtype=torch.float64))
    assert (log_prob[:, 3] == -torch.inf).all()
    borrowed = running.variance_[:2].mean()
    expected = multivariate_normal(running.mean_[2], float(borrowed) * np.eye(2)).logpdf(np.zeros(2))
    np.testing.assert_allclose(log_prob[:, 2], expected)


def test_rows_that_overflowed_do_not_stay_in_the_statistics():
    clean, spoilt = RunningGaussian(2), RunningGaussian(2)
    x, target = torch.randn(8, 3), torch.arange(8) % 2
    clean.update(x, target)
    broken = torch.cat([x, torch.full((1, 3), torch.inf), torch.full((1, 3), torch.nan)])
    spoilt.update(broken, torch.cat([target, torch.tensor([0, 1])]))
    assert torch.equal(spoilt.mean_, clean.mean_)
    assert torch.equal(spoilt.variance_, clean.variance_)
    assert spoilt.class_count_.tolist() == [4, 4]


def _classes(n_rows=400, n_classes=4, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n_rows) % n_classes
    return scale * (torch.randn(n_rows, 6, generator=generator) + 3 * target[:, None]), target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [1e6, -1e6, 1e30])
@pytest.mark.parametrize("n_outliers", [1, 3])
@pytest.mark.parametrize("n_before", [0, 1])
def test_absurd_rows_are_passed_over_and_counted(dtype, value, n_outliers, n_before):
    n_outliers = 1 if n_before == 0 else n_outliers  # the very first batch knows one outlier
    x, target = _classes()
    spoilt = x.clone()
    spoilt[:n_outliers] = value
    keep = torch.arange(len(x)) >= n_outliers
    running, clean = RunningGaussian(4), RunningGaussian(4)
    for _ in range(n_before):
        running.update(x.to(dtype), target)
        clean.update(x.to(dtype), target)
    running.update(spoilt.to(dtype), target)
    clean.update(x[keep].to(dtype), target[keep])
    torch.testing.assert_close(running.mean_, clean.mean_)
    torch.testing.assert_close(running.variance_, clean.variance_)
    assert torch.equal(running.class_count_, clean.class_count_)
    assert int(running.n_passed_over_) == n_outliers
    assert (running.log_prob(x).argmax(1) == target).float().mean() > 0.99
    running.forget()
    assert int(running.n_passed_over_) == 0


def test_no_row_of_heavy_tailed_classes_is_passed_over():
    # At a thousand standard deviations: of a million rows of one feature, none was, nor of a million of six features.
    generator = np.random.default_rng(0)
    running = RunningGaussian(4)
    for _ in range(200):
        target = torch.as_tensor(generator.integers(0, 4, 100))
        running.update(torch.as_tensor(generator.standard_t(2, (100, 6))) + target[:, None], target)
    assert int(running.n_passed_over_) == 0
    assert int(running.class_count_.sum()) == 20_000


def test_a_network_whose_features_jump_is_followed_at_once():
    running = RunningGaussian(4)
    running.update(*_classes())
    x, target = _classes(scale=1e5)
    running.update(x, target)
    fresh = RunningGaussian(4)
    fresh.update(x, target)
    torch.testing.assert_close(running.mean_, fresh.mean_)
    torch.testing.assert_close(running.variance_, fresh.variance_)
    assert int(running.n_passed_over_) == 0


def test_a_class_that_moved_alone_is_followed_and_a_lone_row_of_it_is_not():
    running = RunningGaussian(4)
    x, target = _classes()
    running.update(x, target)
    before = running.mean_.clone()
    lone = x.clone()[:8]
    lone[0] += 1e5
    running.update(lone[torch.arange(8) != 4], target[:8][torch.arange(8) != 4])  # the only row of class 0
    assert torch.equal(running.mean_[0], before[0])
    x[target == 0] += 1e5
    running.update(x, target)
    torch.testing.assert_close(running.mean_[0], x[target == 0].mean(0))
    assert int(running.n_passed_over_) == 1


def test_features_that_collapse_to_a_constant_leave_finite_labels_and_are_learnt_afresh():
    relabeling, (x, target) = Relabeling(4, gamma=0.5), _classes()
    y = torch.full((len(x), 4), 0.25)
    for rows in (torch.ones_like(x), torch.ones_like(x), x):
        relabeling.observe(rows, target)
        label = relabeling.label(rows, y, mixed=True)
        torch.testing.assert_close(label.sum(1), torch.ones(len(x)))
    fresh = RunningGaussian(4)
    fresh.update(x, target)
    torch.testing.assert_close(relabeling.relabeler.density.mean_, fresh.mean_)
    torch.testing.assert_close(relabeling.relabeler.density.variance_, fresh.variance_)


def test_a_thousand_classes_of_two_rows_each():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(2000) % 1000
    center = 10 * torch.randn(1000, 8, generator=generator, dtype=torch.float64)
    x = center[target] + 0.1 * torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    running = RunningGaussian(1000)
    running.update(x, target)
    pairs = x.view(2, 1000, 8)
    torch.testing.assert_close(running.mean_, pairs.mean(0))
    torch.testing.assert_close(running.variance_, pairs.var(0).mean(1))
    assert int(running.n_passed_over_) == 0
    spread = GenLabel(running).posterior(x)
    torch.testing.assert_close(spread.sum(1), torch.ones(2000, dtype=torch.float64))
    assert (spread.argmax(1) == target).double().mean() > 0.99


def test_a_batch_without_rows_changes_nothing():
    running, (x, target) = RunningGaussian(4), _classes()
    running.update(x, target)
    before = {name: value.clone() for name, value in running.state_dict().items()}
    running.update(x[:0], target[:0])
    assert all(torch.equal(value, before[name]) for name, value in running.state_dict().items())
    assert running.log_prob(x[:0]).shape == (0, 4)


def test_a_class_that_vanishes_for_an_epoch_comes_back():
    running, (x, target) = RunningGaussian(4), _classes()
    running.update(x, target)
    others = target != 3
    for _ in range(50):
        running.update(x[others], target[others])
    assert (running.log_prob(x).argmax(1) == target).float().mean() > 0.99
    assert int(running.class_count_[3]) == 100


def test_half_precision_features_make_float32_statistics():
    running = RunningGaussian(2)
    running.update(torch.randn(8, 3).half(), torch.arange(8) % 2)
    assert running.mean_.dtype == torch.float32
    assert running.half().mean_.dtype == torch.float32
    assert torch.isfinite(running.log_prob(torch.randn(2, 3).half())).all()


def test_features_are_flattened_and_fit_forgets():
    running = RunningGaussian(2)
    x, target = torch.randn(8, 3, 1, 1), torch.arange(8) % 2
    running.update(torch.randn(8, 5), target)
    running.fit(x, target)
    assert torch.equal(running.mean_, RunningGaussian(2).fit(x.flatten(1), target).mean_)


def test_fit_refuses_options_that_it_does_not_have_and_another_number_of_classes():
    x, target = torch.randn(8, 3), torch.arange(8) % 2
    assert torch.equal(RunningGaussian(2).fit(x, target, n_classes=2).class_count_, torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="n_classes must be 2, as the statistics were made for, got 3"):
        RunningGaussian(2).fit(x, target, n_classes=3)
    with pytest.raises(TypeError, match="gamma"):
        RunningGaussian(2).fit(x, target, gamma=0.5)


def test_state_dict_round_trip():
    running = RunningGaussian(4)
    for x, target in _batches():
        running.update(x, target)
    fresh = RunningGaussian(4)
    fresh.load_state_dict(running.state_dict())
    x, target = next(_batches())
    running.update(x, target)
    fresh.update(x, target)
    assert torch.equal(fresh.log_prob(x), running.log_prob(x))


def test_errors_name_the_value():
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\], got 1.5"):
        RunningGaussian(2, beta=1.5)
    with pytest.raises(NotFittedError, match="seen no batch"):
        RunningGaussian(2).log_prob(torch.zeros(1, 2))


def _spoilt_batches():
    for step, (x, target) in enumerate(_batches()):
        if step % 2 == 0:
            x[step] = 1e7  # is passed over, on whichever rank it is
        yield x, target


def _update_on_a_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    running = RunningGaussian(4, beta=0.7)
    for x, target in _spoilt_batches():
        share = slice(0, 13) if rank == 0 else slice(13, 20)  # uneven
        running.update(x[share], target[share])
    torch.save(running.state_dict(), f"{folder}/{rank}.pt")
    dist.barrier()  # gloo of torch 2.6 hangs where one rank leaves first
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    multiprocessing.spawn(_update_on_a_rank, (str(tmp_path),), nprocs=2)
    running = RunningGaussian(4, beta=0.7)
    for x, target in _spoilt_batches():
        running.update(x, target)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), dict(running.state_dict()))
