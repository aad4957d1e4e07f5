"""Fits candidates of every kind to tables, and predicts other rows with all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.selection._candidate_batches import density_classifier, fit_relabelers
from genlabel_plugins.selection._early_stopping import EarlyStopping, HeldOut
from genlabel_plugins.selection._joint_training import TrainingOptions, train_jointly
from genlabel_plugins.selection._solved_regressions import solve_candidates
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate, Kind

MAX_ELEMENTS = 2**25  # logits, or parameters with their gradients and moments, that are held at a time


def candidate_log_p(
    tables: Sequence[tuple[TrainingTable, HeldOut | None]],
    rows: Sequence[Tensor],
    candidates: Sequence[Candidate],
    n_classes: int,
    options: TrainingOptions,
    *,
    seed: int = 0,
    at_once: int = 2**20,
    verbose: bool = False,
) -> Iterator[tuple[list[int], Iterator[Tensor]]]:
    """Fit candidates to tables and yield log-probabilities of other rows.

    Args:
        tables: Training rows, and those that tell when to stop.
        rows: Rows to predict for each table, in the units of their features, shapes `(B, D)`.
        candidates: What to fit, M of them.
        n_classes: Number of classes C.
        options: What all candidates share.
        seed: Seed of the training.
        at_once: Networks of a table that are fitted at a time.
        verbose: Show a progress bar for each turn.

    Yields:
        Places of some candidates, m of them, and their log-probabilities for each table, shapes `(B, C, m)`.
    """
    backends = list(dict.fromkeys(candidate.backend for candidate in candidates))
    clean = [table for table, _ in tables]
    how = (n_classes, options.priors, seed)
    relabelers = [fit_relabelers(table, backends, *how, **options.left_out) for table in clean]
    x = [table.standardize(part) for table, part in zip(clean, rows, strict=True)]
    for kind in get_args(Kind):
        places = [m for m, candidate in enumerate(candidates) if candidate.kind == kind]
        width = len(places) if kind == "density" else at_once
        for chosen in (places[start : start + width] for start in range(0, len(places), max(1, width))):
            some = [candidates[m] for m in chosen]
            if kind == "density":
                yield (
                    chosen,
                    (
                        density_log_p([fitted[c.backend] for c in some], table, part, n_classes)
                        for fitted, table, part in zip(relabelers, clean, x, strict=True)
                    ),
                )
            else:
                networks = fit_networks(
                    tables, some, n_classes, options, relabelers, seed=seed, exact=False, verbose=verbose
                )
                yield chosen, (network_log_p(networks, place, part) for place, part in enumerate(x))


def fit_networks(
    tables: Sequence[tuple[TrainingTable, HeldOut | None]],
    candidates: Sequence[Candidate],
    n_classes: int,
    options: TrainingOptions,
    relabelers: Sequence[Mapping[Any, GenLabel]] | None = None,
    *,
    seed: int = 0,
    exact: bool = True,
    verbose: bool = False,
) -> StackedNetworks:
    """Solve or train candidates of one kind, `"solved"` or `"trained"`, on each table; rows held out tell when to stop.

    Args are those of `candidate_log_p` and `solve_candidates`.
    """
    clean = [table for table, _ in tables]
    if candidates[0].kind == "solved":
        assert relabelers is not None
        return solve_candidates(clean, candidates, n_classes, options, relabelers, seed=seed, exact=exact)
    held_out = [judges for _, judges in tables if judges is not None]
    stopping = EarlyStopping(options.patience, held_out) if len(held_out) == len(tables) else None
    networks = train_jointly(
        clean,
        candidates,
        n_classes,
        options,
        relabelers,
        seed=seed,
        on_epoch=stopping,
        verbose=verbose,
        description=f"{len(candidates)} candidates, {len(tables)} splits",
    )
    if stopping is not None:
        stopping.restore(networks)
    return networks


@torch.no_grad()
def network_log_p(networks: StackedNetworks, place: int, x: Tensor) -> Tensor:
    """Log-probabilities of rows by all networks of one table, `(B, D) -> (B, C, M)`."""
    one = networks.of_table(place)
    x = pad(x, (0, networks.sizes[0] - x.shape[1]))  # of a span of fewer dimensions
    rows_at_once = max(1, MAX_ELEMENTS // (4 * networks.n_models * sum(networks.sizes[1:])))
    return torch.cat([one(rows[None])[0].log_softmax(1) for rows in x.to(one.weights[0]).split(rows_at_once)])


def density_log_p(relabelers: Sequence[GenLabel], table: TrainingTable, x: Tensor, n_classes: int) -> Tensor:
    """Log-posteriors of rows by class densities, with the class frequencies as priors, `(B, D) -> (B, C, M)`."""
    classifiers = [density_classifier(relabeler, table, n_classes) for relabeler in relabelers]
    return torch.stack([classifier.posterior(x).log() for classifier in classifiers], -1)
