"""Writes docs/options.md from the signatures of the doors: `KERAS_BACKEND=torch python docs/make_options.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
from pytorch_tabular.config import TrainerConfig
from timm.data import Mixup as TimmMixup

import genlabel_plugins as core
from genlabel_keras import GenLabelMixUp
from genlabel_pytorch_tabular import GenLabelCallback, GenLabelTrainerConfig
from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV
from genlabel_timm import GenLabelCriterion, GenLabelMixup
from genlabel_transformers import GenLabelTrainer

PAGE = Path(__file__).parent / "options.md"
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
REQUIRED = "required"
PREFIX = "genlabel_"  # of the fields of a config

# A door, and what takes the options that it passes on.
DOORS: dict[str, tuple[Callable[..., Any], ...]] = {
    "GenLabel": (core.GenLabel,),
    "Relabeling": (core.Relabeling,),
    "GenLabelMix": (core.GenLabelMix, core.Mixup),
    "LabeledMix": (core.LabeledMix,),
    "ManifoldMix": (core.ManifoldMix,),
    "RelabelTransform": (core.RelabelTransform,),
    "GenLabelLoss": (core.GenLabelLoss,),
    "GenerativeMix": (core.GenerativeMix, core.GenerativeMixup, core.RatioSearch),
    "GenerativeMixSampler": (core.GenerativeMixSampler,),
    "GenLabelSampler": (core.GenLabelSampler,),
    "timm: GenLabelMixup": (GenLabelMixup, TimmMixup),
    "timm: GenLabelCriterion": (GenLabelCriterion,),
    "Lightning: GenLabelCallback": (GenLabelCallback,),
    "pytorch-tabular: GenLabelTrainerConfig": (GenLabelTrainerConfig,),
    "transformers: GenLabelTrainer": (GenLabelTrainer,),
    "Keras: GenLabelMixUp": (GenLabelMixUp, keras.layers.MixUp),
    "scikit-learn: GenLabelClassifier": (GenLabelClassifier,),
    "scikit-learn: GenLabelClassifierCV": (GenLabelClassifierCV,),
}

# Names under which a door has an option: the idea that they stand for.
SAME = {
    "mixup_alpha": "alpha",
    "num_classes": "n_classes",
    "warmup_steps": "warmup",
    "warmup_epochs": "warmup",
    "gamma_warmup": "warmup",
    "backends": "backend",
    "gammas": "gamma",
    "learning_rates": "learning_rate",
    "Cs": "C",
    "schemes": "scheme",
    "random_state": "generator",
}

WHY = {
    "alpha": "timm calls it `mixup_alpha`, and Keras' layer keeps Keras' own default.",
    "C": "The search takes several.",
    "backend": "The search takes several.",
    "backend_params": "A field of a dataclass cannot hold one dictionary for all: each config has an empty one.",
    "gamma": "The search takes several; None at a door that also takes a relabeler leaves the relabeler its own.",
    "generator": "scikit-learn's estimators take `random_state`, a seed or a generator of NumPy.",
    "head": "A module of the model, or the kind of classifier that scikit-learn's estimators train.",
    "learning_rate": "None solves a logistic head, and is the one that suits others; the search takes several.",
    "mix": "It is required where it is the first argument.",
    "n_classes": "timm calls it `num_classes`, 1000 by default; elsewhere the relabeler or the data tell it.",
    "per_sample": "None leaves it to the kind of mixing: one lam a row for generative mixing, else one a batch.",
    "relabeling": "None stands for Algorithm 3 where the host's model tells the number of classes.",
    "relabeler": "None stands for running class statistics (Algorithm 3), or for no relabeling at all.",
    "scheme": "The search takes several.",
    "space": "Latent where a door knows the model's head by itself.",
    "temperature": "None leaves the relabeler its own.",
    "top_k": "2 is that of Algorithm 3, which follows features; fitted densities keep all classes.",
    "warmup": "Steps, or epochs where the host counts in epochs; None lets the space decide.",
}

HEAD = """# Options of every door

One option has one name and one default at every door, unless the host's own convention says otherwise; the list below
the table says why. A cell holds the default, after the name where the door has its own. "required" has no default; "–"
is no option of the door, often since it belongs to an object that the door is given: gamma, priors, `top_k` and
temperature to a `GenLabel`, alpha and pairing to a mixer. Fields of a config carry the prefix `genlabel_`.

This page is made from the signatures by `KERAS_BACKEND=torch python docs/make_options.py`, and a test says when it is
stale.

"""


class Cell(NamedTuple):
    """An option at one door."""

    name: str
    default: str


def options(door: str) -> dict[str, Cell]:
    """Options of a door by the idea that they stand for."""
    found: dict[str, Cell] = {}
    for name, default in _parameters(DOORS[door]):
        stripped = name.removeprefix(PREFIX)
        found.setdefault(SAME.get(stripped, stripped), Cell(name, default))
    return found


def page() -> str:
    """The page as text."""
    doors = {door: options(door) for door in DOORS}
    ideas = list(dict.fromkeys(idea for found in doors.values() for idea in found))
    optional = {idea for found in doors.values() for idea in found if found[idea].default != REQUIRED}
    ideas = [idea for idea in ideas if idea in optional]  # what every door requires is no option
    ideas.sort(key=lambda idea: -sum(idea in found for found in doors.values()))  # what most doors share comes first
    rows = [f"| {' | '.join(['option', *(f'`{door}`' if ':' not in door else door for door in doors)])} |"]
    rows.append("|---" * (len(doors) + 1) + "|")
    for idea in ideas:
        cells = [_text(idea, found[idea]) if idea in found else "–" for found in doors.values()]
        rows.append(f"| `{idea}` | {' | '.join(cells)} |")
    why = [f"- `{idea}`: {WHY[idea]}" for idea in sorted(ideas) if _differs(idea, doors) and idea in WHY]
    return f"{HEAD}{chr(10).join(rows)}\n\n## Where doors differ, and why\n\n{chr(10).join(why)}\n"


def unexplained() -> list[str]:
    """Options whose name or default differs between doors without a sentence why."""
    doors = {door: options(door) for door in DOORS}
    ideas = {idea for found in doors.values() for idea in found}
    return sorted(idea for idea in ideas if _differs(idea, doors) and idea not in WHY)


def _differs(idea: str, doors: dict[str, dict[str, Cell]]) -> bool:
    cells = {(cell[idea].name.removeprefix(PREFIX), cell[idea].default) for cell in doors.values() if idea in cell}
    return len(cells) > 1


def _parameters(takers: tuple[Callable[..., Any], ...]) -> Iterator[tuple[str, str]]:
    for place, taker in enumerate(takers):
        own = set(inspect.signature(TrainerConfig).parameters) if issubclass(taker, TrainerConfig) else set()
        factories = {field.name: field.default_factory for field in fields(taker)} if is_dataclass(taker) else {}
        for name, parameter in inspect.signature(taker).parameters.items():
            is_given = place > 0 and parameter.default is parameter.empty  # by the door itself
            if name in own or parameter.kind in VARIADIC or is_given:
                continue
            factory = factories.get(name, MISSING)
            yield name, _shown(parameter.default if factory is MISSING else factory())


def _shown(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return REQUIRED
    text = getattr(default, "__name__", None) or repr(default).replace("'", '"')
    return f"`{text}`"


def _text(idea: str, cell: Cell) -> str:
    if cell.name.removeprefix(PREFIX) == idea:
        return cell.default
    return f"`{cell.name}` {cell.default}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
