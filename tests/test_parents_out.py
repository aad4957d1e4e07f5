"""Parents left out through the doors of the core: each hands on the very rows that it mixed."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from genlabel_plugins import (
    ExcludeIntrusion,
    FromClassifier,
    GenLabel,
    GenLabelLoss,
    GenLabelMix,
    GenLabelSampler,
    HeadFeatures,
    ManifoldMix,
    Mixup,
    Relabeling,
    RelabelTransform,
)
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV


@pytest.fixture(scope="module")
def table():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(60) % 3
    x = torch.randn(60, 3, generator=generator) + target[:, None]
    return x, target


def slow_labels(genlabel, x, target, mixed):
    """Labels by densities that are fitted without the parents of each row."""
    rows = torch.arange(len(x)) if mixed.row is None else mixed.row
    labels = []
    for n, (i, j) in enumerate(zip(rows.tolist(), mixed.partner.tolist(), strict=True)):
        kept = torch.ones(len(x), dtype=torch.bool)
        kept[[i, j]] = False
        fitted = GenLabel("nn", gamma=genlabel.gamma).fit(x[kept], target[kept])
        labels.append(fitted.relabel(mixed.x[n : n + 1], mixed.y_mix[n : n + 1]))
    return torch.where(mixed.is_mixed[:, None], torch.cat(labels), mixed.y_mix)


@pytest.mark.parametrize("through_relabeling", [False, True])
def test_a_mix_hands_on_the_rows_that_it_mixed(table, through_relabeling):
    x, target = table
    genlabel = GenLabel("nn", gamma=0.7, leave_parents_out=True).fit(x, target)
    seen = []

    def mixer(x, target):
        mixup = Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(1))
        seen.append(ExcludeIntrusion(mixup, x, target)(x, target))
        return seen[-1]

    label = Relabeling(3, relabeler=genlabel) if through_relabeling else genlabel
    _, y = GenLabelMix(label, mix=mixer)(x, target)
    torch.testing.assert_close(y, slow_labels(genlabel, x, target, seen[0]))


def test_features_of_clean_rows_go_through_embed(table):
    x, target = table
    genlabel = GenLabel("nn", leave_parents_out=True).fit(2 * x, target)
    mixed = Mixup(3, generator=torch.Generator().manual_seed(1))(x, target)
    _, y = GenLabelMix(genlabel, mix=lambda *_: mixed, embed=lambda rows: 2 * rows)(x, target)
    plain = GenLabel("nn", leave_parents_out=True).fit(x, target)
    assert torch.allclose(y, GenLabelMix(plain, mix=lambda *_: mixed)(x, target)[1])


def test_nothing_is_trusted_without_asking_for_parents(table):
    x, target = table
    genlabel = GenLabel("nn", gamma=0.0, leave_parents_out=True).fit(x, target)
    mixed = Mixup(3)(x, target)
    assert torch.equal(genlabel.relabel(mixed.x, mixed.y_mix), mixed.y_mix)
    assert not Relabeling(3, relabeler=genlabel).wants_parents


class Asks:
    """A relabeler of a user's that wants to know the parents."""

    wants_parents = True

    def relabel(self, x, y_mix, parents):
        assert parents.x_j.shape == x.shape
        return y_mix.flip(1)


def test_a_relabeler_of_ones_own_is_given_the_parents_that_it_asks_for(table):
    x, target = table
    mixed = Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(1))(x, target)
    own = mixed.partner == torch.arange(60)
    assert mixed.parents(x).target_j.tolist() == torch.where(own, -1, mixed.target_j).tolist()
    assert own.any()
    for label in (Relabeling(3, relabeler=Asks()), Asks()):
        _, y = GenLabelMix(label, mix=lambda *_: mixed)(x, target)
        assert torch.equal(y, torch.where(mixed.is_mixed[:, None], mixed.y_mix.flip(1), mixed.y_mix))


def test_where_parents_cannot_be_known_one_sentence_says_so(table):
    genlabel = GenLabel("nn", leave_parents_out=True).fit(*table)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    doors = (
        lambda: RelabelTransform(lambda *batch: batch, genlabel),
        lambda: ManifoldMix(model, ["1"], Mixup(3), relabeler=genlabel, head="1"),
        lambda: GenLabelLoss(
            torch.nn.CrossEntropyLoss(), None, HeadFeatures(model, "1"), Relabeling(3, relabeler=genlabel)
        ),
    )
    for door in doors:
        with pytest.raises(ValueError, match="need the parents of mixed rows, but"):
            door()


def test_samplers_and_classifiers_take_the_options(table):
    x, target = (part.numpy() for part in table)
    x = x.astype(np.float64)
    noise = np.arange(60) * 7 % 5 % 2
    how = {"soft_labels": True, "sampling_strategy": {0: 60, 1: 60}, "random_state": 0, "gamma": 0.4}
    with_parents, without = (
        GenLabelSampler("nn", leave_parents_out=out, **how).fit_resample(x, noise)[1][60:].max(1).mean()
        for out in (False, True)
    )
    assert with_parents > without
    forest = FromClassifier(RandomForestClassifier(10, random_state=0))
    GenLabelSampler(forest, cross_fit=3, **how).fit_resample(x, noise)
    losses = []
    for options in ({}, {"leave_parents_out": True}):
        model = GenLabelClassifier("nn", gamma=1.0, random_state=0, **options).fit(x, noise)
        losses.append(np.log(model.predict_proba(x)[np.arange(60), noise]).mean())
    assert losses[0] > losses[1]  # nearest neighbors that know their own class teach it by heart
    taught = GenLabelClassifier(forest, cross_fit=3, random_state=0).fit(x, target)
    assert taught.score(x, target) > 0.5
    search = GenLabelClassifierCV(backends=("kde",), gammas=(0.5,), Cs=(1.0,), leave_parents_out=True, n_repeats=1)
    assert search.fit(x, target).score(x, target) > 0.5
    with pytest.raises(ValueError, match="cross_fit must be None or at least 3"):
        GenLabelClassifier(cross_fit=1).fit(x, target)
