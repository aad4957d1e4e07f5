"""Properties that hold for any input, each tried on 200 of them."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genlabel_plugins import GenLabel, RunningGaussian, blend, class_posterior, make_backend
from genlabel_plugins.densities._moments import class_moments
from genlabel_plugins.densities._temperature import COLDEST, HOTTEST, best_temperature

pytestmark = pytest.mark.slow

settings.register_profile("two hundred", max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("two hundred")

BACKENDS = pytest.mark.parametrize("name", ["gm", "kde", "nn"])
ANY_FLOAT = st.floats(width=64, allow_nan=True, allow_infinity=True)
SHAPE = st.tuples(st.integers(1, 6), st.integers(1, 5))


def _tensors(elements, shape=SHAPE):
    return arrays(np.float64, shape, elements=elements).map(torch.as_tensor)


LOG_PROB = _tensors(st.floats(-1e4, 1e4))
WILD = _tensors(ANY_FLOAT)
GAMMA = st.floats(0, 1)
TEMPERATURE = st.floats(0.01, 100)
SEED = st.integers(0, 2**31 - 1)


class Given:
    """A backend whose log-densities are its inputs."""

    def fit(self, x, target):
        return self

    def log_prob(self, x):
        return x


def _labels(shape):
    """Soft labels that differ from row to row."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).add(0.01).softmax(1)


def _sums_to_one(y):
    return bool(torch.isfinite(y).all()) and torch.allclose(y.sum(1), torch.ones_like(y[:, 0]))


# The posterior


@given(WILD)
def test_posterior_rows_sum_to_one_whatever_the_log_densities(log_prob):
    assert _sums_to_one(GenLabel(Given()).posterior(log_prob))


@given(WILD, st.integers(1, 5), TEMPERATURE)
def test_posterior_rows_sum_to_one_under_every_option(log_prob, top_k, temperature):
    assert _sums_to_one(GenLabel(Given(), top_k=top_k, temperature=temperature).posterior(log_prob))


@given(LOG_PROB)
def test_posterior_lies_between_zero_and_one(log_prob):
    y = class_posterior(log_prob)
    assert bool(((y >= 0) & (y <= 1)).all())


@given(LOG_PROB, st.floats(-1e3, 1e3))
def test_posterior_ignores_a_constant_of_the_row(log_prob, constant):
    assert torch.allclose(class_posterior(log_prob + constant), class_posterior(log_prob), atol=1e-8)


@given(LOG_PROB, st.randoms())
def test_posterior_permutes_with_the_classes(log_prob, random):
    order = list(range(log_prob.shape[1]))
    random.shuffle(order)
    assert torch.allclose(class_posterior(log_prob[:, order]), class_posterior(log_prob)[:, order], atol=1e-12)


@given(LOG_PROB)
def test_posterior_keeps_the_order_of_the_densities(log_prob):
    y = class_posterior(log_prob)
    assert torch.equal(y.gather(1, log_prob.argmax(1, keepdim=True)).squeeze(1), y.max(1).values)


@given(LOG_PROB)
def test_uniform_priors_change_nothing(log_prob):
    uniform = torch.full((log_prob.shape[1],), 1 / log_prob.shape[1], dtype=torch.float64).log()
    assert torch.allclose(class_posterior(log_prob, uniform), class_posterior(log_prob), atol=1e-12)


@given(LOG_PROB, st.data())
def test_equal_densities_give_the_prior(log_prob, data):
    n_classes = log_prob.shape[1]
    prior = data.draw(arrays(np.float64, n_classes, elements=st.floats(0.01, 10)))
    y = GenLabel(Given(), priors=prior).posterior(torch.zeros_like(log_prob))
    assert torch.allclose(y, torch.as_tensor(prior / prior.sum()).expand_as(y))


@given(LOG_PROB, st.data())
def test_priors_are_known_up_to_a_factor(log_prob, data):
    prior = data.draw(arrays(np.float64, log_prob.shape[1], elements=st.floats(0.01, 10)))
    y = GenLabel(Given(), priors=prior).posterior(log_prob)
    assert torch.allclose(y, GenLabel(Given(), priors=prior * 7).posterior(log_prob), atol=1e-12)


