"""Cross-validated choice between ways to train a classifier."""

from genlabel_plugins.selection.candidates import Candidate, Scheme, candidate_grid
from genlabel_plugins.selection.choice import Selection, select
from genlabel_plugins.selection.search import cross_validate

__all__ = ["Candidate", "Scheme", "Selection", "candidate_grid", "cross_validate", "select"]
