"""Whatever a place imports is declared: in the dependencies, or in the extra that the place belongs to."""

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {path.name for path in (ROOT / "integrations").iterdir()} | {"genlabel_plugins"}
# The extras of a place, the longest path that fits. Elsewhere, only the core's dependencies may be imported.
PLACES = {
    "genlabel_plugins": [],
    "genlabel_plugins/cli": ["cli"],
    "genlabel_plugins/diagnostics": ["cli"],
    "genlabel_plugins/paper": ["paper", "cli"],
    "genlabel_plugins/densities": ["flows"],
    "genlabel_plugins/persistence.py": ["save"],
    "genlabel_plugins/mixing": ["frames"],
    "integrations/genlabel_timm": ["timm"],
    "integrations/genlabel_pytorch_tabular": ["tabular"],
    "integrations/genlabel_sklearn": ["sklearn"],
    "integrations/genlabel_imblearn": ["imblearn"],
    "integrations/genlabel_transformers": ["transformers"],
    "integrations/genlabel_keras": ["keras"],
}


def _declared(requirements):
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def _files(place):
    """The Python files of a place that belong to no place inside it."""
    inner = [ROOT / other for other in PLACES if other.startswith(f"{place}/")]
    paths = [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py")
    return [path for path in paths if not any(path.is_relative_to(other) for other in inner)]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_imports_are_declared(place):
    allowed = _declared(PROJECT["dependencies"]).union(*(_declared(EXTRAS[extra]) for extra in PLACES[place]))
    of_module = packages_distributions()
    foreign = {
        (path.name, module)
        for path in _files(place)
        for module in _imports(path)
        if module not in sys.stdlib_module_names
        and (module in of_module or "CI" in os.environ)  # elsewhere, what is not installed is not known
        and module not in OURS
        and not allowed.intersection(canonicalize_name(name) for name in of_module.get(module, ()))
    }
    assert not foreign, f"{place} imports what neither the core nor {PLACES[place]} declares: {sorted(foreign)}"


def test_every_door_is_a_place():
    assert {f"integrations/{name}" for name in OURS - {"genlabel_plugins"}} <= set(PLACES)


def test_all_and_dev_hold_every_extra():
    ours = set(EXTRAS) - {"all", "dev", "docs"}
    for holder in ("all", "dev"):
        (held,) = (Requirement(line).extras for line in EXTRAS[holder] if Requirement(line).name == PROJECT["name"])
        assert held >= ours - ({"sklearn"} if holder == "dev" else set()), holder


def test_every_extra_is_checked_beside_the_wheel():
    ours = set(EXTRAS) - {"dev", "docs"}
    text = (ROOT / "tests" / "installed" / "check_extra.py").read_text()
    checked = re.search(r"^CHECKS.*?= \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r'^    "(\w*)": ', checked, re.MULTILINE)) == ours - {"all"} | {""}
    matrix = re.search(r"extra: \[(.*)\]", (ROOT / ".github" / "workflows" / "package.yml").read_text())[1]
    assert {name.strip(' "') for name in matrix.split(",")} == ours | {""}
