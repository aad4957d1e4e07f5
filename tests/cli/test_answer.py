"""What the answer names: the best model, what mixing does, and when there is nothing to learn."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genlabel_plugins.diagnostics import (
    Comparison,
    LabeledTable,
    Report,
    Setting,
    diagnose,
    json_schema,
    prepare_table,
    recommend,
    to_json,
)
from genlabel_plugins.diagnostics.questions._folds import block_splits, is_ordered, make_splits, time_splits
from genlabel_plugins.diagnostics.questions._held_out import (
    CLASS_SHARES,
    FOREST,
    LOGISTIC,
    SEARCH,
    candidate_probabilities,
)
from genlabel_plugins.diagnostics.questions._interrupts import OutOfTimeError
from genlabel_plugins.diagnostics.questions._repeated_folds import GAMMAS, next_repeat
from genlabel_plugins.diagnostics.questions.diagnosis import plan
from genlabel_plugins.diagnostics.questions.standings import standings
from genlabel_plugins.diagnostics.report import wording
from genlabel_plugins.diagnostics.report._pictures import gamma_pictures
from genlabel_sklearn import GenLabelClassifierCV


@pytest.fixture(scope="module")
def known(wine):
    return diagnose(prepare_table(wine, "target"), backends=["gm", "nn"], time_limit=0)


@pytest.mark.slow
def test_yardsticks_have_the_scores_of_scikit_learn_on_the_same_rows(known):
    table, found = known.table, {each.name: each for each in known.standings}
    splits, _ = make_splits(table, torch.arange(len(table.x)), 0)
    x, target = table.x.numpy(), table.target.numpy()
    for name, classifier in [
        (LOGISTIC, make_pipeline(StandardScaler(), LogisticRegression())),
        (FOREST, RandomForestClassifier(random_state=0)),
    ]:
        probabilities = [clone(classifier).fit(x[a], target[a]).predict_proba(x[b]) for a, b in splits]
        classes = [(target[b], p.argmax(1)) for (_, b), p in zip(splits, probabilities, strict=True)]
        losses = [log_loss(target[b], p.clip(1.2e-7)) for (_, b), p in zip(splits, probabilities, strict=True)]
        assert found[name].accuracy.mean == pytest.approx(np.mean([(a == b).mean() for a, b in classes]))
        balanced = np.mean([balanced_accuracy_score(a, b) for a, b in classes])
        assert found[name].balanced_accuracy.mean == pytest.approx(balanced)
        assert found[name].log_loss.mean == pytest.approx(np.mean(losses), rel=1e-4)
    assert found[CLASS_SHARES].accuracy.mean == pytest.approx(71 / 178, abs=0.01)
    assert found[CLASS_SHARES].balanced_accuracy.mean == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_search_scores_as_the_classifier_itself_does_where_it_is_fitted_in_each_fold(iris):
    table = prepare_table(iris, "target")
    found = {each.name: each for each in standings(next_repeat(table, None, ["gm", "kde"]))}[SEARCH]
    x, target, losses, hits = table.x.numpy(), table.target.numpy(), [], []
    for train, test in make_splits(table, torch.arange(len(x)), 0)[0]:
        search = GenLabelClassifierCV(gammas=GAMMAS, n_repeats=1, random_state=0).fit(x[train], target[train])
        losses.append(log_loss(target[test], search.predict_proba(x[test])))
        hits.append(search.score(x[test], target[test]))
    assert found.accuracy.mean == pytest.approx(np.mean(hits), abs=0.021)
    assert found.log_loss.mean == pytest.approx(np.mean(losses), abs=0.03)


@pytest.mark.slow
def test_a_forest_that_is_better_is_named_and_comes_first_in_the_code_to_copy():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (240, 6))
    signs = (x[:, 0] > 0) ^ (x[:, 1] > 0.2)
    known = diagnose(LabeledTable(torch.from_numpy(x), torch.from_numpy(signs * 1)), backends=["gm"], time_limit=0)
    assert known.standings[0].name == FOREST
    words = wording.standing_words(known)
    assert words["title"] == "Random forest"
    assert (
        "A random forest at scikit-learn's defaults is better here than anything that mixes rows." in words["sentences"]
    )
    page = Report().render(known)
    places = [page.index(f'id="{part}"') for part in ("best", "verdict", "snippets", "models", "classes")]
    assert places == sorted(places)
    assert "RandomForestClassifier(random_state=0)" in page[places[2] :].partition("</details>")[0]


@pytest.mark.slow
def test_the_page_and_the_json_say_one_value_of_each_model(known):
    page, told = Report().render(known), json.loads(to_json(known))
    for each, row in zip(told["models"], wording.standing_words(known)["rows"], strict=True):
        assert row["accuracy"] == f"{100 * each['accuracy']['mean']:.1f} ± {100 * each['accuracy']['error']:.1f}"
        assert re.search(rf">{re.escape(row['name'])}</th><td[^>]*>{re.escape(row['accuracy'])}<", page), row
    scheme = {each["name"]: each for each in told["models"]}["no mixing"]["accuracy"]
    assert (
        f"no mixing {100 * scheme['mean']:.1f} ± {100 * scheme['error']:.1f} %" in told["recommendation"]["reasons"][0]
    )
    assert page.count("largest class 39.9 %") == 3
    for text in (*told["best"]["sentences"], *told["recommendation"]["reasons"], *told["recommendation"]["cautions"]):
        assert text in page.replace("&#39;", "'"), text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_there_is_nothing_to_learn_in_noise(seed):
    generator = torch.Generator().manual_seed(seed)
    table = LabeledTable(
        torch.randn(120, 5, generator=generator), torch.randint(2 + seed % 2, (120,), generator=generator)
    )
    known = diagnose(table, backends=["gm", "nn"], time_limit=0)
    assert known.recommendation.verdict == wording.standing_words(known)["title"] == "Nothing to learn here"
    assert known.recommendation.effect == "nothing"
    assert "neither by accuracy nor by log-loss" in wording.standing_words(known)["sentences"][0]


@pytest.mark.slow
def test_one_class_in_fifty_is_judged_by_balanced_accuracy_and_log_loss_too():
    generator = torch.Generator().manual_seed(0)
    target = (torch.arange(500) < 10).long()
    table = LabeledTable(torch.randn(500, 3, generator=generator) + 2 * target[:, None], target)
    known = diagnose(table, backends=["gm"], time_limit=0)
    assert known.recommendation.verdict != "Nothing to learn here"
    for start in ("By balanced accuracy: ", "By log-loss: "):
        assert any(reason.startswith(start) for reason in known.recommendation.reasons)
    assert known.recommendation.cautions[0].startswith("The largest class holds 98.0 % of the rows")


SCHEMES = (Setting("none", None, None, False), Setting("mixup", None, None, True), Setting("genlabel", "gm", 0.5, True))


@pytest.mark.parametrize(
    ("means", "noise", "effect"),
    [
        ((0.90, 0.80, 0.80), 0.003, "harmful"),
        ((0.90, 0.90, 0.90), 0.003, "useless"),
        ((0.90, 0.90, 0.90), 0.05, "unclear"),
        ((0.80, 0.90, 0.80), 0.003, "helpful"),
    ],
)
def test_harmful_useless_and_untold_are_told_apart(means, noise, effect):
    accuracy = torch.tensor(means) + noise * torch.randn(15, 3, generator=torch.Generator().manual_seed(0))
    found = Comparison(SCHEMES, (1.0,) * 3, accuracy, 1 - accuracy, n_folds=5, n_rows=300)
    advice = recommend(LabeledTable(torch.arange(90.0)[:, None], torch.arange(90) % 3), found, {})
    assert advice.effect == effect
    assert (advice.verdict == "Do not mix") == (effect == "harmful")
    assert (advice.verdict == "Not enough rows to tell") == (effect == "unclear")


@pytest.mark.slow
def test_pictures_that_are_compared_share_their_axis(known):
    drawn = gamma_pictures(known.comparison)
    ticks = [re.findall(r">(\d+(?:\.\d+)?)</text>", picture.svg) for picture in drawn]
    assert len(ticks) == 3
    assert ticks[0] == ticks[1] == ticks[2]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["whole", "moons", "begun"])
def test_json_keeps_to_its_schema(known, moons, state):
    jsonschema = pytest.importorskip("jsonschema")  # which the dev extra installs
    if state != "whole":
        seen = []
        known = diagnose(prepare_table(moons, "moon"), backends=["gm"], time_limit=0, on_step=seen.append)
        known = seen[1] if state == "begun" else known
    schema, told = json_schema(), json.loads(to_json(known))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(told, schema)
    assert set(schema["properties"]) == set(told)
    if state == "moons":
        assert set(told["projection"]["regions"]) == {region.name for region in known.projection.regions}


@pytest.mark.slow
def test_a_seed_gives_the_same_page_twice(known, wine):
    again = diagnose(prepare_table(wine, "target"), backends=["gm", "nn"], time_limit=0)
    assert Report().render(again) == Report().render(known)


@pytest.mark.slow
def test_what_takes_too_long_is_left_out_and_said(wine, monkeypatch):
    def endless(*_, **__):
        while True:
            torch.randn(9)

    monkeypatch.setattr("genlabel_plugins.diagnostics.questions.diagnosis.next_repeat", endless)
    seen = []
    known = diagnose(prepare_table(wine, "target"), backends=["gm"], time_limit=2.0, on_step=seen.append)
    assert known.seconds < 4
    shown = {title for each in seen for title in each.missing[:1]}
    assert shown.isdisjoint({"comparison 2 of 3", "comparison 3 of 3", "picture"})  # no page for each of the rest
    assert known.skipped["comparison 1 of 3"] == "not done within 2 s"
    assert known.recommendation is None
    assert [each.name for each in known.standings] == [LOGISTIC, CLASS_SHARES]
    page, told = Report().render(known), json.loads(to_json(known))
    assert "not done within 2 s" in page
    assert 'id="best"' in page
    assert 'id="verdict"' not in page
    assert page.count("LogisticRegression()") == len(told["snippets"]) == 1
    assert "time did not allow all that mixes" in told["best"]["sentences"][-1]


@pytest.mark.slow
def test_what_was_compared_when_time_was_up_is_kept(wine, monkeypatch):
    scored = []

    def slow(*arguments, **options):
        if len(scored) == 3:
            raise OutOfTimeError
        scored.append(candidate_probabilities(*arguments, **options))
        return scored[-1]

    monkeypatch.setattr("genlabel_plugins.diagnostics.questions._repeated_folds.candidate_probabilities", slow)
    known = diagnose(prepare_table(wine, "target"), backends=["gm"], time_limit=10_000)
    assert (known.comparison.n_folds, len(known.comparison.accuracy)) == (3, 3)
    assert known.recommendation is not None
    assert {SEARCH, LOGISTIC, CLASS_SHARES} < {each.name for each in known.standings}
    assert known.skipped["comparison 1 of 3"].endswith("the random forest, and 2 of 5 folds of all that mixes")
    assert "comparison 2 of 3" in known.skipped
    assert "2 of 5 folds" in Report().render(known)
    to_json(known)


def series(n=240):
    """A random walk, of which the class changes rarely."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, generator=generator).cumsum(0), torch.arange(n) // 24 % 2


