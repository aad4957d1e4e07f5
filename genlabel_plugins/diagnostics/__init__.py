"""Diagnostics: should these rows be mixed, and how? The command line `genlabel` is a thin layer over this."""

from genlabel_plugins.diagnostics.as_json import to_json
from genlabel_plugins.diagnostics.comparison import Comparison, Estimate, Setting
from genlabel_plugins.diagnostics.diagnosis import Diagnosis, diagnose
from genlabel_plugins.diagnostics.fit import BackendFit, fit_backend
from genlabel_plugins.diagnostics.labelled_table import LabelledTable, TableError
from genlabel_plugins.diagnostics.plane import Plane, make_plane
from genlabel_plugins.diagnostics.preparation import load_table, prepare_table
from genlabel_plugins.diagnostics.recommendation import Recommendation, recommend
from genlabel_plugins.diagnostics.report import Report

__all__ = [
    "BackendFit",
    "Comparison",
    "Diagnosis",
    "Estimate",
    "LabelledTable",
    "Plane",
    "Recommendation",
    "Report",
    "Setting",
    "TableError",
    "diagnose",
    "fit_backend",
    "load_table",
    "make_plane",
    "prepare_table",
    "recommend",
    "to_json",
]
