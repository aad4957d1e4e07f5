"""The doors to libraries that only extras have."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, reading: str, extra: str = "formats") -> Any:
    """Import a module, whose absence costs one sentence that names the extra.

    Example:
        >>> library("json", "JSON").__name__
        'json'
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(
            f"reading {reading} needs {package}: pip install 'genlabel-plugins[{extra}]'", name=package
        ) from error


def pandas() -> Any:
    """Import pandas."""
    return library("pandas", "tables", "cli")
