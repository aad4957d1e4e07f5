"""Baselines against their definitions."""

import numpy as np
import pytest
import torch
from torch import nn

from genlabel_plugins import GenLabel, Mixup, intrudes
from genlabel_plugins.paper.adamixup import AdaMixUp
from genlabel_plugins.paper.data import split
from genlabel_plugins.paper.logistic import fit_logistic
from genlabel_plugins.paper.networks import Training, fit_network, make_network, train
from genlabel_plugins.paper.objectives import make_objective
from genlabel_plugins.paper.schemes import SCHEMES, density
from genlabel_plugins.paper.synthetic import SYNTHETIC, cube
from genlabel_plugins.relabeling import Relabeling
from genlabel_plugins.selection import candidate_grid, cross_validate
from genlabel_plugins.selection._candidate_batches import CandidateBatches, MixOptions
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._training_table import TrainingTable


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(60) % 3
    return torch.randn(60, 2, generator=generator) + 2.0 * target[:, None], target


def test_the_gate_of_adamixup_is_an_interval_of_its_softmax(rows):
    x, _ = rows
    adamixup = AdaMixUp(2, 3)
    share = adamixup.policy(torch.cat([x, x.flip(0)], 1)).softmax(1)
    low, high = adamixup.gate(x, x.flip(0)).unbind(1)
    torch.testing.assert_close(low, share[:, 0])
    torch.testing.assert_close(high, share[:, 0] + share[:, 1])
    for parameter in adamixup.policy[-1].parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(adamixup.gate(x, x)[0], torch.tensor([1 / 3, 2 / 3]))


def test_the_loss_of_adamixup_is_that_of_its_paper(rows):
    x, target = rows
    torch.manual_seed(0)
    model, adamixup = nn.Linear(2, 3), AdaMixUp(2, 3, torch.Generator().manual_seed(3))
    loss = adamixup(model, x, target)
    generator = torch.Generator().manual_seed(3)
    partner, expected = torch.randperm(60, generator=generator), 0.0
    epsilon = torch.rand(60, generator=generator)
    for i, j in enumerate(partner.tolist()):  # row by row
        a, width, _ = adamixup.policy(torch.cat([x[i], x[j]])).softmax(0)
        lam = a + width * epsilon[i]
        x_mix = lam * x[i] + (1 - lam) * x[j]
        log_p = model(x_mix).log_softmax(0)
        expected = expected - model(x[i]).log_softmax(0)[target[i]] / 60
        expected = expected - (lam * log_p[target[i]] + (1 - lam) * log_p[target[j]]) / 60
        real, mixed = (torch.sigmoid(adamixup.discriminator(row)) for row in (x[i], x_mix))
        expected = expected - (real.log() + (1 - mixed).log()).squeeze() / 120
    torch.testing.assert_close(loss, expected)


def test_the_policy_learns_to_mix_rows_that_look_unlike_real_ones():
    x = torch.cat([torch.full((50, 1), -1.0), torch.full((50, 1), 1.0)])  # ends of a segment; its middle is empty
    target = torch.arange(100) // 50
    torch.manual_seed(0)
    adamixup = AdaMixUp(1, 2, torch.Generator().manual_seed(0))
    model = nn.Linear(1, 2).requires_grad_(False)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)  # every label costs it the same: the discriminator alone teaches the policy
    train(
        model,
        adamixup,
        x,
        target,
        epochs=150,
        learning_rate=0.01,
        weight_decay=0.0,
        batch_size=100,
        generator=torch.Generator().manual_seed(0),
    )
    low, high = adamixup.gate(x[:1], x[-1:])[0].tolist()
    assert 0.1 < low < high < 0.9


def test_rows_that_intrude_weigh_nothing(rows):
    x, target = rows
    table = TrainingTable.of(x.double(), target)
    candidates = candidate_grid(schemes=("mixup",), learning_rates=(0.1,))
    options = MixOptions(exclude_intrusion=True, batch_size=30)
    batches = CandidateBatches(table, candidates, 3, options, torch.Generator().manual_seed(0))
    draws = batches.epochs.draw(3)
    batch = batches.label(draws, 30)
    for s in range(len(batch.x)):
        i = table.target[draws.rows[s]]
        j = table.target[draws.rows[s][draws.partner[s]]]
        out = intrudes(batch.x[s], i, j, table.x, table.target)
        assert bool((batch.weight[s][out] == 0).all())
        torch.testing.assert_close(batch.weight[s].sum(), torch.tensor(1.0))
        assert len(batch.weight[s][~out].unique()) == 1
    assert float((batch.weight == 0).float().mean()) > 0


def test_excluding_intrusion_changes_mixup_and_nothing_else(rows):
    x, target = rows
    grid = candidate_grid(schemes=("none", "mixup"), learning_rates=(0.1,))
    solved = candidate_grid(schemes=("none", "mixup"), Cs=(1.0,))
    for candidates in (grid, solved):
        plain, without = (
            cross_validate(x, target, candidates, options=TrainingOptions(max_epochs=5, exclude_intrusion=excludes))
            for excludes in (False, True)
        )
        assert torch.equal(plain.log_loss[:, 0], without.log_loss[:, 0])
        assert not torch.equal(plain.log_loss[:, 1], without.log_loss[:, 1])


