"""A training step: the head's forward whose loss it is, and the target that a loss is called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from genlabel_plugins import Mixed


@dataclass
class Step:
    """A batch on its way from mixing to loss.

    Attributes:
        target: Class indices of the clean rows, shape `(B, T)`.
        written: Class indices that stand in the batch, shape `(B, T)`, or `(2B, T)` with the clean rows first.
        is_first: Whether it is the first batch of an epoch, of which more is measured and checked.
        mixed: The mixed rows; None in the warm-up of Algorithm 3, which only watches.
        rows: Mixed rows as the densities know them, shape `(B, D)`; in latent space only when the head has run.
        clean: The rows that they were made of, shape `(B, D)`, if they are at hand.
        labels: Corrected label of each target, `(B, C)`.
        observed: Whether the clean rows have been learned from, which they are once, however often a step is evaluated.
        n_calls: Calls of a loss with one of the targets.
        n_losses: Calls of a loss.
    """

    target: Tensor
    written: Tensor
    is_first: bool
    mixed: Mixed | None = None
    rows: Tensor | None = None
    clean: Tensor | None = None
    labels: dict[int, Tensor] = field(default_factory=dict)
    observed: bool = False
    n_calls: int = 0
    n_losses: int = 0

    def index_of(self, given: Any, known: dict[int, int | None]) -> int | None:
        """Which of the batch's targets a loss is called with, None if with another.

        It is known by its place in memory. A copy is compared by value, for which one waits for the device, in the
        first batch of an epoch, and by its place among the calls from then on.
        """
        place, self.n_losses = self.n_losses, self.n_losses + 1
        for index, column in enumerate(self.written.T):
            if is_same(given, column):
                return index
        if self.is_first or place not in known:
            known[place] = next((i for i, column in enumerate(self.written.T) if _equals(given, column)), None)
        return known[place]


class HeadWatch:
    """Forward hook of a head that keeps what it is given and what it returns.

    Args:
        name: Name of the module, for errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.forwards: list[tuple[Tensor, Any]] = []  # features (B, D), output or what made it

    def __call__(self, head: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Keep a forward, as torch calls it."""
        features = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if features is not None:
            self.forwards.append((features.detach().flatten(1), getattr(output, "grad_fn", None)))

    def features(self, logits: Tensor | None, n_rows: int) -> Tensor:
        """Features `(B, D)` of the forward that these logits come from, of several; with one there is no question.

        Raises:
            RuntimeError: If it cannot be told, in one sentence.
        """
        if not self.forwards:
            raise RuntimeError(f"{self.name} ran without calling its head")
        found = [features for features, _ in self.forwards]
        if len(found) > 1 and logits is not None:
            made = {node for _, node in self.forwards if node is not None}
            reached = _reached(logits.grad_fn, made)
            found = [features for features, node in self.forwards if node in reached]
        if len(found) != 1:
            raise RuntimeError(
                f"{self.name} called its head {len(self.forwards)} times, and {len(found)} of these lead to the loss: "
                "call the loss with the logits of one forward of the batch"
            )
        if len(found[0]) != n_rows:
            raise RuntimeError(
                f"the head of {self.name} was given {len(found[0])} rows where the batch has {n_rows}: give other rows "
                "a forward of their own"
            )
        return found[0]


def split_call(loss: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a loss with logits and target in front, however they were given, and the other keywords."""
    values, others = list(args), dict(kwargs)
    for name in list(inspect.signature(loss.forward).parameters)[len(args) : 2]:
        if name in others:
            values.append(others.pop(name))
    return values, others


def is_same(given: Any, column: Tensor) -> bool:
    """Whether a tensor lies where this one lies, a view of it with other dimensions included."""
    return (
        isinstance(given, Tensor)
        and given.dtype == column.dtype
        and given.numel() == column.numel()
        and given.data_ptr() == column.data_ptr()
    )


def _equals(given: Any, column: Tensor) -> bool:
    if not isinstance(given, Tensor) or given.is_floating_point() or given.numel() != column.numel():
        return False
    return bool((given.detach().flatten() == column).all())


def _reached(node: Any, goals: set[Any]) -> set[Any]:
    """Nodes of the autograd graph among these that one meets first on the way back from a node."""
    waiting, seen, reached = [node], set(), set()
    while waiting:
        each = waiting.pop()
        if each is None or each in seen:
            continue
        seen.add(each)
        if each in goals:
            reached.add(each)
        else:
            waiting += [before for before, _ in each.next_functions]
    return reached
