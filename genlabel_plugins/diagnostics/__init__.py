"""Diagnostics: should these rows be mixed, and how? The command line `genlabel` is a thin layer over this."""

from genlabel_plugins.diagnostics.questions.comparison import Comparison, Estimate, Setting
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit, fit_backend
from genlabel_plugins.diagnostics.questions.diagnosis import Diagnosis, diagnose
from genlabel_plugins.diagnostics.questions.projection import Projection, make_projection
from genlabel_plugins.diagnostics.questions.recommendation import Recommendation, recommend
from genlabel_plugins.diagnostics.questions.standings import Standing
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable, TableError
from genlabel_plugins.diagnostics.reading.preparation import load_table, prepare_table
from genlabel_plugins.diagnostics.report.as_json import json_schema, to_json
from genlabel_plugins.diagnostics.report.html import Report

__all__ = [
    "BackendFit",
    "Comparison",
    "Diagnosis",
    "Estimate",
    "LabeledTable",
    "Projection",
    "Recommendation",
    "Report",
    "Setting",
    "Standing",
    "TableError",
    "diagnose",
    "fit_backend",
    "json_schema",
    "load_table",
    "make_projection",
    "prepare_table",
    "recommend",
    "to_json",
]
