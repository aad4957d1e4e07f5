"""Training all candidates at once, against one plain loop for each, and against training each alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from genlabel_plugins import GenLabel
from genlabel_plugins.selection import _joint_training as joint_training
from genlabel_plugins.selection._epochs import Epochs
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate, candidate_grid

SCHEMES = [
    Candidate(scheme="none", learning_rate=0.1),
    Candidate(scheme="none", learning_rate=0.001),
    Candidate(scheme="mixup", learning_rate=0.1),
    Candidate(scheme="mixup", learning_rate=0.01, keep_clean=True),
    Candidate(scheme="genlabel", backend="gm", gamma=0.7, learning_rate=0.03),
    Candidate(scheme="genlabel", backend="gm", gamma=1.0, learning_rate=0.1, keep_clean=True),
    Candidate(scheme="genlabel", backend="kde", gamma=0.4, learning_rate=0.0001),
]


RATES = (0.1, 0.01, 0.001, 0.0001)


def table(load=load_iris, kept=slice(None), **weights):
    X, y = load(return_X_y=True)
    return TrainingTable.of(torch.from_numpy(X[kept]).double(), torch.from_numpy(y[kept]), **weights)


def plain_loop(table, candidate, options, seed):
    """One network, one candidate, one step after the other, as a tutorial would write it."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (table.x.shape[1], *options.hidden, 3)
    start = StackedNetworks(sizes, 1, [generator]).network(0, 0)
    layers = []
    for weight, bias in zip(*start, strict=True):
        layers += [nn.Linear(*weight.shape), nn.ReLU()]
        layers[-2].load_state_dict({"weight": weight.T, "bias": bias})
    network = nn.Sequential(*layers[:-1])
    adam = torch.optim.Adam(
        network.parameters(), lr=candidate.learning_rate, eps=joint_training.EPS, weight_decay=options.weight_decay
    )
    genlabel = GenLabel(candidate.backend or "gm", gamma=candidate.gamma).fit(table.x, table.target)
    epochs = Epochs(len(table.x), options.batch_size, options.alpha, generator, table.share)
    losses = []
    for _ in range(options.max_epochs):
        for rows, partner, lam, weight in zip(*epochs.draw(1), strict=True):
            kept = weight > 0
            x, y = table.x[rows[kept]], F.one_hot(table.target[rows[kept]], 3).float()
            x_j, y_j = x[partner[kept]], y[partner[kept]]
            x_mix, y_mix = lam.float() * x + (1 - lam.float()) * x_j, lam.float() * y + (1 - lam.float()) * y_j
            clean = F.cross_entropy(network(x), y)
            loss = clean
            if candidate.scheme != "none":
                loss = F.cross_entropy(network(x_mix), genlabel.relabel(x_mix, y_mix))
                loss = (loss + clean) / 2 if candidate.keep_clean else loss
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
    linear = network[::2]
    return [layer.weight.detach().T for layer in linear], [layer.bias.detach() for layer in linear], losses


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_all_at_once_is_a_plain_loop_for_each(hidden):
    n_epochs = 5 if hidden else 15  # layers of ReLU amplify rounding
    options = TrainingOptions(hidden=hidden, max_epochs=n_epochs, batch_size=64, weight_decay=1e-3, alpha=0.7)
    iris, seen = table(), []
    networks = train_jointly([iris], SCHEMES, 3, options, seed=7, on_epoch=lambda _, loss: seen.append(loss))
    losses = torch.stack(seen)[:, 0]  # (epochs, M)
    for m, candidate in enumerate(SCHEMES):
        weights, biases, loss = plain_loop(iris, candidate, options, 7)
        for ours, theirs in zip(networks.network(0, m), (weights, biases), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-4, err_msg=f"{candidate}")
        np.testing.assert_allclose(
            losses[:, m], np.reshape(loss, (n_epochs, 3)).mean(1), atol=1e-5, err_msg=f"{candidate}"
        )


def test_classes_that_weigh_more_are_drawn_as_the_loop_draws_them():
    options = TrainingOptions(max_epochs=10, batch_size=40)
    iris = table(class_weight=torch.tensor([1.0, 3.0, 0.5]))
    networks = train_jointly([iris], SCHEMES[2:3], 3, options, seed=1)
    weights, biases, _ = plain_loop(iris, SCHEMES[2], options, 1)
    np.testing.assert_allclose(networks.network(0, 0)[0][0], weights[0], atol=1e-4)
    np.testing.assert_allclose(networks.network(0, 0)[1][0], biases[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
@pytest.mark.parametrize("hidden", [(), (6,)])
@pytest.mark.parametrize("chunk", [2**22, 1])
def test_company_changes_nothing(monkeypatch, mix, hidden, chunk):
    options = TrainingOptions(mix=mix, hidden=hidden, max_epochs=8, batch_size=50)
    tables = [table(load_wine, slice(n, None)) for n in (0, 3, 20)]  # 178, 175 and 158 rows: four batches an epoch
    candidates = candidate_grid(
        schemes=("none", "mixup", "logistic", "nearest", "genlabel"), gammas=(0.3, 0.9), learning_rates=RATES
    )[::5]
    alone = [[train_jointly([t], [c], 3, options, seed=2).network(0, 0) for c in candidates] for t in tables]
    monkeypatch.setattr(joint_training, "CHUNK_ELEMENTS", chunk)
    together = train_jointly(tables, candidates, 3, options, seed=2)
    for f in range(3):
        for m, candidate in enumerate(candidates):
            for ours, theirs in zip(together.network(f, m), alone[f][m], strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_allclose(a, b, atol=2e-5, err_msg=f"{candidate}")


def test_an_interrupt_amid_a_step_leaves_the_step_out():
    iris, options = table(), TrainingOptions(batch_size=200, max_epochs=9)
    n_steps = 0

    def ctrl_c(*_):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 5:
            raise KeyboardInterrupt

    hook = register_optimizer_step_post_hook(ctrl_c)
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            networks = train_jointly([iris], SCHEMES, 3, options, interruptible=True)
        n_steps = 0
        with pytest.raises(KeyboardInterrupt):
            train_jointly([iris], SCHEMES, 3, options)
    finally:
        hook.remove()
    expected = train_jointly([iris], SCHEMES, 3, TrainingOptions(batch_size=200, max_epochs=4))
    assert torch.equal(networks.weights[0], expected.weights[0])


def test_the_callers_torch_does_not_matter():
    iris, options = table(), TrainingOptions(hidden=(4,), max_epochs=3)
    expected = train_jointly([iris], SCHEMES, 3, options)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            networks = train_jointly([iris], SCHEMES, 3, options)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(networks.weights[0], expected.weights[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
def test_a_gpu_learns_the_same(hidden, mix):
    options = TrainingOptions(mix=mix, hidden=hidden, max_epochs=15)
    X, y = load_iris(return_X_y=True)
    learnt = []
    for device in ("cpu", "cuda"):
        x, target = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
        rows = TrainingTable.of(x, target)
        networks = train_jointly([rows], SCHEMES, 3, options)
        assert networks.weights[0].device.type == device
        learnt.append(networks.cpu()(rows.x.cpu()[None]).softmax(2))
    # Adam divides by gradients that are nearly zero: rounding moves a rate of 0.1 by as much, on one device as well.
    torch.testing.assert_close(*learnt, atol=0.02, rtol=0)
