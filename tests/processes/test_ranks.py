"""Ranks together give what one process gives on the joined batch, at every door that trains on several."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from timm.data import Mixup
from torch import nn

pytestmark = pytest.mark.slow

DIGITS = torch.as_tensor(load_digits().target)
SCRIPT = Path(__file__).parent / "rank_runs.py"
ANY = ["plain loop", "a class missing on a rank", "uneven batches", "timm, criterion"]
JOINT = [*ANY, "Lightning, Algorithm 3", "pytorch-tabular, Algorithm 3"]
ON_TWO = [
    "plain loop, keep_clean",
    "plain loop, relabeled while mixing",
    "no_sync",
    "static graph",
    "find_unused_parameters",
    "torch.compile",
    "timm, mixer alone",
    "timm, criterion, keep_clean",
    "timm, prefetching loader",
]
SHARDED = pytest.mark.newer_torch(2, 7)  # FSDP2 on a CPU
FITTED = ["Lightning, Algorithm 1", "Lightning, Algorithm 2", "pytorch-tabular, Algorithm 1"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, SCRIPT, folder]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr

    def ranks_of(name, world):
        files = [torch.load(folder / f"{world}-{rank}.pt", weights_only=False) for rank in range(world)]
        failed = [file[name]["said"] for file in files if "Traceback" in str(file[name]["said"])]
        assert not failed, failed[0]
        return [file[name] for file in files]

    return ranks_of


def close(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def joined(ranks):
    """The calls of all ranks, with their rows joined."""
    for calls in zip(*(rank["calls"] for rank in ranks), strict=True):
        assert len({frozenset(call) for call in calls}) == 1
        yield {name: torch.cat([call[name] for call in calls]) for name in calls[0]}


@pytest.mark.parametrize(
    ("name", "world"),
    [(name, world) for name in JOINT for world in (1, 2, 4)]
    + [(name, 2) for name in ON_TWO]
    + [pytest.param("FSDP2", 2, marks=SHARDED)],
)
def test_labels_are_those_of_one_process_on_the_joined_batch(results, name, world):
    ranks = results(name, world)
    alone = copy.deepcopy(ranks[0]["relabeling"])
    assert alone.joint
    n_observed = n_labeled = 0
    for call in joined(ranks):
        if "target" in call:
            alone.observe(call["features"], call["target"])
            n_observed += 1
        else:
            close(alone.label(call["features"], call["y_lin"], call["mixed"]), call["y"])
            n_labeled += 1
    assert n_observed == n_labeled >= 3
    for rank in ranks[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(rank["weights"], ranks[0]["weights"], strict=True))


@pytest.mark.parametrize("name", FITTED)
def test_fitted_densities_are_those_of_one_process(results, name):
    (alone,) = results(name, 1)
    rows = alone["calls"][0]["features"]
    expected = alone["relabeling"].relabeler.log_prob(rows)
    for world in (2, 4):
        ranks = results(name, world)
        for rank in ranks:
            close(rank["relabeling"].relabeler.log_prob(rows), expected)
        for call in joined(ranks):
            label = ranks[0]["relabeling"].label(call["features"], call["y_lin"], call["mixed"])
            close(label, call["y"])


@pytest.mark.parametrize("name", ["plain loop", "plain loop, keep_clean", pytest.param("FSDP2", marks=SHARDED)])
def test_gradients_are_those_of_one_process_on_the_joined_batch(results, name):
    ranks = results(name, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(13, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    labels = torch.cat([next(call["y"] for call in rank["calls"] if "y" in call) for rank in ranks])
    nn.functional.cross_entropy(model(torch.cat([rank["rows"][0] for rank in ranks])), labels).backward()
    for rank in ranks:
        for gradient, parameter in zip(rank["gradients"][0], model.parameters(), strict=True):
            close(gradient, parameter.grad)


def test_draws_differ_by_rank_and_follow_from_its_seed(results):
    for rank, result in enumerate(results("timm, criterion", 2)):
        np.random.seed(5 + rank)  # noqa: NPY002  # as timm seeds a rank
        mixer = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)
        with torch.random.fork_rng():
            for i, y in enumerate(result["drawn"]):
                rows = torch.arange(32).reshape(2, -1)[rank] + 32 * i
                close(mixer(torch.zeros(16, 3, 32, 32), DIGITS[rows])[1].double(), y.double())
    for name in ("plain loop", "timm, criterion", "timm, prefetching loader", "Lightning, Algorithm 3"):
        labels = [[call for call in rank["calls"] if "y" in call][-1]["y_lin"] for rank in results(name, 2)]
        weights = [sorted(set(y.flatten().tolist()) - {0.0, 1.0}) for y in labels]
        assert weights[0] != weights[1]


def test_ranks_see_clean_rows_of_their_own(results):
    first, second = (
        [call["target"] for call in rank["calls"] if "target" in call]
        for rank in results("timm, prefetching loader", 2)
    )
    assert not all(torch.equal(mine, yours) for mine, yours in zip(first, second, strict=True))


def test_join_is_refused_in_one_sentence_and_goes_with_fitted_densities(results):
    for rank in results("join", 2):
        fitted, *refused = rank["said"]
        assert fitted == "went through"
        assert len(refused) == 3
        assert all("ddp.join() cannot go with class statistics" in sentence for sentence in refused)
