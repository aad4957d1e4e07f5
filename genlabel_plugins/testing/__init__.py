"""The contract of a density backend, for the built-in ones and for those of other authors."""

from genlabel_plugins.testing.contract import check_relabeler, relabeler_checks

__all__ = ["check_relabeler", "relabeler_checks"]
