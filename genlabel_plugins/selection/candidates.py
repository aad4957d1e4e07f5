"""Candidates: the ways to train a classifier that selection chooses between."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from genlabel_plugins.densities import list_backends

Scheme = Literal["none", "mixup", "logistic", "nearest", "genlabel", "density"]
Kind = Literal["density", "solved", "trained"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_EXAMPLES = {
    "schemes": ("none", "mixup"),
    "backends": ("gm", "kde"),
    "gammas": (0.2, 0.8),
    "Cs": (0.1, 1.0),
    "learning_rates": (0.1, 0.01),
}
CS = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to train a classifier.

    Args:
        scheme: `"none"` trains on clean rows; the others mix rows and label them linearly (`"mixup"`), by a
            logistic turn (`"logistic"`), by the nearest training row (`"nearest"`) or by the posterior of class
            densities (`"genlabel"`). `"density"` trains nothing: the posterior itself is the classifier.
        backend: Density of `"genlabel"` and `"density"`, a name or an object with `fit` and `log_prob`.
        gamma: Trust in the posterior of `"genlabel"`, in [0, 1].
        keep_clean: Average the loss on the mixed rows with the loss on the clean ones.
        C: Inverse strength of the penalty on squared coefficients, in the units of scikit-learn's
            `LogisticRegression`, for a logistic regression that is solved to its minimum.
        learning_rate: Step size of Adam instead, for a network that is trained for some epochs; None solves.

    Raises:
        ValueError: On an unknown scheme or a number out of range.
        TypeError: If a scheme that needs densities comes without a backend.

    Example:
        >>> str(Candidate(scheme="genlabel", backend="gm", gamma=0.8, C=0.1))
        'genlabel gm, gamma 0.8, C 0.1'
    """

    scheme: Scheme
    backend: Any = None
    gamma: float = 0.0
    keep_clean: bool = False
    C: float = 1.0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {SCHEMES}, got {self.scheme!r}")
        if self.scheme in ("genlabel", "density") and self.backend is None:
            raise TypeError(f"scheme {self.scheme!r} needs a backend, got None")
        if not isinstance(self.backend, Hashable):
            raise TypeError(f"backend must be a name or a hashable object, got {type(self.backend).__name__}")
        if isinstance(self.backend, str) and self.backend not in list_backends():
            raise ValueError(f"backend must be one of {list_backends()}, got {self.backend!r}")
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma <= 1):
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma!r}")
        for name in ("C", "learning_rate"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < value < math.inf) and (name, value) != ("learning_rate", None):
                raise ValueError(f"{name} must be a positive number, got {value!r}")

    @property
    def kind(self) -> Kind:
        """How it is fitted: not at all, as a convex problem that is solved, or as a network trained step by step."""
        if self.scheme == "density":
            return "density"
        return "solved" if self.learning_rate is None else "trained"

    @property
    def clean_share(self) -> float:
        """Share of the clean rows in the loss; the mixed ones have the rest."""
        return 1.0 if self.scheme == "none" else 0.5 * self.keep_clean

    def __str__(self) -> str:
        parts = [self.scheme if self.backend is None else f"{self.scheme} {_name(self.backend)}"]
        if self.scheme == "genlabel":
            parts.append(f"gamma {self.gamma:g}")
        if self.keep_clean:
            parts.append("clean batch kept")
        if self.kind == "solved":
            parts.append(f"C {self.C:g}")
        if self.learning_rate is not None:
            parts.append(f"learning rate {self.learning_rate:g}")
        return ", ".join(parts)


def candidate_grid(
    *,
    schemes: Sequence[Scheme] = ("none", "mixup", "genlabel"),
    backends: Sequence[Any] = ("gm", "kde"),
    gammas: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    Cs: Sequence[float] = CS,
    learning_rates: Sequence[float] | None = None,
    keep_clean: bool = False,
) -> list[Candidate]:
    """Every combination that the schemes have, the simpler ones first: ties in selection go to the first.

    Args:
        schemes: Schemes that compete, from the simplest on.
        backends: Densities of the schemes that need one.
        gammas: Trusts in the posterior; 0 is plain mixup.
        Cs: Inverse strengths of the penalty, of logistic regressions that are solved.
        learning_rates: Step sizes of Adam in their place, of networks that are trained.
        keep_clean: Keep the loss on the clean rows, where a scheme mixes.

    Raises:
        ValueError: If nothing is left to choose from for a scheme, or on a value that `Candidate` refuses.

    Example:
        >>> [str(candidate) for candidate in candidate_grid(backends=("gm",), gammas=(0.5,), Cs=(0.1,))]
        ['none, C 0.1', 'mixup, C 0.1', 'genlabel gm, gamma 0.5, C 0.1']
    """
    choices: dict[str, Sequence[Any]] = {"schemes": schemes, "backends": backends, "gammas": gammas}
    choices |= {"Cs": Cs} if learning_rates is None else {"learning_rates": learning_rates}
    for name, values in choices.items():
        if isinstance(values, str) or not isinstance(values, Collection):
            raise ValueError(f"{name} must be a sequence, such as {_EXAMPLES[name]}, got {values!r}")
    listed = ", ".join(f"{name} {tuple(values)}" for name, values in choices.items())
    if not len(schemes):
        raise ValueError(f"nothing to choose from: got {listed}")
    grid: list[Candidate] = []
    for scheme in schemes:
        ways: list[dict[str, float]] = [{}]
        if scheme != "density":
            ways = [{"C": C} for C in Cs] if learning_rates is None else [{"learning_rate": r} for r in learning_rates]
        trusts = sorted(gammas) if scheme == "genlabel" else (0.0,)
        densities = backends if scheme in ("genlabel", "density") else (None,)
        mixes = scheme not in ("none", "density")
        found = [
            Candidate(scheme=scheme, backend=backend, gamma=gamma, keep_clean=keep_clean and mixes, **way)
            for gamma in trusts
            for backend in densities
            for way in ways
        ]
        if not found:
            raise ValueError(f"nothing to choose from for scheme {scheme!r}: got {listed}")
        grid += found
    return list(dict.fromkeys(grid))


def _name(backend: Any) -> str:
    return backend if isinstance(backend, str) else type(backend).__name__
