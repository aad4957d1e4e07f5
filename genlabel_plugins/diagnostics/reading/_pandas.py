"""The door to pandas, which only the extra `cli` has."""

from __future__ import annotations

from typing import Any


def pandas() -> Any:
    """Import pandas, whose absence costs one sentence."""
    try:
        import pandas  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        raise ModuleNotFoundError("reading tables needs pandas: pip install 'genlabel-plugins[cli]'") from error
    return pandas
