"""diagnose: all that bears on whether to mix the rows of a table, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from genlabel_plugins._interrupts import noted_interrupts
from genlabel_plugins.densities.registry import list_backends
from genlabel_plugins.diagnostics.questions._folds import is_ordered
from genlabel_plugins.diagnostics.questions._interrupts import OutOfTimeError, TimeLimit, deadline
from genlabel_plugins.diagnostics.questions._repeated_folds import compare_in_blocks, compare_yardsticks, next_repeat
from genlabel_plugins.diagnostics.questions.comparison import Comparison
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit, fit_backend, is_trained
from genlabel_plugins.diagnostics.questions.projection import Projection, make_projection
from genlabel_plugins.diagnostics.questions.recommendation import Recommendation, recommend
from genlabel_plugins.diagnostics.questions.standings import Standing, standings
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable, brief
from genlabel_plugins.mixing.intrusion import IntrusionRates, intrusion_rates

COMPARED = ("gm", "kde")  # GenLabel (CV) of the paper chooses between these
SLOW = ("vae", "flow", "gan")  # the fastest first
N_REPEATS = 3


@dataclass(frozen=True)
class Diagnosis:
    """What is known about a table; None and absent entries are not known yet, or not at all.

    Attributes:
        table: Rows and classes.
        intrusion: How often mixup lands on a class that was not mixed, per pair of classes.
        fits: Held-out quality of backends, by name.
        comparison: Cross-validated scores of no mixing, mixup, GenLabel and other models.
        blocks: The same in blocks of consecutive rows, where these resemble each other.
        standings: All models that were compared, the best first.
        recommendation: What to do.
        projection: A picture's worth of mixed rows and labels.
        skipped: Why a step was left out, by its title.
        missing: Titles of the steps that are yet to come.
        interrupted: Whether Ctrl-C ended the diagnosis.
        seconds: Time taken so far.
    """

    table: LabeledTable
    intrusion: IntrusionRates | None = None
    fits: Mapping[str, BackendFit] = field(default_factory=dict)
    comparison: Comparison | None = None
    blocks: Comparison | None = None
    standings: tuple[Standing, ...] = ()
    recommendation: Recommendation | None = None
    projection: Projection | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    interrupted: bool = False
    seconds: float = 0.0


class Step(NamedTuple):
    """One piece of work.

    Attributes:
        title: What it does.
        run: From what is known to the attributes that it adds or replaces.
        is_extra: Whether it is left out when time is short.
        instead: What is done in its place when time is up: the least that is asked for.
    """

    title: str
    run: Callable[[Diagnosis], dict[str, Any]]
    is_extra: bool = False
    instead: Callable[[Diagnosis], dict[str, Any]] | None = None


def diagnose(
    table: LabeledTable,
    *,
    backends: Sequence[str] | None = None,
    seed: int = 0,
    time_limit: float = 45.0,
    spent: float = 0.0,
    on_step: Callable[[Diagnosis], None] | None = None,
) -> Diagnosis:
    """Diagnose a table: intrusion, densities, a cross-validated comparison, a recommendation, a picture.

    What decides comes first; backends that train networks come last. A step that fails costs an entry in `skipped` and
    nothing else. Ctrl-C ends the diagnosis and keeps what is known.

    Args:
        table: Rows and classes.
        backends: Names of the densities to score; by default all that are registered and need no training. GenLabel is
            compared with `gm`, `kde` and whichever others are named here and need no training.
        seed: Seed of folds, mixed rows and training.
        time_limit: Seconds within which all must be done: what is not done by then is left out, and said. 0 leaves out
            all that is optional, such as repeats of the comparison, and takes the time that the rest needs. Whatever
            it is, logistic regression is compared with the largest class.
        spent: Seconds of these that have passed already, such as on reading the table.
        on_step: Called before each step that there is time for and after the last, with what is known; `missing[0]` is
            the step to come.

    Returns:
        What is known in the end.

    Raises:
        ValueError: If a backend is not registered, none is named, or `time_limit` or `spent` is negative.

    Example:
        >>> x = torch.cat([torch.randn(30, 2), torch.randn(30, 2) + 9])
        >>> diagnosis = diagnose(LabeledTable(x, torch.arange(60) // 30), backends=["gm"], time_limit=0)
        >>> diagnosis.fits["gm"].accuracy, diagnosis.recommendation.verdict
        (1.0, 'No need to mix')
    """
    if not time_limit >= 0:
        raise ValueError(f"time_limit must be seconds from 0, got {time_limit}")
    if not spent >= 0:
        raise ValueError(f"spent must be seconds from 0, got {spent}")
    limit = TimeLimit(time_limit, spent)
    steps = plan(backends, seed, table)
    diagnosis, late = Diagnosis(table), f"not done within {time_limit:.3g} s"
    with noted_interrupts() as interrupts:
        try:
            for place, step in enumerate(steps):
                missing = tuple(later.title for later in steps[place:])
                diagnosis = replace(diagnosis, missing=missing, seconds=limit.passed())
                if on_step and limit.left(is_extra=step.is_extra) > 0:
                    on_step(diagnosis)
                try:
                    known = _in_time(step, diagnosis, limit.left(is_extra=step.is_extra))
                    if (comparison := known.get("comparison")) and comparison.left_out:
                        known["skipped"] = {**diagnosis.skipped, step.title: f"{late}: {comparison.left_out}"}
                except OutOfTimeError:
                    known = step.instead(diagnosis) if step.instead else {}
                    known["skipped"] = {**diagnosis.skipped, step.title: late}
                except Exception as error:  # a backend may be anybody's
                    known = {"skipped": {**diagnosis.skipped, step.title: brief(error)}}
                if interrupts.arrived:  # and a training swallowed it
                    raise KeyboardInterrupt
                diagnosis = replace(diagnosis, **known)
            diagnosis = replace(diagnosis, missing=())
        except KeyboardInterrupt:
            diagnosis = replace(diagnosis, interrupted=True)
    diagnosis = replace(diagnosis, seconds=limit.passed())
    if on_step:
        on_step(diagnosis)
    return diagnosis


def plan(backends: Sequence[str] | None = None, seed: int = 0, table: LabeledTable | None = None) -> list[Step]:
    """Steps of a diagnosis in their order, for a certain table or any.

    Raises:
        ValueError: If a backend is not registered, or none is named.

    Example:
        >>> [step.title for step in plan(["gm"])][:3]
        ['intrusion per pair of classes', 'backend gm', 'comparison 1 of 3']
    """
    known = list_backends()
    names = list(dict.fromkeys(known if backends is None else backends))
    if not names:
        raise ValueError(f"backends must name at least one of {known}")
    for name in names:
        if name not in known:
            raise ValueError(f"backend must be one of {known}, got {name!r}")
    slow = [name for name in names if _is_slow(name)]
    fast = [name for name in names if name not in slow]
    if backends is None:
        slow = []  # they take longer than all else, and bear on nothing else
    slow.sort(key=lambda name: SLOW.index(name) if name in SLOW else len(SLOW))
    added = [name for name in fast if backends is not None and name not in (*COMPARED, "mixed_types")]
    compared = (*COMPARED, *added)
    alone = tuple(dict.fromkeys((*compared, *(name for name in fast if name != "mixed_types"))))
    options: dict[str, Any] = {"backends": compared, "densities": alone, "seed": seed}
    compare = partial(_compare, **options)
    in_time = table is not None and table.time is not None
    n_repeats = 1 if in_time else N_REPEATS  # time has one order
    is_plain = table is not None and table.time is None and table.groups is None
    is_series = table is not None and is_plain and is_ordered(table.standardized(), table.target)
    in_blocks = Step("comparison in blocks", partial(_compare_in_blocks, **options), is_extra=True)
    return [
        Step("intrusion per pair of classes", partial(_intrusion, seed=seed)),
        *(Step(f"backend {name}", partial(_fit, name=name, seed=seed)) for name in fast),
        Step(f"comparison 1 of {n_repeats}", compare, instead=partial(_compare_yardsticks, seed=seed)),
        *(Step(f"comparison {r} of {n_repeats}", compare, is_extra=True) for r in range(2, n_repeats + 1)),
        *([in_blocks] if is_series else []),
        Step("picture", partial(_projection, seed=seed)),
        *(Step(f"backend {name}", partial(_fit, name=name, seed=seed), is_extra=True) for name in slow),
    ]


def _intrusion(diagnosis: Diagnosis, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {"intrusion": intrusion_rates(diagnosis.table.standardized(), diagnosis.table.target, generator=generator)}


def _fit(diagnosis: Diagnosis, name: str, seed: int) -> dict[str, Any]:
    fits = {**diagnosis.fits, name: fit_backend(name, diagnosis.table, seed=seed)}
    return {"fits": fits, **_advice(replace(diagnosis, fits=fits))}


def _compare(diagnosis: Diagnosis, **options: Any) -> dict[str, Any]:
    comparison = next_repeat(diagnosis.table, diagnosis.comparison, **options)
    return {"comparison": comparison, **_advice(replace(diagnosis, comparison=comparison))}


def _compare_yardsticks(diagnosis: Diagnosis, seed: int) -> dict[str, Any]:
    comparison = compare_yardsticks(diagnosis.table, seed)
    return {"comparison": comparison, **_advice(replace(diagnosis, comparison=comparison))}


def _compare_in_blocks(diagnosis: Diagnosis, **options: Any) -> dict[str, Any]:
    blocks = compare_in_blocks(diagnosis.table, **options)
    return {"blocks": blocks, **_advice(replace(diagnosis, blocks=blocks))}


def _advice(known: Diagnosis) -> dict[str, Any]:
    if known.comparison is None:
        return {}
    found: dict[str, Any] = {"standings": standings(known.comparison)}
    if known.comparison.settings:
        found["recommendation"] = recommend(known.table, known.comparison, known.fits, known.blocks)
    return found


def _projection(diagnosis: Diagnosis, seed: int) -> dict[str, Any]:
    advised = diagnosis.recommendation.setting.backend if diagnosis.recommendation else None
    fits = {name: fit.accuracy for name, fit in diagnosis.fits.items() if name in COMPARED}
    backend = advised or max(fits, key=lambda name: fits[name], default="gm")
    return {"projection": make_projection(diagnosis.table, backend, seed=seed)}


def _is_slow(name: str) -> bool:
    try:
        return is_trained(name)
    except Exception:  # it will say so when its turn comes
        return False


def _in_time(step: Step, diagnosis: Diagnosis, time_left: float) -> dict[str, Any]:
    if time_left <= 0:
        raise OutOfTimeError
    if math.isinf(time_left):
        return step.run(diagnosis)
    with deadline(time_left):
        return step.run(diagnosis)
