"""The numbers of a diagnosis against slow, independent answers."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from genlabel_plugins import GenLabel, intrusion_rates, register_backend, unregister_backend
from genlabel_plugins.diagnostics import Diagnosis, LabeledTable, TableError, diagnose, fit_backend, make_projection
from genlabel_plugins.diagnostics.questions._folds import twin_splits
from genlabel_plugins.diagnostics.questions._repeated_folds import next_repeat
from genlabel_plugins.diagnostics.questions.comparison import scheme_is
from genlabel_plugins.diagnostics.questions.density_fit import score
from genlabel_plugins.diagnostics.questions.recommendation import SCHEMES
from genlabel_plugins.diagnostics.reading.labeled_table import draw_rows
from genlabel_plugins.diagnostics.report._colors import PALETTE, blend_colors, class_colors
from genlabel_plugins.diagnostics.report._intrusion_pairs import intrusion_sentence
from genlabel_plugins.diagnostics.report._pictures import projection_pictures


def blobs(n=90, n_columns=4, n_classes=3, spread=1.5):
    x, target = make_blobs(n, n_columns, centers=n_classes, cluster_std=spread, random_state=0)
    return LabeledTable(torch.from_numpy(x) * 10 + 1000, torch.from_numpy(target))


def test_held_out_quality_is_that_of_slow_loops():
    table = blobs(spread=5.0)
    found = fit_backend("gm", table)
    x, posteriors, labels = table.standardized(), [], []
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(0)))  # as held_out draws it
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, table.target):
        posteriors.append(GenLabel("gm").fit(x[train], table.target[train]).posterior(x[test]))
        labels.append(table.target[test])
    posterior, target = torch.cat(posteriors).double().numpy(), torch.cat(labels).numpy()
    right = posterior.argmax(1) == target
    assert found.accuracy == pytest.approx(right.mean())
    assert found.log_loss == pytest.approx(log_loss(target, posterior), rel=1e-4)
    sure, gap = posterior.max(1), 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        gap += abs(sure[inside].sum() - right[inside].sum())
    assert found.calibration_error == pytest.approx(gap / len(target), abs=1e-6)


@pytest.mark.parametrize(("n_classes", "said"), [(2, "a row mixed from both has no third class"), (3, "name classes")])
def test_intrusion_of_two_classes_is_that_of_rows_mixed_within_one(n_classes, said):
    found = intrusion_rates((x := torch.arange(30.0)[:, None]), x[:, 0].long() % n_classes, n_pairs=500)
    assert said in intrusion_sentence(found)
    assert (float(found.rate[0, 1]) == 0) == (n_classes == 2)


def test_rows_on_which_the_densities_say_nothing_are_missed():
    silent = torch.full((10, 2), -torch.inf)
    found = score("silent", [(silent, torch.zeros(10, dtype=torch.long))])
    assert (found.accuracy, found.log_loss) == (0.0, pytest.approx(np.log(2)))


def test_standardized_columns_are_exact_far_from_zero_and_constants_are_zero():
    x = torch.stack([torch.arange(20.0).double() + 1e9, torch.full((20,), 0.1).double()], 1)
    found = LabeledTable(x, torch.arange(20) % 2).standardized()
    assert torch.allclose(found[:, 0], (torch.arange(20.0) - 9.5) / torch.arange(20.0).std(correction=0))
    assert not found[:, 1].any()


def test_a_sample_keeps_shares_and_small_classes():
    target = torch.tensor([0] * 9000 + [1] * 990 + [2] * 10)[torch.randperm(10_000)]
    rows = draw_rows(target, 1000)
    assert torch.bincount(target[rows]).tolist() == [900, 99, 10]
    assert rows.equal(rows.unique())


@pytest.mark.parametrize(
    ("x", "target", "said"),
    [
        (torch.zeros(10, 2), torch.zeros(10, dtype=torch.long), "two classes"),
        (torch.zeros(10, 0), torch.arange(10) % 2, "no column"),
        (torch.zeros(8, 2), torch.arange(8) % 2, "must have 5 rows"),
        (torch.full((10, 2), torch.nan), torch.arange(10) % 2, "finite"),
        (torch.zeros(10), torch.arange(10) % 2, "shape"),
    ],
)
def test_a_table_that_cannot_be_diagnosed_is_refused(x, target, said):
    with pytest.raises(TableError, match=said):
        LabeledTable(x, target)


@pytest.mark.parametrize(("n_columns", "n_classes"), [(1, 2), (2, 3), (3, 2), (30, 3), (8, 4)])
def test_a_plane_shows_any_table(n_columns, n_classes):
    table = blobs(n_columns=n_columns, n_classes=n_classes)
    projection = make_projection(table, "gm")
    assert projection.points.shape == projection.mixed.shape == (90, 2)
    assert len(projection.regions) == (4 if n_columns == 2 else 0)
    left, right, lower, upper = projection.extent
    low, high = projection.points.new_tensor([left, lower]), projection.points.new_tensor([right, upper])
    assert bool(((projection.points >= low) & (projection.points <= high)).all())
    if n_columns == 2:  # in the units of the columns, and each area close to its classes
        assert projection.points.mean() > 500
        for region in projection.regions:
            assert torch.allclose(region.posterior.sum(-1), torch.ones(80, 80), atol=1e-4)


@pytest.mark.parametrize("n_others", [0, 3])
def test_a_plane_shows_a_table_that_holds_its_classes_as_numbers(n_others):
    table = blobs(n_columns=3)
    held = table.target[:, None].double().repeat(1, 3)
    projection = make_projection(LabeledTable(torch.cat([table.x[:, :n_others], held], 1), table.target), "gm")
    assert projection.title.startswith("The two principal components")
    assert projection.points.shape == projection.mixed.shape == (90, 2)
    assert len(projection_pictures(projection, table)) == 3


@pytest.mark.slow
def test_rows_that_are_the_same_are_held_out_together():
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(60, 3, generator=generator), torch.randint(3, (60,), generator=generator)
    twins = LabeledTable(x.repeat(3, 1), target.repeat(3))
    for train, test in twin_splits(twins.x, twins.target, seed=0):
        assert not set(map(tuple, twins.x[train].tolist())) & set(map(tuple, twins.x[test].tolist()))
        assert len(train) + len(test) == 180
    noise = next_repeat(twins, None, ["nn"])
    best = max(noise.honest_estimate(scheme_is(scheme)).mean for scheme in SCHEMES)
    assert (noise.accuracy.shape[0], noise.n_folds, best < 0.5) == (5, 5, True)
    assert fit_backend("nn", twins).accuracy < 0.5
    assert twin_splits(x, target, seed=0) is None


@pytest.mark.slow
def test_a_class_of_one_row_many_times_is_compared_too():
    x = torch.cat([torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(6, 2)])
    comparison = next_repeat(LabeledTable(x, torch.arange(46) // 20), None, ["gm", "kde"])
    assert bool(comparison.accuracy.isfinite().all() and comparison.log_loss.isfinite().all())


def test_ten_classes_have_colors_of_their_own():
    table = blobs(n=240, n_classes=12)
    colors = class_colors(table)
    assert len(set(colors)) == 11
    assert colors[:10] == list(PALETTE)
    assert blend_colors(torch.eye(12), colors).shape == (12, 3)


@pytest.mark.slow
def test_what_is_known_grows_step_by_step():
    seen = []
    last = diagnose(blobs(), backends=["gm", "nn"], on_step=seen.append, time_limit=10_000)
    assert [known.missing[:1] for known in seen] == [
        ("intrusion per pair of classes",),
        ("backend gm",),
        ("backend nn",),
        *[(f"comparison {repeat} of 3",) for repeat in (1, 2, 3)],
        ("picture",),
        (),
    ]
    assert seen[-1] is last
    assert [known.comparison.n_repeats if known.comparison else 0 for known in seen[3:]] == [0, 1, 2, 3, 3]
    assert {setting.backend for setting in last.comparison.settings} == {None, "gm", "kde", "nn"}
    assert not last.skipped
    assert not last.interrupted


@pytest.mark.slow
def test_without_time_the_extras_are_left_out_and_said():
    known = diagnose(blobs(), backends=["gm", "vae"], time_limit=0)
    assert known.comparison.n_repeats == 1
    assert known.recommendation
    assert set(known.skipped) == {"comparison 2 of 3", "comparison 3 of 3", "backend vae"}
    assert known.skipped["backend vae"] == "not done within 0 s"


def test_a_backend_that_fails_costs_its_line_and_nothing_else():
    @register_backend("broken")
    class Broken:
        exact = True

        def fit(self, x, target):
            raise RuntimeError("no density\n  today")

        def log_prob(self, x):
            raise AssertionError

    try:
        known = diagnose(blobs(), backends=["gm", "broken"], time_limit=0)
    finally:
        unregister_backend("broken")
    assert known.skipped["backend broken"] == "no density today"
    assert "gm" in known.fits


@pytest.mark.slow
@pytest.mark.parametrize("at", ["intrusion per pair of classes", "comparison 2 of 3"])
def test_an_interrupt_keeps_what_is_known(at):
    def interrupt(known):
        if known.missing[:1] == (at,) and not known.interrupted:
            raise KeyboardInterrupt

    known = diagnose(blobs(), backends=["gm"], on_step=interrupt)
    assert known.interrupted
    assert known.missing[0] == at
    assert (known.comparison is not None) == at.startswith("comparison")


def test_an_unknown_backend_is_refused_at_once():
    with pytest.raises(ValueError, match="got 'gmm'"):
        diagnose(blobs(), backends=["gmm"])


@pytest.mark.slow
def test_a_diagnosis_can_be_repeated():
    first, second = (diagnose(blobs(), backends=["gm"], time_limit=0) for _ in range(2))
    assert isinstance(first, Diagnosis)
    assert torch.equal(first.comparison.accuracy, second.comparison.accuracy)
    assert torch.equal(first.projection.mixed, second.projection.mixed)
    assert torch.equal(first.intrusion.rate.nan_to_num(), second.intrusion.rate.nan_to_num())
