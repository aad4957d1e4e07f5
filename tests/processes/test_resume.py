"""A training that was killed by `kill -9` and resumed has the labels of one that never stopped, at every door."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "resumed_runs.py"
NAMES = [
    "plain loop, Algorithm 3",
    "plain loop, Algorithm 1",
    "plain loop, workers",
    "plain loop, a worker killed",
    "timm, prefetching loader",
    "timm, prefetching loader, workers",
    "timm, plain loader",
    "timm, plain loader, workers",
    "Lightning in an epoch, Algorithm 1",
    "Lightning in an epoch, Algorithm 2",
    "Lightning in an epoch, Algorithm 3",
    "Lightning at the end of an epoch, Algorithm 3",
    "pytorch-tabular in an epoch",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, SCRIPT, folder]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "results.pt") | {"said": done.stderr}


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_and_resumed_run_has_the_labels_of_one_that_never_stopped(runs, name):
    run = runs[name]
    worker = name == "plain loop, a worker killed"  # of a loader, which costs its process an error
    assert run["codes"] == [0, 1 if worker else -9, 0], runs["said"]
    assert not worker or re.search("DataLoader worker.*(killed|exited unexpectedly)", runs["said"])
    whole, resumed = run["seen"]
    assert 0 < resumed["first"] <= run["kill_at"]
    rest = whole["labels"][resumed["first"] :]
    assert 0 < len(rest) == len(resumed["labels"])
    assert any(label.ndim == 2 and (label.amax(1) < 0.95).any() for label in rest)  # mixed
    assert all(torch.equal(left, right) for left, right in zip(rest, resumed["labels"], strict=True))


def test_no_run_is_left_out(runs):
    assert runs.keys() - {"said"} == set(NAMES)
