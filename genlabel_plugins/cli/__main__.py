"""`python -m genlabel_plugins.cli`, the same as `genlabel`."""

from genlabel_plugins.cli.main import main

main()
