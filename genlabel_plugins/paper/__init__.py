"""The paper, reproduced: every table and figure by one command, beside the baselines that a sceptic asks for."""

from genlabel_plugins.paper.commands import ORDER, Options
from genlabel_plugins.paper.data import DataError
from genlabel_plugins.paper.page import reproduce

__all__ = ["ORDER", "DataError", "Options", "reproduce"]
