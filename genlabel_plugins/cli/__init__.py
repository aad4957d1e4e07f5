"""The command line `genlabel`; `main` is its entry point."""

from genlabel_plugins.cli.main import main

__all__ = ["main"]
