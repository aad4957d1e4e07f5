"""Cross-validated choice between ways to train a classifier."""

from genlabel_plugins.selection.candidates import Candidate, Scheme, candidate_grid
from genlabel_plugins.selection.search import Selection, cross_validate, select

__all__ = ["Candidate", "Scheme", "Selection", "candidate_grid", "cross_validate", "select"]
