"""How well densities classify rows that they have not seen, before they are fitted to all."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins import classifier_accuracy
from genlabel_plugins.scoring import of_all_rows

N_ROWS = 5_000  # a fifth of them is left out


def held_out_accuracy(relabeler: Any, x: Tensor, target: Tensor, **options: Any) -> float:
    """Accuracy of the generative classifier on a fifth of the rows, by a copy that is fitted to the others.

    Densities are never asked about rows that they were fitted on: a nearest neighbor would answer without fail. One
    copy is fitted, since some densities take long.

    Args:
        relabeler: Relabeler, fitted or not; it stays as it is.
        x: Rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        **options: Options of `fit`.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:N_ROWS].to(x.device)
    n_test = len(order) // 5
    if not n_test:
        return math.nan
    test, train = order[:n_test], order[n_test:]
    fitted = of_all_rows(copy.deepcopy(relabeler)).fit(x[train], target[train], **options)
    return classifier_accuracy(fitted, x[test], target[test], n_folds=None)
