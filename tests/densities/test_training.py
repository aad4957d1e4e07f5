import itertools
import sys
import time
import warnings

import pytest
import torch
from torch import nn

from genlabel_plugins import make_backend
from genlabel_plugins.densities._training import hold_out, minibatches, private_rng, progress, train

OPTIONS = {"max_epochs": 200, "patience": 20, "batch_size": 16, "learning_rate": 0.05}


def regression(n_rows=80):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, 2, generator=generator)
    y = x @ torch.tensor([1.0, -2.0]) + 0.5 + 0.1 * torch.randn(n_rows, generator=generator)
    with private_rng(generator):
        model = nn.Linear(2, 1)
    return x, y, model


def seeded():
    return torch.Generator().manual_seed(1)


@pytest.mark.slow
def test_finds_the_least_squares_solution():
    x, y, model = regression()
    rows = torch.arange(80)
    report = train(
        model,
        lambda i: (model(x[i])[:, 0] - y[i]).square().mean(),
        rows,
        rows[:0],
        **OPTIONS | {"batch_size": 80, "max_epochs": 300, "patience": 300},
        generator=seeded(),
    )
    design = torch.cat([x, torch.ones(80, 1)], 1)
    solution = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    found = torch.cat([model.weight[0], model.bias])
    torch.testing.assert_close(found, solution, atol=5e-3, rtol=0)
    assert report.best_loss == pytest.approx(float((design @ solution - y).square().mean()), rel=1e-2)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_keeps_the_best_held_out_state_even_the_initial_one():
    x, _, model = regression()
    before = [parameter.clone() for parameter in model.parameters()]

    def opposed(i):  # what the training rows gain, the held-out rows lose
        return (1 if i.max() < 60 else -1) * model.bias.sum() + 0 * model(x[i]).sum()

    report = train(model, opposed, torch.arange(60), torch.arange(60, 80), **OPTIONS, generator=seeded())
    assert report.best_epoch == 0
    assert report.n_epochs == OPTIONS["patience"]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_equal_generators_give_equal_states_and_leave_the_global_one_alone():
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        x, y, model = regression()

        def loss(i, x=x, y=y, model=model):
            return (model(x[i] + 0.1 * torch.randn(len(i), 2))[:, 0] - y[i]).square().mean()

        train(model, loss, torch.arange(60), torch.arange(60, 80), **OPTIONS, generator=seeded())
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(model.weight)
    assert torch.equal(*weights)


def test_an_interrupt_keeps_the_best_state_and_says_so():
    x, y, model = regression()
    calls = 0

    def loss(i):
        nonlocal calls
        calls += 1
        if calls > 40:
            raise KeyboardInterrupt
        return (model(x[i])[:, 0] - y[i]).square().mean()

    with pytest.warns(UserWarning, match="interrupted in epoch .* the best state, of epoch .*, is kept"):
        report = train(model, loss, torch.arange(60), torch.arange(60, 80), **OPTIONS, generator=seeded())
    assert report.interrupted
    assert 0 < report.best_epoch < report.n_epochs < 20
    assert float((model(x)[:, 0] - y).square().mean()) < float(y.square().mean())


def test_steps_without_a_finite_gradient_are_skipped():
    x, y, model = regression()
    x[5] = torch.nan
    rows = torch.arange(60)
    train(
        model,
        lambda i: (model(x[i])[:, 0] - y[i]).square().mean(),
        rows,
        torch.arange(60, 80),
        **OPTIONS,
        generator=seeded(),
    )
    assert torch.isfinite(model.weight).all()
    assert float((model(x[60:])[:, 0] - y[60:]).square().mean()) < 0.1


def test_hold_out_takes_its_share_of_each_class():
    target = torch.tensor([2] * 50 + [0] * 7 + [1] * 3)
    train_rows, held_out = hold_out(target, 0.2, seeded())
    assert torch.bincount(target[held_out], minlength=3).tolist() == [1, 0, 10]
    assert torch.cat([train_rows, held_out]).sort().values.tolist() == list(range(60))


def test_minibatches_cover_the_rows_but_for_a_small_rest():
    rows = torch.arange(100, 135)
    assert torch.cat(list(minibatches(rows, 16))).tolist() == rows.tolist()
    shuffled = list(minibatches(rows, 16, seeded()))
    assert [len(batch) for batch in shuffled] == [16, 16]
    assert len(torch.cat(shuffled).unique()) == 32
    assert [len(batch) for batch in minibatches(rows[:3], 16, seeded())] == [3]


def test_a_long_training_says_after_one_epoch_how_long(monkeypatch):
    x, _, model = regression()
    rows = torch.arange(80)
    loss = lambda i: model(x[i]).square().mean()  # noqa: E731
    options = OPTIONS | {"max_epochs": 400, "patience": 2, "generator": seeded(), "description": "tiny"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, loss, rows, rows, **options)
    clock = itertools.count(0.0, 30.0)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    match = r"tiny: the first epoch took 30\.0 s, so max_epochs=400 take up to 200 min; verbose=True shows progress"
    with pytest.warns(UserWarning, match=match) as caught:
        train(model.requires_grad_(True), loss, rows, rows, **options)
    assert len(caught) == 1


@pytest.mark.parametrize("backend", ["flow", "vae", "gan"])
def test_every_network_says_how_long(backend, monkeypatch):
    if backend == "flow":
        pytest.importorskip("normflows")
    monkeypatch.setattr("genlabel_plugins.densities._training.LONG", 0.0)
    x, target = torch.randn(60, 2, generator=seeded()), torch.arange(60) % 2
    with pytest.warns(UserWarning, match="the first epoch took"):
        make_backend(backend, max_epochs=2).fit(x, target)


def test_progress_bar_is_shown_on_request_if_installed(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    x, _, model = regression()

    def run():
        options = OPTIONS | {"max_epochs": 2}
        rows = torch.arange(80)
        train(model.requires_grad_(True), lambda i: model(x[i]).square().mean(), rows, rows, **options,
              generator=seeded(), verbose=True, description="tiny")  # fmt: skip
        return capsys.readouterr().err

    assert "tiny" in run()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run() == ""


def test_a_progress_bar_does_not_flood_a_log(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    written = []
    for is_seen in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_seen=is_seen: is_seen, raising=False)
        for _ in progress(range(20), "epochs", verbose=True):
            time.sleep(0.02)
        written.append(capsys.readouterr().err.count("\r"))
    assert written[0] <= 3 < written[1]  # begun, and cleared
