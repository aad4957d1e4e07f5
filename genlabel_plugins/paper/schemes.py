"""Schemes: what the tables of the paper compare, each a line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from genlabel_plugins.densities import make_backend
from genlabel_plugins.selection import Candidate, candidate_grid

GAMMAS = (0.2, 0.4, 0.6, 0.8, 1.0)
LEARNING_RATES = (0.1, 0.01, 0.001, 0.0001)
Label = Literal["none", "mixup", "logistic", "genlabel", "density", "adamixup", "search"]
Mix = Literal["mixup", "column_cutmix", "manifold"]


@dataclass(frozen=True)
class Scheme:
    """How a classifier is trained.

    Args:
        label: What a mixed row is called; `"none"` mixes nothing, `"density"` trains nothing, `"adamixup"` learns what
            to mix, `"search"` is this package's own cross-validation.
        backends: Densities of `"genlabel"` and `"density"`, of which cross-validation takes one.
        mix: How rows are mixed.
        excludes: Leave mixed rows that intrude out of the loss.
        keep_clean: Keep the loss on the clean batch.
        no_mixing: Let no mixing compete.
        leave_parents_out: Label mixed rows by densities without the two rows that each is of.
    """

    label: Label
    backends: tuple[str, ...] = ()
    mix: Mix = "mixup"
    excludes: bool = False
    keep_clean: bool = False
    no_mixing: bool = False
    leave_parents_out: bool = False

    def candidates(self, *, quick: bool = False) -> list[Candidate]:
        """What the paper's cross-validation chooses from: trust, density and learning rate."""
        gammas, rates = ((0.5, 1.0), LEARNING_RATES[:1]) if quick else (GAMMAS, LEARNING_RATES)
        schemes: tuple[Any, ...] = (self.label,)
        if self.label == "genlabel":
            schemes = (*(["none"] if self.no_mixing else []), "mixup", "genlabel")  # a gamma of zero is mixup
        return candidate_grid(
            schemes=schemes,
            backends=tuple(density("quick flow" if quick and name == "flow" else name) for name in self.backends),
            gammas=gammas,
            learning_rates=rates,
            keep_clean=self.keep_clean,
        )


SCHEMES = {
    "vanilla": Scheme("none"),
    "mixup": Scheme("mixup"),
    "AdaMixUp": Scheme("adamixup"),
    "mixup without intrusion": Scheme("mixup", excludes=True),
    "generative classifier (GM)": Scheme("density", ("gm",)),
    "generative classifier (KDE)": Scheme("density", ("kde",)),
    "logistic label without intrusion": Scheme("logistic", excludes=True),
    "RegMixup": Scheme("mixup", keep_clean=True),
    "CutMix": Scheme("mixup", mix="column_cutmix"),
    "CutMix + GenLabel": Scheme("genlabel", ("gm", "kde"), mix="column_cutmix"),
    "manifold mixup": Scheme("mixup", mix="manifold"),
    "manifold mixup + GenLabel": Scheme("genlabel", ("gm",), mix="manifold"),
    "GenLabel (GM)": Scheme("genlabel", ("gm",)),
    "GenLabel (KDE)": Scheme("genlabel", ("kde",)),
    "GenLabel (NN)": Scheme("genlabel", ("nn",)),
    "GenLabel (CV)": Scheme("genlabel", ("gm", "kde")),
    "GenLabel (CV), clean batch kept": Scheme("genlabel", ("gm", "kde"), keep_clean=True),
    "GenLabel (CV), no mixing competes": Scheme("genlabel", ("gm", "kde"), no_mixing=True),
    "GenLabel (CV), parents left out": Scheme("genlabel", ("gm", "kde"), leave_parents_out=True),
    "GenLabel (flow)": Scheme("genlabel", ("flow",)),
    "ours": Scheme("search"),
}


@cache
def density(name: str) -> Any:
    """A density as the paper has it, whatever this package's defaults are: nothing shrunk, nothing toned down.

    The paper adds 1e-4 to the variances of GM and 1e-8 to those of KDE; features have unit variance here, and a share
    of each class variance is added instead.

    Example:
        >>> density("gm").shrinkage, density("kde").bandwidth, density("nn").n_neighbors
        (0.0, 'scott', 1)
    """
    options: dict[str, dict[str, Any]] = {
        "gm": {"covariance_type": "full", "n_components": 1, "shrinkage": 0.0, "reg_covar": 1e-4},
        "kde": {"bandwidth": "scott", "shrinkage": 0.0, "reg_covar": 1e-8},
        "nn": {"n_neighbors": 1},
        "quick flow": {"max_epochs": 3},
    }
    return make_backend(name.removeprefix("quick "), **options.get(name, {}))
