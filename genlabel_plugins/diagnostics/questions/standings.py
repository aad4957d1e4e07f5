"""Which models were found, how good each is, and which is the best of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins.diagnostics.questions._held_out import CLASS_SHARES
from genlabel_plugins.diagnostics.questions.comparison import (
    SCHEME_NAMES,
    SCORES,
    Comparison,
    Estimate,
    Score,
    Setting,
    scheme_is,
)

LEARNT = 0.99  # probability, of the best of several models, from which on it has learnt something
AHEAD = 0.9  # probability from which on one model is told apart from another


class Standing(NamedTuple):
    """Held-out scores of one model; of a scheme, each setting is chosen on other rows than it is scored on.

    Attributes:
        name: Of the model.
        accuracy: Share of held-out rows classified correctly.
        balanced_accuracy: Mean over classes of the share that is found.
        log_loss: Mean of minus the logarithm of the probability given to the true class, in nats.
        setting: Of a scheme, the setting that is best on all rows.
        C: Inverse strength of its penalty.
        rivals: Other models that are not told apart from it with a probability of 0.9; of the best model only.
    """

    name: str
    accuracy: Estimate
    balanced_accuracy: Estimate
    log_loss: Estimate
    setting: Setting | None = None
    C: float | None = None
    rivals: tuple[str, ...] = ()


def standings(comparison: Comparison) -> tuple[Standing, ...]:
    """All models, the most accurate first, of equals the one of less log-loss; the largest class last.

    Where no model beats the largest class, that comes first: there is nothing to learn.
    """
    found = _scores(comparison)
    standing = {}
    for name, each in found.items():
        accuracy, balanced_accuracy, log_loss = (comparison.mean_of(column) for column in each.T)
        standing[name] = Standing(name, accuracy, balanced_accuracy, log_loss, *_setting(comparison, name))
    ranked = sorted(
        (each for name, each in standing.items() if name != CLASS_SHARES),
        key=lambda each: (-round(each.accuracy.mean, 9), each.log_loss.mean),
    )
    if CLASS_SHARES in standing:
        last = standing[CLASS_SHARES]
        if not has_learnt(comparison):
            return (last, *ranked)
        ranked.append(last)
    best = ranked[0]
    rivals = [
        other.name
        for other in ranked[1:]
        if _probability_ahead(comparison, found[best.name], found[other.name], "accuracy") < AHEAD
    ]
    return (best._replace(rivals=tuple(rivals)), *ranked[1:])


def has_learnt(comparison: Comparison) -> bool:
    """Whether some model beats the largest class with a probability of 0.99, by any of the three scores."""
    found = _scores(comparison)
    if CLASS_SHARES not in found:
        return True
    least = found[CLASS_SHARES]
    return any(
        _probability_ahead(comparison, each, least, score) >= LEARNT
        for name, each in found.items()
        if name != CLASS_SHARES
        for score in SCORES
    )


def _scores(comparison: Comparison) -> dict[str, Tensor]:
    """Scores of each model in each split, shapes `(S, 3)`."""
    found = dict(comparison.others)
    for name, (scheme, backend) in _ways(comparison).items():
        wanted = _wants(scheme, backend)
        found[name] = torch.stack([comparison.chosen_elsewhere(wanted, score, "accuracy") for score in SCORES], 1)
    return found


def _ways(comparison: Comparison) -> dict[str, tuple[str, str | None]]:
    """Schemes by name, and each density that classifies alone."""
    ways: dict[str, tuple[str, str | None]] = {}
    for setting in comparison.distinct_settings():
        if setting.scheme == "density":
            ways[str(setting)] = ("density", setting.backend)
        else:
            ways[SCHEME_NAMES[setting.scheme]] = (setting.scheme, None)
    return ways


def _wants(scheme: str, backend: str | None) -> Callable[[Setting], bool]:
    if backend is None:
        return scheme_is(scheme)
    return lambda setting: (setting.scheme, setting.backend) == (scheme, backend)


def _setting(comparison: Comparison, name: str) -> tuple[Setting | None, float | None]:
    if name in comparison.others:
        return None, None
    best = comparison.best(_wants(*_ways(comparison)[name]))
    setting = comparison.settings[best]
    return setting, None if setting.scheme == "density" else comparison.Cs[best]


def _probability_ahead(comparison: Comparison, one: Tensor, other: Tensor, score: Score) -> float:
    n_splits, column = min(len(one), len(other)), SCORES.index(score)
    difference = one[:n_splits, column] - other[:n_splits, column]
    return comparison.probability_positive(-difference if score == "log_loss" else difference)
