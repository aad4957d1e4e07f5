"""The numbers of a diagnosis against slow, independent answers."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from sklearn.datasets import make_blobs
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from genlabel_plugins import GenLabel, register_backend, unregister_backend
from genlabel_plugins.diagnostics import (
    BackendFit,
    Comparison,
    Diagnosis,
    LabelledTable,
    Setting,
    TableError,
    diagnose,
    fit_backend,
    make_plane,
    recommend,
)
from genlabel_plugins.diagnostics.colours import PALETTE, blend, class_colours
from genlabel_plugins.diagnostics.comparison import scheme_is
from genlabel_plugins.diagnostics.fit import score
from genlabel_plugins.diagnostics.labelled_table import draw_rows

NO_MIXING, MIXUP = Setting("vanilla", None, None, False), Setting("mixup", None, None, True)
GENLABEL = [Setting("genlabel", "gm", gamma, True) for gamma in (0.4, 0.8)]
SETTINGS = (NO_MIXING, NO_MIXING, MIXUP, *GENLABEL)


def blobs(n=90, n_columns=4, n_classes=3, spread=1.5):
    x, target = make_blobs(n, n_columns, centers=n_classes, cluster_std=spread, random_state=0)
    return LabelledTable(torch.from_numpy(x) * 10 + 1000, torch.from_numpy(target))


def comparison(accuracy):
    accuracy = torch.as_tensor(accuracy, dtype=torch.float64)
    return Comparison(SETTINGS, (0.1, 0.01, 0.1, 0.1, 0.1), accuracy, 1 - accuracy, n_folds=5, n_rows=300)


def around(*means, n_splits=15, noise=0.003):
    generator = torch.Generator().manual_seed(0)
    return torch.tensor(means) + noise * torch.randn(n_splits, len(means), generator=generator)


def test_a_choice_is_scored_where_it_was_not_made():
    accuracy = torch.rand(10, 5, generator=torch.Generator().manual_seed(1)).double()
    expected = []
    for split in range(10):
        others = [s for s in range(split // 5 * 5, split // 5 * 5 + 5) if s != split]
        best = max((3, 4), key=lambda m: accuracy[others, m].mean().item())
        expected.append(accuracy[split, best].item())
    assert comparison(accuracy).chosen_elsewhere(scheme_is("genlabel")).tolist() == expected


def test_the_best_of_many_equals_owes_its_lead_to_chance_and_the_honest_estimate_does_not():
    generator = torch.Generator().manual_seed(0)
    settings = tuple(Setting("genlabel", "gm", m / 80, True) for m in range(80))
    accuracy = 0.8 + 0.05 * torch.randn(15, 80, generator=generator, dtype=torch.float64)
    many = Comparison(settings, (0.1,) * 80, accuracy, 1 - accuracy, n_folds=5, n_rows=300)
    everything = scheme_is("genlabel")
    assert many.estimate(many.best(everything)).mean > 0.82
    assert abs(many.honest_estimate(everything).mean - 0.8) < 2 * 0.05 / 15**0.5


def test_probabilities_are_those_of_the_corrected_resampled_t_test():
    accuracy = around(0.80, 0.70, 0.81, 0.70, 0.60, noise=0.02)
    found = comparison(accuracy).probability_better(scheme_is("mixup"), scheme_is("vanilla"))
    difference = (accuracy[:, 2] - accuracy[:, 0]).double().numpy()
    error = np.sqrt((1 / 15 + 0.2 / 0.8) * difference.var(ddof=1))
    assert found == pytest.approx(student.cdf(difference.mean() / error, 14), abs=1e-6)


def test_no_difference_is_one_half():
    assert comparison(torch.full((5, 5), 0.9)).probability_better(scheme_is("mixup"), scheme_is("vanilla")) == 0.5


@pytest.mark.parametrize(
    ("means", "verdict", "confidence"),
    [
        ((0.90, 0.80, 0.85, 0.85, 0.84), "Do not mix", "high"),
        ((0.90, 0.80, 0.90, 0.90, 0.90), "Do not mix", "low"),
        ((0.80, 0.70, 0.90, 0.88, 0.87), "Mixup is fine", "high"),
        ((0.80, 0.70, 0.82, 0.85, 0.90), "GenLabel gm, gamma 0.8", "high"),
        ((0.80, 0.70, 0.70, 0.90, 0.85), "GenLabel gm, gamma 0.4", "high"),
    ],
)
def test_the_simplest_scheme_wins_unless_another_is_better(means, verdict, confidence):
    advice = recommend(blobs(), comparison(around(*means)), {})
    assert advice.verdict == verdict
    assert advice.confidence.startswith(confidence)
    assert 0 <= advice.probability <= 1


def fit(name, accuracy):
    return BackendFit(name, accuracy, 0.01, 0.1, 0.01, 1.0, 300, 5, 0.1, ())


def test_the_rule_of_thumb_is_mentioned_whichever_way_it_points():
    won = comparison(around(0.80, 0.70, 0.82, 0.85, 0.90))
    below = recommend(blobs(), won, {"gm": fit("gm", 0.9)})
    assert "Against the paper's rule of thumb" in " ".join(below.cautions)
    above = recommend(blobs(), won, {"gm": fit("gm", 0.97)})
    assert "Rule of thumb of the paper kept" in " ".join(above.cautions)
    lost = recommend(blobs(), comparison(around(0.9, 0.8, 0.8, 0.8, 0.8)), {"flow": fit("flow", 0.99)})
    assert "worth a try since they reach 95 %: flow (99.0 %)" in " ".join(lost.cautions)


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


def test_rows_on_which_the_densities_say_nothing_are_missed():
    silent = torch.full((10, 2), -torch.inf)
    found = score("silent", [(silent, torch.zeros(10, dtype=torch.long))])
    assert (found.accuracy, found.log_loss) == (0.0, pytest.approx(np.log(2)))


def test_standardised_columns_are_exact_far_from_zero_and_constants_are_zero():
    x = torch.stack([torch.arange(20.0).double() + 1e9, torch.full((20,), 0.1).double()], 1)
    found = LabelledTable(x, torch.arange(20) % 2).standardized()
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
        LabelledTable(x, target)


@pytest.mark.parametrize(("n_columns", "n_classes"), [(1, 2), (2, 3), (3, 2), (30, 3), (8, 4)])
def test_a_plane_shows_any_table(n_columns, n_classes):
    table = blobs(n_columns=n_columns, n_classes=n_classes)
    plane = make_plane(table, "gm")
    assert plane.points.shape == plane.mixed.shape == (90, 2)
    assert len(plane.areas) == (4 if n_columns == 2 else 0)
    left, right, lower, upper = plane.extent
    low, high = plane.points.new_tensor([left, lower]), plane.points.new_tensor([right, upper])
    assert bool(((plane.points >= low) & (plane.points <= high)).all())
    if n_columns == 2:  # in the units of the columns, and each area close to its classes
        assert plane.points.mean() > 500
        for area in plane.areas:
            assert torch.allclose(area.posterior.sum(-1), torch.ones(80, 80), atol=1e-4)


def test_ten_classes_have_colours_of_their_own():
    table = blobs(n=240, n_classes=12)
    colours = class_colours(table)
    assert len(set(colours)) == 11
    assert colours[:10] == list(PALETTE)
    assert blend(torch.eye(12), colours).shape == (12, 3)


def test_what_is_known_grows_step_by_step():
    seen = []
    last = diagnose(blobs(), backends=["gm", "nn"], on_step=seen.append, time_limit=60)
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


def test_a_diagnosis_can_be_repeated():
    first, second = (diagnose(blobs(), backends=["gm"], time_limit=0) for _ in range(2))
    assert isinstance(first, Diagnosis)
    assert torch.equal(first.comparison.accuracy, second.comparison.accuracy)
    assert torch.equal(first.plane.mixed, second.plane.mixed)
    assert torch.equal(first.intrusion.rate.nan_to_num(), second.intrusion.rate.nan_to_num())
