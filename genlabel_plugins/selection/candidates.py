"""Candidates: the ways to train a classifier that selection chooses between."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

Scheme = Literal["vanilla", "mixup", "logistic", "nearest", "genlabel", "generative"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_EXAMPLES = {
    "schemes": ("vanilla", "mixup"),
    "backends": ("gm", "kde"),
    "gammas": (0.2, 0.8),
    "learning_rates": (0.1, 0.01),
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to train a classifier.

    Args:
        scheme: `"vanilla"` trains on clean rows; the others mix rows and label them linearly (`"mixup"`), by a
            logistic turn (`"logistic"`), by the nearest training row (`"nearest"`) or by the posterior of class
            densities (`"genlabel"`). `"generative"` trains nothing: the posterior itself is the classifier.
        backend: Density of `"genlabel"` and `"generative"`, a name or an object with `fit` and `log_prob`.
        gamma: Trust in the posterior of `"genlabel"`, in [0, 1].
        keep_clean: Average the loss on the mixed rows with the loss on the clean ones.
        learning_rate: Step size of Adam.

    Raises:
        ValueError: On an unknown scheme or a number out of range.
        TypeError: If a scheme that needs densities comes without a backend.

    Example:
        >>> str(Candidate(scheme="genlabel", backend="gm", gamma=0.8, learning_rate=0.1))
        'genlabel gm, gamma 0.8, learning rate 0.1'
    """

    scheme: Scheme
    backend: Any = None
    gamma: float = 0.0
    keep_clean: bool = False
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {SCHEMES}, got {self.scheme!r}")
        if self.scheme in ("genlabel", "generative") and self.backend is None:
            raise TypeError(f"scheme {self.scheme!r} needs a backend, got None")
        if not isinstance(self.backend, Hashable):
            raise TypeError(f"backend must be a name or a hashable object, got {type(self.backend).__name__}")
        if not (isinstance(self.gamma, Real) and 0 <= self.gamma <= 1):
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma!r}")
        if not (isinstance(self.learning_rate, Real) and 0 < self.learning_rate < math.inf):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")

    @property
    def is_trained(self) -> bool:
        """Whether a network is trained; else the posterior itself is the classifier."""
        return self.scheme != "generative"

    @property
    def clean_share(self) -> float:
        """Share of the clean rows in the loss; the mixed ones have the rest."""
        return 1.0 if self.scheme == "vanilla" else 0.5 * self.keep_clean

    def __str__(self) -> str:
        parts = [self.scheme if self.backend is None else f"{self.scheme} {_name(self.backend)}"]
        if self.scheme == "genlabel":
            parts.append(f"gamma {self.gamma:g}")
        if self.keep_clean:
            parts.append("clean batch kept")
        if self.is_trained:
            parts.append(f"learning rate {self.learning_rate:g}")
        return ", ".join(parts)


def candidate_grid(
    *,
    schemes: Sequence[Scheme] = ("vanilla", "mixup", "genlabel"),
    backends: Sequence[Any] = ("gm", "kde"),
    gammas: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    learning_rates: Sequence[float] = (0.1, 0.01, 0.001, 0.0001),
    keep_clean: bool = True,
) -> list[Candidate]:
    """Every combination that the schemes have, the simpler ones first: ties in selection go to the first.

    Args:
        schemes: Schemes that compete, from the simplest on.
        backends: Densities of the schemes that need one.
        gammas: Trusts in the posterior; 0 is plain mixup.
        learning_rates: Step sizes of Adam.
        keep_clean: Keep the loss on the clean rows, where a scheme mixes.

    Raises:
        ValueError: If nothing is left to choose from for a scheme, or on a value that `Candidate` refuses.

    Example:
        >>> [str(candidate) for candidate in candidate_grid(backends=("gm",), gammas=(0.5,), learning_rates=(0.1,))]
        ... # doctest: +NORMALIZE_WHITESPACE
        ['vanilla, learning rate 0.1', 'mixup, clean batch kept, learning rate 0.1',
         'genlabel gm, gamma 0.5, clean batch kept, learning rate 0.1']
    """
    choices = {"schemes": schemes, "backends": backends, "gammas": gammas, "learning_rates": learning_rates}
    for name, values in choices.items():
        if isinstance(values, str) or not isinstance(values, Collection):
            raise ValueError(f"{name} must be a sequence, such as {_EXAMPLES[name]}, got {values!r}")
    listed = ", ".join(f"{name} {tuple(values)}" for name, values in choices.items())
    if not len(schemes):
        raise ValueError(f"nothing to choose from: got {listed}")
    grid: list[Candidate] = []
    for scheme in schemes:
        rates = (Candidate.learning_rate,) if scheme == "generative" else learning_rates
        trusts = sorted(gammas) if scheme == "genlabel" else (0.0,)
        densities = backends if scheme in ("genlabel", "generative") else (None,)
        mixes = scheme not in ("vanilla", "generative")
        found = [
            Candidate(scheme=scheme, backend=backend, gamma=gamma, keep_clean=keep_clean and mixes, learning_rate=rate)
            for gamma in trusts
            for backend in densities
            for rate in rates
        ]
        if not found:
            raise ValueError(f"nothing to choose from for scheme {scheme!r}: got {listed}")
        grid += found
    return list(dict.fromkeys(grid))


def _name(backend: Any) -> str:
    return backend if isinstance(backend, str) else type(backend).__name__
