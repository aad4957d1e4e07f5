"""The contract of a density backend, as checks to run one by one or all at once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch

from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.testing import _behavior_checks, _regime_checks, _row_checks, _stream_checks
from genlabel_plugins.testing._assertions import Make

Check = Callable[[Make], None]


def check_relabeler(backend: str | Make, **params: Any) -> None:
    """Run all checks on a backend; those of a claim that it does not make are passed over.

    Args:
        backend: Name of a registered density, or a callable that makes an unfitted one.
        params: Parameters of the backend; cheap ones keep trained backends fast.

    Raises:
        AssertionError: At the first broken check, or whatever error the backend raises in it.

    Example:
        >>> check_relabeler("gm", covariance_type="diag")
    """
    factory = functools.partial(make_backend, backend) if isinstance(backend, str) else backend
    make = functools.partial(factory, **params)
    for check in relabeler_checks():
        try:
            check(make)
        except SkipTest:
            continue
        except Exception as error:
            error.add_note(f"in {check.__name__} of {backend}")
            raise


def relabeler_checks() -> list[Check]:
    """Checks of the contract, each a function of a callable that makes an unfitted density.

    A check of a claim that the backend does not make (`Density.normalized`, `exact`, `compilable`), of a regime of
    untidy rows that it names in `Density.declines`, or of `partial_fit` where it has none or is not `streamable`,
    raises `unittest.SkipTest`, which pytest reports as skipped.

    Example:
        >>> import pytest
        >>> from genlabel_plugins import make_backend
        >>> @pytest.mark.parametrize("check", relabeler_checks(), ids=lambda check: check.__name__)
        ... def test_contract(check):
        ...     check(lambda: make_backend("gm"))
    """
    rooms = (_behavior_checks, _row_checks, _regime_checks, _stream_checks)
    found = [check for room in rooms for check in vars(room).items()]
    return [_quiet(check) for name, check in found if name.startswith("check_")]


def _quiet(check: Check) -> Check:
    @functools.wraps(check)
    def run(make: Make) -> None:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore", UserWarning)  # of small classes, which the rows here have on purpose
            check(make)

    return run