@given(LOG_PROB, st.integers(0, 4))
def test_a_class_of_prior_zero_gets_nothing(log_prob, c):
    assume(log_prob.shape[1] > 1)
    prior = torch.ones(log_prob.shape[1])
    prior[c % len(prior)] = 0
    y = GenLabel(Given(), priors=prior).posterior(log_prob)
    assert _sums_to_one(y)
    assert (y[:, c % len(prior)] == 0).all()


@given(LOG_PROB, TEMPERATURE)
def test_temperature_equals_scaled_log_densities(log_prob, temperature):
    assert torch.allclose(class_posterior(log_prob, temperature=temperature), class_posterior(log_prob / temperature))


@given(LOG_PROB, TEMPERATURE)
def test_temperature_leaves_the_decision_alone(log_prob, temperature):
    y = class_posterior(log_prob, temperature=temperature)
    assert torch.equal(y.gather(1, log_prob.argmax(1, keepdim=True)).squeeze(1), y.max(1).values)


@given(LOG_PROB)
def test_a_higher_temperature_softens(log_prob):
    cold, hot = class_posterior(log_prob, temperature=1.0), class_posterior(log_prob, temperature=3.0)
    assert bool((hot.max(1).values <= cold.max(1).values + 1e-12).all())


@given(LOG_PROB, st.integers(1, 5))
def test_top_k_leaves_k_classes(log_prob, top_k):
    assert bool(((class_posterior(log_prob, top_k=top_k) > 0).sum(1) <= top_k).all())


@given(LOG_PROB, st.integers(1, 5))
def test_top_k_keeps_the_ratios_of_those_it_keeps(log_prob, top_k):
    y, kept = class_posterior(log_prob), class_posterior(log_prob, top_k=top_k)
    masked = torch.where(kept > 0, y, 0.0)
    assert torch.allclose(masked / masked.sum(1, keepdim=True), kept, atol=1e-9)


@given(LOG_PROB)
def test_top_k_of_all_classes_is_no_top_k(log_prob):
    assert torch.equal(class_posterior(log_prob, top_k=log_prob.shape[1]), class_posterior(log_prob))


# The blend


@given(LOG_PROB)
def test_blend_is_exact_at_both_ends_for_any_values(y_mix):
    y_gen = y_mix.flip(0) * 3
    assert torch.equal(blend(y_mix, y_gen, 0.0), y_mix)
    assert torch.equal(blend(y_mix, y_gen, 1.0), y_gen)
    ends = torch.arange(len(y_mix)) % 2
    assert torch.equal(blend(y_mix, y_gen, ends), torch.where(ends[:, None] == 1, y_gen, y_mix))


@given(SHAPE, GAMMA)
def test_blend_of_labels_is_a_label(shape, gamma):
    y_mix = _labels(shape)
    y = blend(y_mix, y_mix.flip(0), gamma)
    assert _sums_to_one(y)
    assert bool((y >= 0).all())


@given(SHAPE, GAMMA, GAMMA)
def test_more_gamma_is_never_further_from_the_posterior(shape, a, b):
    y_mix = _labels(shape)
    y_gen = y_mix.flip(0)
    low, high = ((blend(y_mix, y_gen, gamma) - y_gen).abs().sum(1) for gamma in (min(a, b), max(a, b)))
    assert bool((high <= low + 1e-12).all())


@given(SHAPE, GAMMA)
def test_blend_of_a_label_with_itself_is_the_label(shape, gamma):
    y = _labels(shape)
    assert torch.allclose(blend(y, y, gamma), y, atol=1e-15)


@given(SHAPE, st.data())
def test_gamma_per_row_blends_each_row_alone(shape, data):
    y_mix = _labels(shape)
    y_gen = y_mix.flip(0)
    gamma = torch.as_tensor(data.draw(arrays(np.float64, shape[0], elements=GAMMA)))
    rows = [blend(y_mix[i : i + 1], y_gen[i : i + 1], float(gamma[i])) for i in range(shape[0])]
    assert torch.allclose(blend(y_mix, y_gen, gamma), torch.cat(rows), atol=1e-14)


# The relabeler


