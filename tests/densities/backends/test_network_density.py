"""How certain trained densities may be: temperatures by held-out rows, against known answers."""

import pytest
import torch
from sklearn.datasets import load_digits

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities._temperature import best_temperature, needed_temperature, tone_down


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def true_scores(n=2000):
    """Log-densities of two overlapping Gaussians at rows of theirs: as certain as one may be."""
    target = torch.arange(n) % 2
    x = torch.randn(n, generator=seeded()) + target
    return torch.stack([-0.5 * x.square(), -0.5 * (x - 1).square()], 1), target


def test_a_temperature_is_needed_where_scores_are_too_certain():
    score, target = true_scores()
    assert needed_temperature(10 * score, target) == pytest.approx(10, rel=0.2)
    assert needed_temperature(10 * score, target) == best_temperature([(10 * score, target)])
    assert needed_temperature(score, target) == 1
    assert needed_temperature(0.1 * score, target) == 1  # too modest is not too certain
    assert needed_temperature(score[:0], target[:0]) == 1
    assert needed_temperature(score[:4], target[:4]) == 1  # too few rows to say


def test_toned_down_densities_have_the_posterior_of_the_temperature():
    score = torch.tensor([[3.0, 1.0, -torch.inf], [0.0, -500.0, 2.0]])
    found = tone_down(score, torch.tensor(4.0)).softmax(1)
    torch.testing.assert_close(found, (score / 4).softmax(1))
    assert torch.equal(tone_down(score, torch.tensor(1.0)), score)


def wide_rows(n, seed):
    target = torch.arange(n) % 2
    x = torch.randn(n, 500, generator=seeded(seed))
    x[:, :10] += 0.5 * (2 * target[:, None] - 1)
    return x, target


def digits():
    data = load_digits()
    order = torch.randperm(len(data.target), generator=seeded())
    x, target = torch.tensor(data.data).float()[order], torch.tensor(data.target)[order]
    return (x[:300], target[:300]), (x[1000:], target[1000:])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["flow", "vae"])
@pytest.mark.parametrize("kind", [pytest.param("wide", marks=pytest.mark.newer_torch(2, 14)), "digits"])
@pytest.mark.filterwarnings("ignore:.*rows per feature")
def test_few_rows_of_many_features_are_not_called_certain(backend, kind):
    (x, target), (unseen, unseen_target) = (wide_rows(60, 0), wide_rows(600, 1)) if kind == "wide" else digits()
    density = make_backend(backend, max_epochs=4 if backend == "flow" else 30)
    genlabel = GenLabel(density).fit(x, target)
    posterior = genlabel.posterior(unseen)
    chosen = posterior.max(1)
    accuracy = float((chosen.indices == unseen_target).double().mean())
    own = unseen_target[:, None]
    loss, raw = (-s.log_softmax(1).gather(1, own).mean() for s in (genlabel.log_prob(unseen), density.log_prob(unseen)))
    assert accuracy > (0.68 if kind == "wide" else 0.8)
    assert float(chosen.values.mean()) < accuracy + 0.05
    assert float(loss) < min(1.7, 0.5 * float(raw))
    assert density.temperature_ > 1


def test_a_temperature_is_part_of_the_state():
    x, target = wide_rows(60, 0)
    vae = make_backend("vae", max_epochs=2).fit(x[:, :20], target)
    loaded = make_backend("vae")
    loaded.load_state_dict(vae.state_dict())
    assert torch.equal(loaded.temperature_, vae.temperature_)
    assert torch.equal(GenLabel(loaded).log_prob(x[:, :20]), GenLabel(vae).log_prob(x[:, :20]))
