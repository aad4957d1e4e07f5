"""Densities learnt part by part against one fit, numpy and scipy; over processes; saved half-way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, multivariate_normal
from torch import distributed as dist
from torch import multiprocessing

from genlabel_plugins import GenLabel, RunningGaussian, load, make_backend, save
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_plugins.densities.backends.mixed_types import encode_rows
from genlabel_plugins.densities.streaming import StreamingDensity
from genlabel_plugins.testing import check_relabeler

GAUSSIANS = {
    "full": {},
    "tied": {"covariance_type": "tied"},
    "diag": {"covariance_type": "diag"},
    "spherical": {"covariance_type": "spherical"},
    "oracle": {"shrinkage": 0.0, "reg_covar": 0.0},
    "half": {"shrinkage": 0.5},
}


def _table(n_rows=900, n_features=4, offset=0.0, dtype=torch.float64):
    """Three classes of unequal size and spread, in order, so that they drift through the stream."""
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([0, 0, 0, 1, 1, 2])[torch.randint(6, (n_rows,), generator=generator)].sort().values
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64) @ torch.randn(
        n_features, n_features, generator=generator, dtype=torch.float64
    )
    x = x * (1 + target[:, None]) + 2 * target[:, None] + offset
    return x.to(dtype), target


def _parts(n_rows, n_parts=7):
    return [slice(*edges) for edges in pairwise(np.linspace(0, n_rows, n_parts + 1).astype(int).tolist())]


@pytest.mark.parametrize("options", GAUSSIANS.values(), ids=GAUSSIANS)
@pytest.mark.parametrize(("n_rows", "n_features"), [(900, 4), (60, 20)])  # moments, and rows that are too few for them
def test_parts_of_gaussians_equal_one_fit_to_rounding(options, n_rows, n_features):
    if options.get("reg_covar") == 0.0 and n_rows < 100:
        options = {**options, "reg_covar": 1e-3}
    for offset, tolerance in ((0.0, 1e-9), (1e8, 1e-4)):  # 1e8 in float64 leaves eight digits to a row itself
        x, target = _table(n_rows, n_features, offset)
        gm, merged = make_backend("gm", **options), make_backend("gm", **options)
        for part in _parts(n_rows):
            gm.partial_fit(x[part], target[part])
            merged.merge(make_backend("gm", **options).partial_fit(x[part], target[part]))
        expected = make_backend("gm", **options).fit(x, target).log_prob(x)
        torch.testing.assert_close(gm.log_prob(x), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(merged.log_prob(x), expected, rtol=tolerance, atol=tolerance)


def test_parts_reach_the_fit_of_a_subclass():
    class Doubled(GaussianMixture):
        def _fit(self, x, target, generator):
            super()._fit(torch.cat([x, -x]), target.repeat(2), generator)

    x, target = _table()
    gm = Doubled()
    for part in _parts(len(x)):
        gm.partial_fit(x[part], target[part])
    torch.testing.assert_close(gm.log_prob(x), Doubled().fit(x, target).log_prob(x))
    assert not torch.allclose(gm.log_prob(x), GaussianMixture().fit(x, target).log_prob(x))


def test_parts_of_gaussians_are_those_of_scipy_in_float32_far_from_zero_too():
    x, target = _table(offset=1e4, dtype=torch.float32)
    gm = make_backend("gm", shrinkage=0.0, reg_covar=0.0)
    for part in _parts(len(x), 50):
        gm.partial_fit(x[part], target[part])
    for c in range(3):
        rows = x[target == c].double().numpy()
        expected = multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True)).logpdf(x.double())
        np.testing.assert_allclose(gm.log_prob(x)[:, c], expected, rtol=1e-3, atol=2e-2)


def test_units_at_the_ends_of_float64_stay_within_it():
    x, target = _table()
    expected = make_backend("gm").fit(x, target).log_prob(x)
    for unit in (1e-120, 1e120):
        gm = make_backend("gm")
        for part in _parts(len(x)):
            gm.partial_fit(x[part] * unit, target[part])
        shift = 4 * np.log(unit)
        torch.testing.assert_close(gm.log_prob(x * unit) + shift, expected, rtol=1e-8, atol=1e-8)


def test_integers_that_float32_would_round_make_the_whole_stream_float64():
    x = torch.tensor([[1], [2], [3], [2**24 + 1], [2**24 + 3], [2**24 + 7]])
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    gm = make_backend("gm").partial_fit(x[:3], target[:3]).partial_fit(x[3:], target[3:])
    expected = make_backend("gm").fit(x, target).log_prob(x)
    assert gm.log_prob(x).dtype == expected.dtype == torch.float64
    torch.testing.assert_close(gm.log_prob(x), expected, rtol=1e-9, atol=1e-9)


def _mixed_table():
    x, target = _table(400, 2)
    generator = torch.Generator().manual_seed(1)
    codes = torch.stack([torch.randint(k, (400,), generator=generator) for k in (3, 2)], 1)
    return encode_rows(x, codes, [3, 2]), target


@pytest.mark.parametrize("continuous", ["gm", "kde"])
def test_parts_of_mixed_tables_equal_one_fit(continuous):
    x, target = _mixed_table()
    options = {"cardinality": [3, 2], "continuous": continuous}
    mixed, merged = make_backend("mixed_types", **options), make_backend("mixed_types", **options)
    for part in _parts(len(x)):
        mixed.partial_fit(x[part], target[part], n_classes=4)
        merged.merge(make_backend("mixed_types", **options).partial_fit(x[part], target[part], n_classes=4))
    expected = make_backend("mixed_types", **options).fit(x, target, n_classes=4).log_prob(x)
    torch.testing.assert_close(mixed.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(merged.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    codes_alone = make_backend("mixed_types", cardinality=[3, 2])
    for part in _parts(len(x)):
        codes_alone.partial_fit(x[part, 2:], target[part])
    expected = make_backend("mixed_types", cardinality=[3, 2]).fit(x[:, 2:], target).log_prob(x[:, 2:])
    torch.testing.assert_close(codes_alone.log_prob(x[:, 2:]), expected)


def test_a_reservoir_is_a_uniform_sample_of_each_class_and_the_counts_are_of_all_rows():
    hits = np.zeros(40)
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        nearest = make_backend("nn", reservoir=10)
        for part in _parts(40, 3):
            rows = torch.arange(40.0)[part, None]
            nearest.partial_fit(rows, (rows[:, 0] >= 20).long(), n_classes=2, generator=generator)
        kept = nearest.stream_rows_.long().squeeze(1).numpy()
        assert np.bincount(kept >= 20).tolist() == [10, 10]
        hits[kept] += 1
    assert chisquare(hits).pvalue > 0.001
    assert nearest.log_prob(torch.zeros(1, 1)).shape == (1, 2)
    assert nearest.class_count_.tolist() == [20, 20]  # priors="empirical" are those of all rows


@pytest.mark.parametrize("name", ["kde", "nn"])
def test_a_reservoir_is_reproducible_and_costs_little(name):
    x, target = _table(6000, 2)

    def learnt(seed):
        density = make_backend(name, reservoir=500)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for part in _parts(len(x)):
            density.partial_fit(x[part], target[part], generator=generator)
        return density.log_prob(x)

    assert torch.equal(learnt(None), learnt(None))
    assert torch.equal(learnt(1), learnt(1))
    assert not torch.equal(learnt(1), learnt(2))
    whole = make_backend(name).fit(x, target).log_prob(x)
    accuracy, of_whole = ((each.argmax(1) == target).double().mean() for each in (learnt(1), whole))
    assert accuracy > of_whole - (0.02 if name == "kde" else 0.25)  # nn knows each of its training rows by heart


def test_a_half_learnt_density_is_saved_loaded_and_goes_on(tmp_path):
    x, target = _table()
    for density in (make_backend("gm"), make_backend("kde", reservoir=200)):
        density.partial_fit(x[:500], target[:500])
        save(GenLabel(density), tmp_path / "half.safetensors")
        again = load(tmp_path / "half.safetensors", GenLabel).density
        assert torch.equal(again.log_prob(x), density.log_prob(x))
        for each in (density, again):
            each.partial_fit(x[500:], target[500:])
        assert torch.equal(again.log_prob(x), density.log_prob(x))


def test_sums_keep_their_precision_when_the_densities_are_cast():
    x, target = _table(dtype=torch.float32, offset=1e4)
    gm = make_backend("gm").partial_fit(x[:500], target[:500])
    gm.log_prob(x)  # fitted, and so cast to the dtype of the rows
    gm.float().half().partial_fit(x[500:], target[500:])
    assert gm.stream_scatter_.dtype == torch.float64
    expected = make_backend("gm").fit(x, target).log_prob(x)
    torch.testing.assert_close(gm.log_prob(x), expected, rtol=1e-3, atol=2e-2)


def test_what_does_not_go_on_is_refused_in_one_sentence():
    x, target = _table(100)
    gm = make_backend("gm").partial_fit(x, target)
    with pytest.raises(ValueError, match="same options, got covariance_type='full' and 'tied'"):
        gm.merge(make_backend("gm", covariance_type="tied").partial_fit(x, target))
    with pytest.raises(ValueError, match="merge takes a GaussianMixture, got a KernelDensity"):
        gm.merge(make_backend("kde").partial_fit(x, target))
    with pytest.raises(ValueError, match="learnt by fit, which keeps no state"):
        make_backend("gm").fit(x, target).partial_fit(x, target)
    with pytest.raises(ValueError, match="learnt by fit, which keeps no state"):
        gm.merge(make_backend("gm").fit(x, target))
    with pytest.raises(ValueError, match="n_classes must be at least the 3 of the parts before, got 2"):
        gm.partial_fit(x, target.clamp(max=1), n_classes=2)
    with pytest.raises(ValueError, match="have the 4 features of the parts before, got 3"):
        gm.partial_fit(x[:, :3], target)
    for options in ({"n_components": 2}, {"shrinkage": "ledoit_wolf"}):
        with pytest.raises(ValueError, match="partial_fit goes with n_components=1 and shrinkage 'auto' or a number"):
            make_backend("gm", **options).partial_fit(x, target)
    with pytest.raises(ValueError, match="has no partial_fit, got 'flow'"):
        make_backend("mixed_types", continuous="flow").partial_fit(x, target)
    with pytest.raises(ValueError, match="reservoir must be at least 1, got 0"):
        make_backend("kde", reservoir=0)


class LastPart(StreamingDensity):
    """Breaks the contract: learns from its last part alone."""

    normalized = False

    def partial_fit(self, x, target, **options):
        self._set_state(None)
        self.offset_ = None
        return super().partial_fit(x, target, **options)

    def _fit(self, x, target, generator):
        self.register_buffer("mean_", torch.stack([x[target == c].mean(0) for c in range(len(self.present_))]))

    def _log_prob(self, x):
        return -torch.cdist(x, self.mean_)


def test_a_backend_that_offers_partial_fit_is_held_to_it():
    with pytest.raises((AssertionError, RuntimeError)) as raised:
        check_relabeler(LastPart)
    assert any("check_" in note for note in raised.value.__notes__)


def _running_table(offset=0.0, dtype=torch.float64):
    x, target = _table(300, offset=offset, dtype=dtype)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    return x[order], target[order]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_running_statistics_in_parts_equal_one_fit(offset):
    x, target = _running_table(offset)
    whole = RunningGaussian(4).fit(x, target)
    parts, merged = RunningGaussian(4), RunningGaussian(4)
    for part in _parts(300, 40):
        parts.partial_fit(x[part], target[part])
        merged.merge(RunningGaussian(4).partial_fit(x[part], target[part]))
    for each in (parts, merged):
        torch.testing.assert_close(each.mean_, whole.mean_, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(each.variance_, whole.variance_, rtol=1e-9, atol=0, equal_nan=True)
        assert torch.equal(each.class_count_, whole.class_count_)


def test_running_statistics_of_a_long_stream_in_float32_do_not_stand_still():
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)) + torch.linspace(0, 1, 4000)[:, None] + 1e5
    running = RunningGaussian(1)
    for rows in x.split(4):
        running.partial_fit(rows, torch.zeros(len(rows), dtype=torch.long))
    np.testing.assert_allclose(running.mean_, x.double().mean(0, keepdim=True), rtol=1e-12)
    np.testing.assert_allclose(running.variance_, x.double().var(0), rtol=1e-9)
    with pytest.raises(ValueError, match="n_classes must be 1"):
        running.merge(RunningGaussian(2))
    with pytest.raises(ValueError, match="1 features seen before, got 2"):
        running.partial_fit(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))


def _learn_on_a_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    x, target = _mixed_table()
    rows = [slice(0, 250), slice(250, 400)][rank]  # uneven
    mixed = make_backend("mixed_types", cardinality=[3, 2])
    kde, running = make_backend("kde", reservoir=20), RunningGaussian(3)
    diag = make_backend("gm", covariance_type="diag")
    for each in (mixed, kde, running):
        each.partial_fit(x[rows], target[rows]).all_reduce()
    if rank == 1:  # the other has no row
        diag.partial_fit(x[:, :2], target)
    learnt = {"mixed": mixed, "kde": kde, "running": running}
    log_prob = {name: each.log_prob(x) for name, each in learnt.items()}
    torch.save(log_prob | {"diag": diag.all_reduce().log_prob(x[:, :2])}, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_learn_all_rows_together(tmp_path):
    multiprocessing.spawn(_learn_on_a_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    x, target = _mixed_table()
    expected = {
        "mixed": make_backend("mixed_types", cardinality=[3, 2]).fit(x, target).log_prob(x),
        "running": RunningGaussian(3).fit(x, target).log_prob(x),
        "diag": make_backend("gm", covariance_type="diag").fit(x[:, :2], target).log_prob(x[:, :2]),
        "kde": make_backend("kde", reservoir=20)
        .partial_fit(x[:250], target[:250])
        .merge(make_backend("kde", reservoir=20).partial_fit(x[250:], target[250:]))
        .log_prob(x),
    }
    for name, log_prob in expected.items():
        torch.testing.assert_close(ranks[0][name], log_prob, rtol=1e-9, atol=1e-9)
        assert torch.equal(ranks[0][name], ranks[1][name])


def test_without_ranks_there_is_nothing_to_reduce():
    x, target = _table(100)
    gm = make_backend("gm").partial_fit(x, target)
    assert torch.equal(gm.all_reduce().log_prob(x), make_backend("gm").partial_fit(x, target).log_prob(x))