@given(WILD, GAMMA)
def test_relabeled_rows_sum_to_one_whatever_the_log_densities(log_prob, gamma):
    assert _sums_to_one(GenLabel(Given(), gamma=gamma).relabel(log_prob, _labels(log_prob.shape)))


@given(WILD)
def test_rows_without_evidence_keep_their_label_and_are_counted(log_prob):
    y_mix = _labels(log_prob.shape)
    genlabel = GenLabel(Given())
    y = genlabel.relabel(log_prob, y_mix)
    silent = log_prob.isnan().any(1) | (log_prob == torch.inf).any(1) | (log_prob == -torch.inf).all(1)
    assert torch.equal(y[silent], y_mix[silent])
    assert genlabel.n_fallback_ == silent.sum()


@given(WILD, GAMMA)
def test_a_row_is_relabeled_alike_in_any_batch(log_prob, gamma):
    y_mix = _labels(log_prob.shape)
    genlabel = GenLabel(Given(), gamma=gamma)
    alone = torch.cat([genlabel.relabel(log_prob[i : i + 1], y_mix[i : i + 1]) for i in range(len(y_mix))])
    assert torch.allclose(genlabel.relabel(log_prob, y_mix), alone, atol=1e-12)


@given(WILD)
def test_gamma_zero_returns_the_label_bit_for_bit(log_prob):
    y_mix = _labels(log_prob.shape)
    assert torch.equal(GenLabel(Given(), gamma=0.0).relabel(log_prob, y_mix), y_mix)


@given(_tensors(st.floats(-50, 50)), SEED)
def test_the_best_temperature_is_no_worse_than_its_neighbors(score, seed):
    target = torch.randint(0, score.shape[1], (len(score),), generator=torch.Generator().manual_seed(seed))
    best = best_temperature(iter([(score, target)]))
    losses = [
        float(torch.nn.functional.cross_entropy(score / t, target))
        for t in (best, max(best * 0.9, COLDEST), min(best * 1.1, HOTTEST))
    ]
    assert losses[0] <= min(losses) + 1e-9


# Moments and running statistics


def _rows(seed, n_rows, n_features, n_classes):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, n_classes, (n_rows,), generator=generator)


ROWS = st.builds(_rows, SEED, st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))


@given(ROWS)
def test_moments_equal_numpy(rows):
    x, target = rows
    found = class_moments(x, target, 4)
    for c in range(4):
        block = x[target == c].numpy()
        assert found.class_count[c] == len(block)
        if len(block):
            centered = block - block.mean(0)
            np.testing.assert_allclose(found.mean[c], block.mean(0), atol=1e-12)
            np.testing.assert_allclose(found.scatter[c], centered.T @ centered, atol=1e-11)


@given(ROWS)
def test_the_diagonal_of_the_scatter_is_the_diagonal_scatter(rows):
    full, diagonal = class_moments(*rows, 4), class_moments(*rows, 4, diagonal=True)
    assert torch.allclose(full.scatter.diagonal(dim1=1, dim2=2), diagonal.scatter, atol=1e-11)


@given(ROWS, st.floats(0, 1), SEED)
def test_running_statistics_do_not_depend_on_the_order_of_rows(rows, beta, seed):
    x, target = rows
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    a, b = RunningGaussian(4, beta=beta), RunningGaussian(4, beta=beta)
    for _ in range(2):
        a.update(x, target)
        b.update(x[order], target[order])
    assert torch.allclose(a.mean_, b.mean_, atol=1e-12)
    assert torch.allclose(a.variance_, b.variance_, atol=1e-12, equal_nan=True)


@given(ROWS, st.floats(0, 1))
def test_running_statistics_are_those_of_the_batch_when_all_batches_are_equal(rows, beta):
    x, target = rows
    running = RunningGaussian(4, beta=beta)
    for _ in range(3):
        running.update(x, target)
    assert torch.allclose(running.mean_, class_moments(x, target, 4).mean, atol=1e-12)


@given(ROWS)
def test_running_statistics_without_memory_are_those_of_the_last_batch(rows):
    x, target = rows
    running = RunningGaussian(4, beta=0.0)
    running.update(x * 3 + 1, target)
    running.update(x, target)
    assert torch.allclose(running.mean_, class_moments(x, target, 4).mean, atol=1e-12)