@pytest.mark.parametrize("name", ["vanilla", "mixup", "CutMix", "RegMixup", "logistic label without intrusion"])
def test_objectives_are_losses_of_their_schemes(rows, name):
    x, target = rows
    objective = make_objective(SCHEMES[name], x, target, 3, alpha=1.0, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(objective(nn.Linear(2, 3), x, target))


def test_algorithm_2_trains_a_last_layer_on_frozen_features():
    rows = split(*SYNTHETIC["Moon"](0), 0)
    training = Training(hidden=(8, 8)).quick()
    vanilla, relabeled = (fit_network(rows, name, training, seed=0) for name in ("vanilla", "GenLabel (GM)"))
    assert not any(p.requires_grad for p in relabeled.network[:-1].parameters())
    assert all(p.requires_grad for p in relabeled.network[-1].parameters())
    assert vanilla.predictions.test.shape == relabeled.predictions.test.shape == (300, 2)
    np.testing.assert_allclose(np.exp(relabeled.predictions.test).sum(1), 1)


def test_a_network_without_relu_is_linear():
    network = make_network((3, 5, 2), relu=False).double()
    a, b = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(network(a) + network(b), network(a + b) + network(torch.zeros_like(a)))


def test_gamma_zero_is_mixup(rows):
    x, target = rows
    cv = cross_validate(
        x,
        target,
        [
            *candidate_grid(schemes=("mixup",), learning_rates=(0.1,)),
            *candidate_grid(schemes=("genlabel",), backends=(density("gm"),), gammas=(0.0,), learning_rates=(0.1,)),
        ],
        options=TrainingOptions(max_epochs=5),
    )
    assert torch.equal(cv.log_loss[:, 0], cv.log_loss[:, 1])


def test_the_densities_of_the_paper_are_its_own():
    gm, kde = density("gm"), density("kde")
    assert (gm.covariance_type, gm.n_components, gm.shrinkage) == ("full", 1, 0)
    x, y = cube(0)
    done = fit_logistic(split(x, y, 0), ["generative classifier (GM)"], alpha=1.0, seed=0, quick=True)
    assert done["generative classifier (GM)"].train_accuracy > 0.8
    assert (kde.bandwidth, kde.shrinkage) == ("scott", 0)


def test_artificial_sets_are_drawn_as_described():
    x, y = cube(1, n_per_class=50)
    assert np.bincount(y).tolist() == [50] * 8
    signs = (x > 0) @ [4, 2, 1]
    assert np.array_equal(signs, y)  # the cubes touch but do not overlap
    x, y = SYNTHETIC["Four-circle"](0)
    inner = np.minimum(np.hypot(x[:, 0] + 1.2, x[:, 1]), np.hypot(x[:, 0] - 1.2, x[:, 1])) < 0.75
    assert np.array_equal(y, np.where(x[:, 0] < 0, inner, ~inner).astype(int))
    x, y = SYNTHETIC["9-class Gaussian"](0)
    assert np.bincount(y).tolist() == [5000] * 9
    assert np.allclose(
        [x[y == c].mean(0).round(0) for c in range(9)], [[a, b] for a in (-10, 0, 10) for b in (-10, 0, 10)]
    )
    mixed = Mixup(9, generator=torch.Generator().manual_seed(0))(torch.from_numpy(x), torch.from_numpy(y))
    assert mixed.x.shape == x.shape


def test_parents_are_left_out_of_the_densities_of_the_scheme(monkeypatch):
    seen = []
    original = GenLabel.relabel

    def relabel(self, x, y_mix, gamma=None, parents=None):
        seen.append(self.leave_parents_out and parents is not None)
        return original(self, x, y_mix, gamma, parents)

    monkeypatch.setattr(GenLabel, "relabel", relabel)
    drawn = split(*cube(0), 0)
    name = "GenLabel (CV), parents left out"
    assert np.isfinite(fit_logistic(drawn, [name], alpha=1.0, seed=0, quick=True)[name].test).all()
    n_logistic = len(seen)
    fit_network(drawn, name, Training().quick(), seed=0)
    assert n_logistic < len(seen)
    assert all(seen)


def test_layers_that_make_features_are_in_the_optimizer_once():
    x, target = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    trained = []
    for hides in (False, True):  # the objective as a module that holds the layers, and as a function
        torch.manual_seed(0)
        network, generator = make_network((3, 4, 2)), torch.Generator().manual_seed(0)
        objective = make_objective(
            SCHEMES["GenLabel (GM)"],
            x,
            target,
            2,
            alpha=1.0,
            generator=generator,
            relabeler=Relabeling(2),
            embed=network[:-1],
        )
        settings = {"epochs": 2, "learning_rate": 0.1, "weight_decay": 0.0, "batch_size": 20}
        train(
            network, (lambda *a, o=objective: o(*a)) if hides else objective, x, target, generator=generator, **settings
        )
        trained.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(*trained, rtol=0, atol=0)
