"""What a state dict holds for a resumed training, and the warning of a training that goes on without it."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks as hooks

from genlabel_plugins import (
    ExcludeIntrusion,
    GenerativeMix,
    GenLabel,
    GenLabelLoss,
    GenLabelMix,
    HeadFeatures,
    LabeledMix,
    Mixup,
    Relabeling,
)

X, TARGET = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
FITTED = GenLabel("gm").fit(X, TARGET)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GenLabelMix(FITTED, generator=generator()),
        lambda: GenLabelMix(FITTED, mix="column_cutmix", generator=generator(), keep_clean=True),
        lambda: LabeledMix(ExcludeIntrusion(Mixup(3, generator=generator()), X, TARGET)),
        lambda: GenerativeMix(FITTED, generator=generator()),
    ],
    ids=["GenLabelMix", "column_cutmix", "ExcludeIntrusion", "GenerativeMix"],
)
def test_the_mixers_generator_is_in_the_state(make):
    mix = make()
    mix(X, TARGET)
    state = copy.deepcopy(mix.state_dict())
    expected = [mix(X, TARGET) for _ in range(2)]
    resumed = make()
    resumed.load_state_dict(state)
    for x, y in expected:
        x_mix, y_mix = resumed(X, TARGET)
        assert torch.equal(x_mix, x)
        assert torch.equal(y_mix, y)


def test_a_generator_that_is_missing_on_one_side_is_named():
    own, none = GenLabelMix(FITTED, generator=generator()), GenLabelMix(FITTED)
    assert "generator" not in none.state_dict()
    with pytest.warns(UserWarning, match="the saved state holds no 'generator'"):
        own.load_state_dict(none.state_dict())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*generator"):
        none.load_state_dict(own.state_dict())


def parts(make_optimizer, **options):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    mix = LabeledMix(Mixup(3))
    criterion = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(model, "2"), Relabeling(3, **options))
    return model, make_optimizer(model.parameters()), mix, criterion


def train(model, optimizer, mix, criterion):
    """Two steps, and what was warned of in them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            x_mix, y = mix(X, TARGET)
            criterion(model(x_mix), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return [str(each.message) for each in caught if "the optimizer goes on" in str(each.message)]


def momentum(parameters):
    return torch.optim.SGD(parameters, 0.1, 0.9)


@pytest.mark.parametrize("make_optimizer", [torch.optim.Adam, momentum])
def test_a_run_that_goes_on_without_its_state_is_warned_once(make_optimizer):
    first = parts(make_optimizer)
    assert train(*first) == []
    saved = [copy.deepcopy(part.state_dict()) for part in first]
    without = parts(make_optimizer)
    for part, state in zip(without[:2], saved[:2], strict=True):
        part.load_state_dict(state)
    (message,) = train(*without)
    assert message.endswith("save the state_dict of this GenLabelLoss beside the weights, and load it")
    assert train(*without) == []
    whole = parts(make_optimizer)
    for part, state in zip(whole, saved, strict=True):
        part.load_state_dict(state)
    assert train(*whole) == []


def test_nothing_is_lost_where_densities_were_fitted_before():
    model, optimizer, mix, criterion = parts(torch.optim.Adam)
    assert train(model, optimizer, mix, criterion) == []
    fitted = GenLabel("gm").fit(HeadFeatures(model, "2")(X), TARGET)
    for relabeling, n_warnings in ((Relabeling(3, relabeler=fitted), 0), (Relabeling(3, warmup_steps=9), 1)):
        other = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(model, "2"), relabeling)
        assert len(train(model, optimizer, mix, other)) == n_warnings


def test_the_optimizer_of_another_model_says_nothing():
    other = parts(torch.optim.Adam)
    watching = parts(torch.optim.Adam)
    train(*other)
    assert train(*other) == []
    assert train(*watching) == []


def test_a_mixer_that_relabels_is_watched_too_and_hooks_go_with_it():
    before = len(hooks)
    model, optimizer, mix, criterion = parts(torch.optim.Adam)
    train(model, optimizer, mix, criterion)
    relabeling_mix = LabeledMix(Mixup(3), Relabeling(3), embed=HeadFeatures(model, "2"))
    (message,) = train(model, optimizer, relabeling_mix, nn.CrossEntropyLoss())
    assert "this LabeledMix" in message
    assert len(hooks) > before
    del relabeling_mix, mix, criterion
    assert len(hooks) == before
