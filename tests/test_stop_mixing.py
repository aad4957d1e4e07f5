"""Late epochs on clean rows: from the epoch, or the share of epochs, that `stop_mixing` names."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from genlabel_plugins._checks import check_stop_mixing, first_clean_epoch
from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.selection import Candidate
from genlabel_plugins.selection._candidate_batches import CandidateBatches
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_sklearn import GenLabelClassifier


@pytest.mark.parametrize("value", [0, -1, 0.0, 1.5, True, "3", float("nan"), float("inf")])
def test_what_is_neither_an_epoch_nor_a_share_is_named(value):
    with pytest.raises(ValueError, match=r"^stop_mixing must be None, a whole epoch"):
        check_stop_mixing(value)


def test_an_epoch_and_a_share_say_when():
    assert [first_clean_epoch(stop, 10) for stop in (3, 4.0, 0.75, 0.99)] == [3, 4, 8, 10]
    with pytest.raises(ValueError, match="whose number must be set"):
        first_clean_epoch(0.5, None)


def test_rows_and_labels_are_clean_from_then_on_and_the_same_before(monkeypatch):
    X, y = load_wine(return_X_y=True)
    table = TrainingTable.of(torch.from_numpy(X), torch.from_numpy(y))
    candidates = [Candidate(scheme="genlabel", backend="gm", gamma=1.0, learning_rate=0.01)]
    seen = []
    original = CandidateBatches.label

    def label(self, draws, width):
        seen.append(original(self, draws, width))
        return seen[-1]

    monkeypatch.setattr(CandidateBatches, "label", label)
    chunks = {}
    for stop in (None, 2):
        seen.clear()
        options = TrainingOptions(max_epochs=4, batch_size=64, stop_mixing=stop)
        train_jointly([table], candidates, 3, options, seed=0)
        chunks[stop] = [torch.cat([getattr(batch, part) for batch in seen]) for part in ("x", "y", "weight")]
    (x, y_gen, _), (x_stopped, y_stopped, weight) = chunks[None], chunks[2]
    steps = 3  # of an epoch
    torch.testing.assert_close(x[: 2 * steps], x_stopped[: 2 * steps])
    torch.testing.assert_close(y_gen[: 2 * steps], y_stopped[: 2 * steps])
    rows, labels = x_stopped[2 * steps : 4 * steps], y_stopped[2 * steps : 4 * steps, :, :, 0]
    real = weight[2 * steps : 4 * steps] > 0
    place = torch.cdist(rows[real], table.x).argmin(1)
    torch.testing.assert_close(rows[real], table.x[place])
    torch.testing.assert_close(labels[real], one_hot(table.target[place], 3, table.x))


def test_the_classifiers_take_it():
    X, y = load_wine(return_X_y=True)
    how = {"head": "mlp", "max_epochs": 6, "early_stopping": False, "random_state": 0, "learning_rate": 0.05}
    to_the_end, stopped, never = (
        GenLabelClassifier(**how, **options).fit(X, y).predict_proba(X)
        for options in ({}, {"stop_mixing": 0.5}, {"stop_mixing": 6})
    )
    np.testing.assert_allclose(never, to_the_end, atol=1e-7)
    assert np.abs(stopped - to_the_end).max() > 1e-3
    with pytest.raises(ValueError, match="stop_mixing must be None"):
        GenLabelClassifier(stop_mixing=-1).fit(X, y)
