"""Which differences of a comparison are real, and what is recommended on them."""

import re

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from genlabel_plugins.diagnostics import BackendFit, Comparison, LabeledTable, Setting, recommend
from genlabel_plugins.diagnostics.questions.comparison import scheme_is
from genlabel_plugins.diagnostics.questions.density_fit import score
from genlabel_plugins.diagnostics.questions.recommendation import VERDICTS

TABLE = LabeledTable(torch.arange(90.0)[:, None], torch.arange(90) % 3)
NO_MIXING, MIXUP = Setting("none", None, None, False), Setting("mixup", None, None, True)
GENLABEL = [Setting("genlabel", "gm", gamma, True) for gamma in (0.4, 0.8)]
SETTINGS = (NO_MIXING, NO_MIXING, MIXUP, *GENLABEL)


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
    found = comparison(accuracy).probability_better(scheme_is("mixup"), scheme_is("none"))
    difference = (accuracy[:, 2] - accuracy[:, 0]).double().numpy()
    error = np.sqrt((1 / 15 + 0.2 / 0.8) * difference.var(ddof=1))
    assert found == pytest.approx(student.cdf(difference.mean() / error, 14), abs=1e-6)


def test_no_difference_is_one_half():
    assert comparison(torch.full((5, 5), 0.9)).probability_better(scheme_is("mixup"), scheme_is("none")) == 0.5


@pytest.mark.parametrize(
    ("means", "noise", "verdict", "confidence"),
    [
        ((0.90, 0.80, 0.85, 0.85, 0.84), 0.003, "Do not mix", "high confidence"),
        ((0.90, 0.80, 0.90, 0.90, 0.90), 0.0, "No need to mix", "low confidence: the simplest wins a close race"),
        (
            (0.90, 0.80, 0.89, 0.92, 0.92),
            0.03,
            "Not enough rows to tell",
            "low confidence: GenLabel is .*, short of the 0.9 ",
        ),
        (
            (0.80, 0.70, 0.85, 0.84, 0.70),
            0.03,
            "Not enough rows to tell",
            "low confidence: GenLabel .* but .* mixup with 0.87",
        ),
        ((0.80, 0.70, 0.90, 0.88, 0.87), 0.003, "Mixup is fine", "high confidence"),
        ((0.80, 0.70, 0.82, 0.85, 0.90), 0.003, "GenLabel gm, gamma 0.8", "high confidence"),
        ((0.80, 0.70, 0.70, 0.90, 0.85), 0.003, "GenLabel gm, gamma 0.4", "high confidence"),
    ],
)
def test_the_simplest_scheme_wins_unless_another_is_better_than_all_simpler_ones(means, noise, verdict, confidence):
    advice = recommend(TABLE, comparison(around(*means, noise=noise)), {})
    assert advice.verdict == verdict
    assert re.match(confidence, advice.confidence), advice
    assert 0 <= advice.probability <= 1


@pytest.mark.slow
def test_the_verdict_says_no_more_than_the_probabilities():
    verdicts = []
    names = ("none", "mixup", "genlabel")
    worlds = [((0.8, 0.8, 0.81, 0.83, 0.83), 0.04), ((0.83, 0.83, 0.8, 0.8, 0.8), 0.04), ((0.8,) * 5, 0.004)]
    for seed, (means, spread) in enumerate(worlds * 20):
        noise = torch.randn(15, 5, generator=torch.Generator().manual_seed(seed))
        found = comparison(torch.tensor(means) + spread * noise)
        better = {(a, b): found.probability_better(scheme_is(a), scheme_is(b)) for a in names for b in names}
        advice = recommend(TABLE, found, {})
        place = names.index(advice.setting.scheme)
        if place:
            assert advice.probability == min(better[names[place], simpler] for simpler in names[:place])
            assert advice.probability >= 0.9
            assert "low" not in advice.confidence
        else:
            assert better["mixup", "none"] < 0.9
            assert min(better["genlabel", "none"], better["genlabel", "mixup"]) < 0.9
            assert advice.verdict == VERDICTS[advice.effect]
            assert (advice.verdict == "Do not mix") <= (advice.probability >= 0.9)
        verdicts.append(advice.verdict)
    assert {verdict.split()[0] for verdict in verdicts} == {"GenLabel", "Mixup", "No", "Not", "Do"}


def fit(name, accuracy, n_held_out=300):
    return BackendFit(name, accuracy, 0.01, 0.1, 0.01, 1.0, n_held_out, 5, 0.1, ())


def test_the_rule_of_thumb_is_mentioned_whichever_way_it_points():
    won = comparison(around(0.80, 0.70, 0.82, 0.85, 0.90))
    below = recommend(TABLE, won, {"gm": fit("gm", 0.9)})
    assert "Against the paper's rule of thumb" in " ".join(below.cautions)
    above = recommend(TABLE, won, {"gm": fit("gm", 0.97)})
    assert "Rule of thumb of the paper kept" in " ".join(above.cautions)
    lost = recommend(TABLE, comparison(around(0.9, 0.8, 0.8, 0.8, 0.8)), {"flow": fit("flow", 0.99)})
    assert "worth a try since they reach 95 %: flow (99.0 %)" in " ".join(lost.cautions)
    assert "The densities of flow alone are right on 99.0 %" in " ".join(lost.cautions)


@pytest.mark.slow
@pytest.mark.parametrize(("n_held_out", "verdict"), [(2, "too few held-out rows"), (400, "fits: 95 % reached")])
def test_a_few_held_out_rows_prove_nothing(n_held_out, verdict):
    sure = torch.tensor([[0.0, -50.0]]).expand(n_held_out, 2)
    found = score("flow", [(sure, torch.zeros(n_held_out, dtype=torch.long))])
    adjusted = (n_held_out + 2) / (n_held_out + 4)
    assert found.accuracy == 1
    assert found.accuracy_error == pytest.approx((adjusted * (1 - adjusted) / (n_held_out + 4)) ** 0.5)
    assert found.verdict == verdict
    won, lost = comparison(around(0.80, 0.70, 0.82, 0.85, 0.90)), comparison(around(0.9, 0.8, 0.8, 0.8, 0.8))
    said = [
        *recommend(TABLE, won, {"gm": fit("gm", 1.0, 19)}).cautions,
        *recommend(TABLE, lost, {"flow": found}).cautions,
    ]
    assert "rule of thumb says nothing about gm: 19 held-out rows are too few" in " ".join(said)
    for word in ("worth a try", "far above"):
        assert (word in " ".join(said)) == (n_held_out == 400)
