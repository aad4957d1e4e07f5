"""The head of a network, and what is apart from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def modules_outside(module: nn.Module, head: nn.Module) -> Iterator[nn.Module]:
    """Modules that are neither the head, nor in it, nor around it."""
    inside = set(head.modules())
    for each in module.modules():
        if each not in inside and head not in set(each.modules()):
            yield each


def renew(head: nn.Module, optimizers: list[Any]) -> None:
    """Draw the weights of a head anew, and let the optimizers forget the old ones."""
    for each in head.modules():
        reset = getattr(each, "reset_parameters", None)
        if callable(reset):
            reset()
    for parameter in head.parameters():
        for optimizer in optimizers:
            optimizer.state.pop(parameter, None)
