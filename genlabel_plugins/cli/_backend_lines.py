"""What `genlabel backends` lists."""

from __future__ import annotations

import inspect
import re
import sys
from importlib.util import find_spec
from typing import NamedTuple

from genlabel_plugins.densities.registry import list_backends, make_backend

# What a backend imports when it is fitted, any of them, and the extra that installs it.
NEEDS = {"flow": (("normflows", "zuko"), "flows")}


class BackendLine(NamedTuple):
    """One backend.

    Attributes:
        name: Under which it is registered.
        description: First line of its docstring.
        status: "ready", or what it lacks.
        package: Where it comes from.
    """

    name: str
    description: str
    status: str
    package: str


def describe_backends() -> list[BackendLine]:
    """All backends by name; one that cannot be loaded says why.

    Example:
        >>> {line.name: line.status for line in describe_backends()}["gm"]
        'ready'
    """
    return [_describe(name) for name in list_backends()]


def _describe(name: str) -> BackendLine:
    try:
        kind = type(make_backend(name))
    except Exception as error:  # whatever a foreign package does
        return BackendLine(name, "", f"cannot be loaded: {' '.join(str(error).split())}", "")
    package = kind.__module__.partition(".")[0]
    modules, extra = NEEDS.get(name, ((), ""))
    status = "ready"
    if modules and not any(find_spec(module) for module in modules):
        status = f"pip install 'genlabel-plugins[{extra}]'"
    return BackendLine(name, _description(name, kind), status, package)


def _description(name: str, kind: type) -> str:
    """First sentence of the docstring: that of the module where it names the backend, else that of the class."""
    module = inspect.getdoc(sys.modules.get(kind.__module__)) or ""
    heading = f"`{name}`: "
    text = module.removeprefix(heading) if module.startswith(heading) else inspect.getdoc(kind) or ""
    plain = re.sub(r":\w+:`([^`]*)`", r"\1", " ".join(text.split("\n\n")[0].split())).replace("`", "").rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}." if plain else ""
