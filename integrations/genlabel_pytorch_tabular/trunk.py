"""The trunk of a network, what lies before its head: frozen within a training step, free outside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


class Trunk:
    """Everything of a module apart from its head, held still while Algorithm 2 takes a step.

    Between steps parameters and modes are as others left them. A copy, a moving average or a file of the module is
    therefore an ordinary one, a callback that calls `eval()` or `train()` finds what it expects, and its change does
    not outlive the step's beginning. Only parameters that someone frees after `freeze` train again.

    Args:
        module: The whole.
        head: Its head.
        loss: Its loss, which keeps its mode.
    """

    def __init__(self, module: nn.Module, head: nn.Module, loss: nn.Module) -> None:
        self.module, self.head, self.loss = module, head, loss
        self.frozen: dict[str, nn.Parameter] = {}
        self.modes: list[nn.Module] = []  # modules in evaluation mode within a step
        self._marks: list[tuple[Tensor, int]] = []

    def freeze(self, names: Iterable[str] | None = None) -> None:
        """Freeze the parameters that train now, or those of these names, within every step from now on."""
        chosen = None if names is None else set(names)
        self.frozen = {
            name: each
            for name, each in self._parameters()
            if (each.requires_grad if chosen is None else name in chosen)
        }
        for each in self.frozen.values():
            each.grad = None  # an optimizer passes over it, weight decay included
        self.look()

    def look(self) -> None:
        """Find what is still: nothing, once a callback has thawed parameters that were not ours to freeze."""
        thawed = any(each.requires_grad and name not in self.frozen for name, each in self._parameters())
        inside = {*self.head.modules(), *self.loss.modules()}
        around = {each for each in self.module.modules() if self.head in set(each.modules())}
        self.modes = [] if thawed else [each for each in self.module.modules() if each not in inside | around]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Without gradient and in evaluation mode, as long as the block runs, also if it calls `train()`."""
        parameters = [each for each in self.frozen.values() if each.requires_grad]
        modes = [each for each in self.modes if each.training]
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._set_modes(modes, training=False)
        for each in (self.module, *modes):
            vars(each)["train"] = partial(self._train, each)
        try:
            yield
        finally:
            for each in (self.module, *modes):
                del vars(each)["train"]
            for parameter in parameters:
                parameter.requires_grad_(True)
            self._set_modes(modes, training=True)

    def mark(self) -> None:
        """Remember parameters and statistics as they are."""
        self._marks = self._now()

    @property
    def moved(self) -> bool:
        """Whether any of them has changed since, so that the features are others."""
        now = self._now()
        return len(now) != len(self._marks) or any(
            a is not b or n != m for (a, n), (b, m) in zip(now, self._marks, strict=True)
        )

    def _train(self, module: nn.Module, mode: bool = True) -> nn.Module:
        type(module).train(module, mode)
        self._set_modes(self.modes, training=False)
        return module

    def _set_modes(self, modules: list[nn.Module], *, training: bool) -> None:
        for each in modules:
            each.training = training

    def _now(self) -> list[tuple[Tensor, int]]:
        kept = {id(each) for each in (*self.head.parameters(), *self.head.buffers())}
        state = (*self.module.parameters(), *self.module.buffers())
        return [(each, each._version) for each in state if id(each) not in kept]

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        kept = {id(each) for each in self.head.parameters()}
        return ((name, each) for name, each in self.module.named_parameters() if id(each) not in kept)


def renew(head: nn.Module, optimizers: list[Any]) -> None:
    """Draw the weights of a head anew, and let the optimizers forget the old ones."""
    for each in head.modules():
        reset = getattr(each, "reset_parameters", None)
        if callable(reset):
            reset()
    for parameter in head.parameters():
        for optimizer in optimizers:
            optimizer.state.pop(parameter, None)