@pytest.mark.slow
def test_neighboring_rows_that_resemble_each_other_are_noticed_and_scored_in_blocks(monkeypatch):
    monkeypatch.setattr("genlabel_plugins.diagnostics.questions.diagnosis.N_REPEATS", 1)
    x, target = series()
    assert is_ordered(x, target)
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert not is_ordered(x[shuffled], target[shuffled])
    assert not is_ordered(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), torch.arange(200) // 100)
    known = diagnose(LabeledTable(x, target), backends=["nn"], time_limit=10_000)
    random, blocks = (
        {each.name: each.accuracy.mean for each in standings(c)} for c in (known.comparison, known.blocks)
    )
    assert random["densities of nn alone"] > blocks["densities of nn alone"] + 0.1
    assert known.recommendation.cautions[0].startswith("Neighboring rows resemble each other")
    said = wording.standing_words(known)["sentences"]
    inside = f"{100 * blocks[known.standings[0].name]:.1f}"
    assert any(re.match(f"Neighboring rows .* in blocks of them it is right on {inside} ", each) for each in said)
    held_out = torch.cat([torch.from_numpy(test) for _, test in block_splits(target)])
    assert held_out.sort().values.equal(torch.arange(240))


@pytest.mark.slow
def test_groups_are_held_out_together_and_times_in_their_order():
    x, target = series()
    frame = pd.DataFrame(x.numpy(), columns=list("abc")).assign(kind=target.numpy(), visit=np.arange(240) // 12)
    table = prepare_table(frame.assign(visit=frame["visit"].map("p{}".format)), "kind", groups="visit")
    assert table.column_names == ("a", "b", "c")
    groups = table.groups.numpy()
    for train, test in make_splits(table, torch.arange(240), 0)[0]:
        assert not set(groups[train]) & set(groups[test])
    known = diagnose(table, backends=["nn"], time_limit=0)
    assert "whole groups of 'visit'" in known.comparison.method
    assert known.fits["nn"].n_held_out == 240
    dates = pd.date_range("2024", periods=240)
    late = prepare_table(frame.assign(visit=dates.astype(str)[::-1]), "kind", time="visit")
    assert late.time.tolist() == list(range(240))[::-1]
    for train, test in time_splits(late.time, late.target):
        assert late.time[train].max() < late.time[test].min()
    assert [step.title for step in plan(["gm"], table=late)].count("comparison 1 of 1") == 1
    known = diagnose(late, backends=["nn"], time_limit=0)
    blocks = time_splits(late.time, late.target)
    assert known.comparison.method.endswith(f"before them in the order of 'visit', in {len(blocks)} blocks")
    largest = [torch.bincount(late.target[train]).argmax() for train, _ in blocks]
    right = np.mean([(late.target[test] == c).double().mean() for c, (_, test) in zip(largest, blocks, strict=True)])
    page = Report().render(known)
    assert page.count(f"largest class so far {100 * right:.1f} %") == 3
    assert "first repeat only" not in page  # there is but one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": "who"}, "--groups: there is no column 'who'"),
        ({"time": "a", "groups": "a"}, "exclude one another"),
        ({"groups": "kind2"}, "tells 2 groups apart"),
        ({"time": "kind2"}, "holds neither numbers nor dates"),
    ],
)
def test_a_column_that_parts_no_rows_is_refused_in_one_sentence(options, said):
    x, target = series(60)
    frame = pd.DataFrame(x.numpy(), columns=list("abc")).assign(kind=target.numpy(), kind2=["u", "v"] * 30)
    with pytest.raises(ValueError, match=said):
        prepare_table(frame, "kind", **options)
