"""Entry point of the command line; works, with one sentence, also where its extra is not installed."""

from __future__ import annotations

import sys

EXTRA = {"typer", "rich", "pandas", "matplotlib", "jinja2", "click"}


def main() -> None:
    """Run `genlabel`."""
    try:
        from genlabel_plugins.cli.app import app  # noqa: PLC0415

        app()
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        sys.exit(f"genlabel needs {error.name}: pip install 'genlabel-plugins[cli]'")
    except KeyboardInterrupt:  # before or after the diagnosis
        sys.exit(130)
