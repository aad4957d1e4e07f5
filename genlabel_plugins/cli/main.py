"""Entry point of the command line; works, with one sentence, also where its extra is not installed."""

from __future__ import annotations

import io
import sys

EXTRA = {"typer", "rich", "pandas", "matplotlib", "jinja2", "click"}


def main() -> None:
    """Run `genlabel`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of letters that the terminal has no code for
    try:
        from genlabel_plugins.cli._app import app  # noqa: PLC0415

        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(f"genlabel needs {package}: pip install 'genlabel-plugins[cli]'")
    except OSError as error:  # what is printed has no place to go, such as a full disk
        sys.exit(f"genlabel: {error}")
    except KeyboardInterrupt:  # before or after the diagnosis
        sys.exit(130)
