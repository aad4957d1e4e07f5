"""Logistic regressions of all schemes on one split: candidates of all schemes are trained as one tensor program."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlabel_plugins.paper.data import Rows
from genlabel_plugins.paper.schemes import SCHEMES, Scheme, density
from genlabel_plugins.paper.scores import Predictions
from genlabel_plugins.selection import Candidate, candidate_grid, cross_validate, select
from genlabel_plugins.selection._candidate_fits import candidate_log_p
from genlabel_plugins.selection._epochs import count_steps
from genlabel_plugins.selection._joint_training import TrainingOptions
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.search import repeats_for, stratified_splits

N_FOLDS, EPOCHS = 5, 100


def fit_logistic(
    rows: Rows, schemes: Sequence[str], *, alpha: float, seed: int, quick: bool = False
) -> dict[str, Predictions]:
    """Choose among the candidates of each scheme by accuracy in 5 folds, train the chosen ones on all training rows.

    Args:
        rows: Split of a set.
        schemes: Names in `SCHEMES` of what mixes rows, labels them, or is a density.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        seed: Seed of folds and training.
        quick: Fewer epochs, gammas and learning rates.
    """
    found: dict[str, Predictions] = {}
    searched = [name for name in schemes if SCHEMES[name].label == "search"]
    if searched:
        found |= dict.fromkeys(searched, fit_search(rows, alpha=alpha, seed=seed, quick=quick))
    others = sorted((name for name in schemes if name not in searched), key=lambda name: _mixing(SCHEMES[name]))
    for (mix, excludes, leaves), group in groupby(others, key=lambda name: _mixing(SCHEMES[name])):
        options = TrainingOptions(
            mix=mix,
            alpha=alpha,
            exclude_intrusion=excludes,
            leave_parents_out=leaves,
            max_epochs=EPOCHS // 10 if quick else EPOCHS,
        )
        found |= _fit_group(rows, list(group), options, seed=seed, quick=quick)
    return {name: found[name] for name in schemes}


def fit_search(rows: Rows, *, alpha: float, seed: int, quick: bool = False) -> Predictions:
    """This package's own search, as `GenLabelClassifierCV` does it by default: all kinds compete and are stacked."""
    grid = candidate_grid(schemes=("none", "mixup", "genlabel", "density"), gammas=(0.5, 1.0))
    options = TrainingOptions(alpha=alpha)
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
    n_repeats = 1 if quick else repeats_for(len(x))
    cv = cross_validate(x, y, grid, n_repeats=n_repeats, n_classes=rows.n_classes, options=options, seed=seed)
    weight = select(cv, "neg_log_loss", "stack")
    chosen = [(candidate, float(w)) for candidate, w in zip(cv.candidates, weight, strict=True) if w > 0]

    def average(log_p: Tensor) -> Any:
        weights = torch.tensor([w for _, w in chosen]).double()
        return (log_p.exp() @ weights).log().numpy()

    test, held_out, _ = _fit_chosen(rows, [candidate for candidate, _ in chosen], options, seed=seed)
    held = [(average(log_p), y) for log_p, y in held_out]
    return Predictions(average(test), held, None, "; ".join(f"{w:.2f} {candidate}" for candidate, w in chosen[:3]))


def _fit_group(
    rows: Rows, names: Sequence[str], options: TrainingOptions, *, seed: int, quick: bool
) -> dict[str, Predictions]:
    """Schemes that mix alike."""
    grids = {name: SCHEMES[name].candidates(quick=quick) for name in names}
    all_candidates = list(dict.fromkeys(candidate for grid in grids.values() for candidate in grid))
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
    if all(len(grid) == 1 for grid in grids.values()):  # nothing to choose
        chosen = {name: grid[0] for name, grid in grids.items()}
    else:
        cv = cross_validate(x, y, all_candidates, n_folds=N_FOLDS, n_classes=rows.n_classes, options=options, seed=seed)
        accuracy = dict(zip(all_candidates, cv.mean("accuracy").tolist(), strict=True))
        chosen = {name: max(grid, key=accuracy.__getitem__) for name, grid in grids.items()}  # the simplest of several
    candidates = list(dict.fromkeys(chosen.values()))
    test, held_out, train = _fit_chosen(rows, candidates, options, seed=seed)
    found = {}
    for name, candidate in chosen.items():
        place = candidates.index(candidate)
        found[name] = Predictions(
            test[:, :, place].numpy(),
            [(log_p[:, :, place].numpy(), y) for log_p, y in held_out],
            float((train[:, :, place].argmax(1).numpy() == rows.y).mean()),
            _words(candidate),
        )
    return found


def _fit_chosen(
    rows: Rows, candidates: Sequence[Candidate], options: TrainingOptions, *, seed: int
) -> tuple[Tensor, list[tuple[Tensor, Any]], Tensor]:
    """Log-probabilities of test rows, of each fold by fits without it, and of training rows, `(B, C, M)` each."""
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
    folds = stratified_splits(rows.y, N_FOLDS, seed=seed)
    every = np.arange(len(rows.y))
    parts = [(every, torch.cat([torch.from_numpy(rows.x_test), x]))]
    parts += [(train, x[torch.from_numpy(held_out)]) for train, held_out in folds]
    done: dict[int, Tensor] = {}

    def steps(place: int) -> int:
        return count_steps(len(parts[place][0]), options.batch_size)

    for _, alike in groupby(sorted(range(len(parts)), key=steps), key=steps):
        places = list(alike)
        tables = [
            (TrainingTable.of(x[torch.from_numpy(parts[p][0])], y[torch.from_numpy(parts[p][0])]), None) for p in places
        ]
        for p in places:
            done[p] = torch.zeros(len(parts[p][1]), rows.n_classes, len(candidates), dtype=torch.float64)
        fits = candidate_log_p(tables, [parts[p][1] for p in places], candidates, rows.n_classes, options, seed=seed)
        for chosen, log_p in fits:
            for p, part in zip(places, log_p, strict=True):
                done[p][:, :, chosen] = part.double()
    n_test = len(rows.x_test)
    held = [(done[p + 1], rows.y[held_out]) for p, (_, held_out) in enumerate(folds)]
    return done[0][:n_test], held, done[0][n_test:]


def _mixing(scheme: Scheme) -> tuple[str, bool, bool]:
    return scheme.mix, scheme.excludes, scheme.leave_parents_out


def _words(candidate: Candidate) -> str:
    known = ("gm", "kde", "nn", "flow", "quick flow") if candidate.backend is not None else ()
    names = {density(name): name for name in known}
    words = str(candidate)
    return (
        words
        if candidate.backend is None
        else words.replace(type(candidate.backend).__name__, names.get(candidate.backend, "density"), 1)
    )
