"""Logistic regressions of all candidates, solved to their minimum together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.selection._candidate_batches import CandidateBatches, MixOptions, policy_of
from genlabel_plugins.selection._softmax_regression import softmax_regressions
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate

MIXED_ROWS, MOST_COPIES = 2000, 10
EXACT, ROUGH = 1e-15, 2e-4  # what a further step would gain, as a share of the loss


def solve_candidates(
    tables: Sequence[TrainingTable],
    candidates: Sequence[Candidate],
    n_classes: int,
    options: MixOptions,
    relabelers: Sequence[Mapping[Any, GenLabel]],
    *,
    seed: int = 0,
    exact: bool = True,
) -> StackedNetworks:
    """Solve the logistic regressions of candidates of kind `"solved"`.

    Rows are mixed once for all candidates, with one `lam` for each row, in as many copies of the table as make 2,000
    rows, at most 10.

    Args:
        tables: Training rows, F tables of about one size; spans of fewer dimensions are filled with zeros.
        candidates: What to solve, M of them.
        n_classes: Number of classes C.
        options: How rows are mixed.
        relabelers: Relabelers fitted to each table, by backend.
        seed: Seed of partners and of `lam`.
        exact: Solve in float64 to the last digits; else in float32, as far as a comparison of candidates needs.

    Returns:
        F x M networks of one layer.

    Example:
        >>> table = TrainingTable.of(torch.tensor([[0.0], [1.0], [4.0], [5.0]]).double(), torch.tensor([0, 0, 1, 1]))
        >>> candidates = [Candidate(scheme="none", C=C) for C in (0.1, 1.0)]
        >>> networks = solve_candidates([table], candidates, 2, MixOptions(), [{}])
        >>> networks(table.x[None].double())[0, :, 1].detach()  # rows, candidates
        tensor([[-0.1070, -0.6167],
                [-0.0642, -0.3700],
                [ 0.0642,  0.3700],
                [ 0.1070,  0.6167]], dtype=torch.float64)
    """
    dtype = torch.float64 if exact else torch.float32
    clean = [_clean_rows(table, n_classes, dtype) for table in tables]
    mixed = [
        _mixed_rows(table, candidates, n_classes, options, torch.Generator().manual_seed(seed), relabelers=fitted)
        for table, fitted in zip(tables, relabelers, strict=True)
    ]
    policies = list(dict.fromkeys(policy_of(candidate) for candidate in candidates if candidate.clean_share < 1))
    generators = [torch.Generator() for _ in tables]
    n_features = max(table.x.shape[1] for table in tables)
    networks = StackedNetworks((n_features, n_classes), len(candidates), generators).to(clean[0][0])
    weights, biases = networks.weights[0].detach(), networks.biases[0].detach()[:, 0]
    # Two classes share the penalty that scikit-learn puts on their difference.
    strictness = (2 if n_classes == 2 else 1) * torch.stack([table.strictness / table.total for table in tables])

    def c_of(m: int) -> float:
        return candidates[m].C

    for clean_share in sorted({candidate.clean_share for candidate in candidates}):
        members = [m for m, candidate in enumerate(candidates) if candidate.clean_share == clean_share]
        ways = list(dict.fromkeys(policy_of(candidates[m]) for m in members))
        ways = ways[:1] if clean_share == 1 else ways  # clean rows are called the same by all
        parts: list[tuple[Tensor, ...]] = []
        for (x, weight, y), (x_mix, weight_mix, y_mix) in zip(clean, mixed, strict=True):
            both = [(x, clean_share * weight, y[..., None].expand(-1, -1, len(ways)))] if clean_share > 0 else []
            if clean_share < 1:
                both.append(
                    (
                        x_mix.to(dtype),
                        (1 - clean_share) * weight_mix.to(dtype) / weight_mix.to(dtype).sum(),
                        y_mix[..., [policies.index(way) for way in ways]].to(dtype),
                    )
                )
            rows, *others = (torch.cat(part) for part in zip(*both, strict=True))
            parts.append((pad(rows, (0, n_features - rows.shape[1])), *others))
        # Along the penalties, mixed rows cost less to solve roughly; all else costs least at once.
        at_once = exact or clean_share == 1
        steps = [members] if at_once else [list(some) for _, some in groupby(sorted(members, key=c_of), key=c_of)]
        stages = []
        for some in steps:
            wanted = [0 if clean_share == 1 else ways.index(policy_of(candidates[m])) for m in some]
            penalty = strictness[:, None] / strictness.new_tensor([candidates[m].C for m in some])
            stages.append((penalty, torch.tensor(wanted, device=strictness.device)))
        x, weight, y = (pad_sequence(list(part), batch_first=True) for part in zip(*parts, strict=True))
        solutions = softmax_regressions(x, weight, y, stages, tol=EXACT if exact else ROUGH)
        for some, (coef, intercept) in zip(steps, solutions, strict=True):
            weights[..., some], biases[..., some] = coef, intercept
    return networks


def _clean_rows(table: TrainingTable, n_classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weights that sum to one, and labels."""
    weight = torch.ones_like(table.scale[0]).expand(len(table.x)) if table.share is None else table.share
    y = one_hot(table.target, n_classes, table.x)
    return table.x.to(dtype), (weight / weight.sum()).to(dtype), y.to(dtype)


def _mixed_rows(
    table: TrainingTable,
    candidates: Sequence[Candidate],
    n_classes: int,
    options: MixOptions,
    generator: torch.Generator,
    *,
    relabelers: Mapping[Any, GenLabel],
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed rows `(R, D)`, weights `(R,)` and labels by all policies, `(R, C, V)`."""
    mixing = [replace(candidate, keep_clean=False) for candidate in candidates if candidate.clean_share < 1]
    if not mixing:
        return table.x[:0], table.x.new_zeros(0), table.x.new_zeros(0, n_classes, 0)
    n_rows = len(table.x)
    options = replace(options, batch_size=n_rows)
    batches = CandidateBatches(table, mixing, n_classes, options, generator, relabelers=relabelers, per_sample=True)
    draws = batches.epochs.draw(max(1, min(MOST_COPIES, math.ceil(MIXED_ROWS / n_rows))))
    copies = batches.label(draws, n_rows)
    return copies.x.flatten(0, 1), copies.weight.flatten(0, 1), copies.y.flatten(0, 1)
