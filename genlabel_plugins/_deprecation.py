"""An old name of an argument, kept for a while: the policy is in CONTRIBUTING.md.

For a function or a class, `typing_extensions.deprecated` does the same.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def renamed_argument(old: str, new: str, *, removed_in: str) -> Callable[[F], F]:
    """Let a function take its argument `new` under its `old` name too, with a `FutureWarning`.

    Args:
        old: The name until now.
        new: The name from now on, one that the function has.
        removed_in: The version that takes `old` no more.

    Returns:
        A decorator. The decorated function raises `TypeError` if both names are given.

    Example:
        >>> @renamed_argument("share", "gamma", removed_in="0.3")
        ... def blend(gamma=0.5):
        ...     return gamma
        >>> blend(share=0.2)
        0.2
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__} was given both {new!r} and its old name {old!r}")
                message = f"{function.__qualname__}: {old!r} is called {new!r} now, the old name ends with {removed_in}"
                warnings.warn(message, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed  # type: ignore[return-value]

    return decorate