@given(ROWS, _tensors(ANY_FLOAT, st.tuples(st.integers(1, 5), st.just(4))))
def test_running_statistics_survive_any_rows(rows, wild):
    x, target = rows
    running = RunningGaussian(4).fit(torch.nn.functional.pad(x, (0, 4 - x.shape[1])), target)
    before = running.mean_.clone()
    assume(bool(((wild.abs() < 1e100) | ~torch.isfinite(wild)).all()))
    running.update(wild, torch.zeros(len(wild), dtype=torch.long))
    assert torch.isfinite(running.mean_).all()
    assert torch.equal(running.mean_[1:], before[1:])


# Backends


def _fitted(name, seed, *, n_classes=3, scale=1.0, offset=0.0, order=None):
    x, target = _rows(seed, 24, 2, n_classes)
    target[:n_classes] = torch.arange(n_classes)
    x = (x + 2 * target[:, None]) * scale + offset
    return make_backend(name).fit(x if order is None else x[order], target if order is None else target[order]), x


@pytest.mark.filterwarnings("ignore::UserWarning")
@BACKENDS
@given(seed=SEED, batch=_tensors(ANY_FLOAT, st.tuples(st.integers(1, 5), st.just(2))))
def test_labels_of_a_backend_are_labels_at_any_rows(name, seed, batch):
    density, _ = _fitted(name, seed)
    assert _sums_to_one(GenLabel(density).relabel(batch, _labels((len(batch), 3))))


@pytest.mark.filterwarnings("ignore::UserWarning")
@BACKENDS
@given(seed=SEED, batch=_tensors(st.floats(-1e6, 1e6), st.tuples(st.integers(1, 5), st.just(2))))
def test_log_densities_are_finite_at_finite_rows(name, seed, batch):
    density, _ = _fitted(name, seed)
    assert torch.isfinite(density.log_prob(batch)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@BACKENDS
@given(seed=SEED, scale=st.floats(1e-6, 1e6), offset=st.floats(-1e3, 1e3))
def test_labels_do_not_depend_on_units(name, seed, scale, offset):
    density, x = _fitted(name, seed)
    moved, moved_x = _fitted(name, seed, scale=scale, offset=offset * scale)
    y = GenLabel(density).posterior((x + x.flip(0)) / 2)
    assert torch.allclose(y, GenLabel(moved).posterior((moved_x + moved_x.flip(0)) / 2), atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@BACKENDS
@given(seed=SEED, shuffle=SEED)
def test_the_order_of_rows_does_not_matter(name, seed, shuffle):
    order = torch.randperm(24, generator=torch.Generator().manual_seed(shuffle))
    density, x = _fitted(name, seed)
    shuffled, _ = _fitted(name, seed, order=order)
    assert torch.allclose(density.log_prob(x * 2), shuffled.log_prob(x * 2), rtol=1e-6, atol=1e-6)


@given(seed=SEED, times=st.integers(2, 4))
def test_a_gaussian_of_repeated_rows_is_that_of_the_rows(seed, times):
    x, target = _rows(seed, 24, 2, 1)
    repeated = make_backend("gm").fit(x.repeat(times, 1), target.repeat(times))
    assert torch.allclose(repeated.log_prob(x), make_backend("gm").fit(x, target).log_prob(x), atol=1e-8)


@given(seed=SEED)
def test_a_gaussian_is_highest_at_its_mean(seed):
    x, target = _rows(seed, 24, 2, 1)
    density = make_backend("gm").fit(x, target)
    assert bool((density.log_prob(x.mean(0, keepdim=True)) >= density.log_prob(x)).all())


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(seed=SEED)
def test_a_kernel_density_is_never_above_its_own_peak(seed):
    density, x = _fitted("kde", seed)
    far = x + 100
    assert bool((density.log_prob(far).max(0).values < density.log_prob(x).max(0).values).all())


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(seed=SEED)
def test_a_nearest_neighbor_density_falls_with_the_distance(seed):
    density, x = _fitted("nn", seed)
    direction = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    ray = x.max() + direction * torch.arange(1, 9, dtype=torch.float64)[:, None]
    assert bool((density.log_prob(ray).diff(dim=0) < 0).all())
