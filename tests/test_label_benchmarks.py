"""Benchmarks of networks and of few labels run, keep what is done, and count right: tiny data, little effort."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from sklearn.datasets import load_digits, load_wine

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("networks", "_network_runs", "few_shot", "_pretrained", "distillation"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path):
    X, y = load_wine(return_X_y=True, as_frame=True)
    (tmp_path / "tabular").mkdir()
    X.iloc[::2, :4].assign(**{"class": y[::2]}).to_csv(tmp_path / "tabular" / "wine.csv.gz", index=False)
    pd.DataFrame({"name": ["wine", "made", "long"], "n_rows": [89, 9, 5000], "simulated": ["no", "yes", "no"]}).to_csv(
        tmp_path / "index.csv", index=False
    )
    return tmp_path


def test_networks_are_measured_once_and_told_apart(benchmarks, data, monkeypatch):
    import _network_runs
    import networks

    effort = _network_runs.Effort((3e-3, 1e-2), (1e-4,), max_epochs=3, n_steps=2)
    monkeypatch.setattr(networks, "MLP", effort)
    monkeypatch.setattr(networks, "TABULAR", effort)
    monkeypatch.setattr(_network_runs, "N_TREES", 10)
    names = networks.suite(data)
    assert names == ["wine"]
    frame = networks.records(data, names, networks.SEEDS[:1], [networks.FOREST, "mlp"], 1)
    lines = networks.RECORDS.read_text().splitlines()
    assert {json.loads(line)["way"] for line in lines} == {*networks.WAYS, networks.FOREST}
    assert ((frame.accuracy > 0.3) & frame.log_loss.between(0, 3) & frame.scaled.between(0, 3)).all()
    monkeypatch.setattr(networks, "run", None)  # nothing is left to run
    again = networks.records(data, names, networks.SEEDS[:1], [networks.FOREST, "mlp"], 1)
    shown = ["way", "chosen", "accuracy", "log_loss", "scaled"]
    pd.testing.assert_frame_equal(again[shown], frame[shown])
    assert "beside no mixing" in networks.page(frame)


def test_a_network_of_the_host_is_measured(benchmarks, data):
    import _network_runs

    effort = _network_runs.Effort((3e-3,), (1e-4,), n_steps=2)
    ways = ["mixup, clean batch"]
    (record, _) = _network_runs.run(data, "wine", 0, model="CategoryEmbedding", titles=ways, effort=effort)
    assert record["setting"] == (3e-3, 1e-4)
    assert 0 < record["log_loss"] < 3


def test_what_trains_together_trains_as_it_would_alone(benchmarks):
    import _network_runs

    X, y = load_wine(return_X_y=True)
    setting = _network_runs.Setting(3e-3, 1e-4)
    jobs = [(way, setting) for way in (_network_runs.NONE, _network_runs.MIXUP, _network_runs.EVIDENCE)]
    effort = _network_runs.Effort(max_epochs=3)
    together = _network_runs.train_mlp(X[::2], y[::2], X, jobs, 3, effort=effort, seed=0)
    for job, p in zip(jobs, together, strict=True):
        alone = _network_runs.train_mlp(X[::2], y[::2], X, [job], 3, effort=effort, seed=0)
        np.testing.assert_allclose(p, alone[0], atol=1e-5)


def test_a_comparison_counts_sets(benchmarks):
    import networks

    a = pd.DataFrame({"accuracy": [0.9, 0.8, 0.7], "log_loss": [0.1, 0.5, 0.6]}, index=list("abc"))
    b = pd.DataFrame({"accuracy": [0.8, 0.8, 0.7], "log_loss": [0.2, 0.6, 0.5]}, index=list("abc"))
    seen = networks.compare(a, b)
    assert seen["lower"] == pytest.approx(200 / 3)
    assert seen["drop"] == pytest.approx(100 * (1 - 1.2 / 1.3))
    assert seen["points"] == pytest.approx(10 / 3)


def test_few_labels_are_measured(benchmarks, monkeypatch):
    import few_shot

    X, y = load_digits(return_X_y=True)
    monkeypatch.setattr(few_shot, "N_TRAIN", 1000)
    rows = few_shot.draw_rows(y, 5, 0)
    assert rows.max() < 1000
    assert (np.bincount(y[rows]) == 5).all()
    accuracy, loss = few_shot.heads(X, y, 5, 0, few_shot.HEADS["GenLabel (gm), clean batch"])
    assert accuracy > 0.7
    assert loss < 1.2
    images = torch.from_numpy(X).float().view(-1, 1, 8, 8) / 16

    def make():
        return timm.create_model("test_resnet", in_chans=1, num_classes=10)

    for way in few_shot.TUNED:
        p = few_shot.fine_tune(
            make, images[rows], torch.from_numpy(y)[rows], images[1500:], way=way, rate=1e-3, seed=0, n_epochs=1
        )
        assert p.shape == (297, 10)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    frame = pd.DataFrame(
        [
            {"part": "heads", "each": 5, "draw": d, "way": w, "accuracy": 0.5, "log_loss": d + (w == "mixup")}
            for d in range(3)
            for w in ("mixup", few_shot.CLEAN)
        ]
    )
    assert "+1.000 ± 0.000" in few_shot.page(frame)


@pytest.mark.slow
def test_rows_of_distillation_are_measured_once(benchmarks, data, monkeypatch, capsys):
    import _network_runs
    import distillation

    monkeypatch.setattr(_network_runs, "N_TREES", 5)
    for name, value in {"EPOCHS": 2, "DECAYS": (1e-4,), "TEMPERATURES": (2.0,)}.items():
        monkeypatch.setattr(distillation, name, value)
    monkeypatch.setattr(sys, "argv", ["distillation.py", "--data", str(data)])
    distillation.main()
    monkeypatch.setattr(distillation, "run", None)  # nothing is left to run
    distillation.main()
    first, again = capsys.readouterr().out.split("1 sets, 1 splits, weight decay and temperature chosen")[1:]
    assert all(way in first for way in distillation.WAYS)
    assert first == again


def test_drawn_rows_are_what_they_are_called(benchmarks):
    import distillation

    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 60)[:, None] * [1.0, 2.0]  # the second column is twice the first
    y = np.eye(2)[np.arange(60) % 2]
    mixed = distillation.mix(x, y, rng)
    np.testing.assert_allclose(mixed.y_mix.sum(1), 1)
    np.testing.assert_allclose(mixed.x[:, 1], 2 * mixed.x[:, 0])
    for draw in (distillation.munge, distillation.gibbs):
        drawn = draw(x, y, rng).x
        assert drawn.shape == (300, 2)
        assert np.abs(drawn[:, 1] - 2 * drawn[:, 0]).max() < 0.8  # a leaf is at most nine rows, 0.3 of the range, wide
        assert (drawn != np.tile(x, (5, 1))).any()
    assert np.isin(drawn, x).all()  # Gibbs sampling draws values of training rows
