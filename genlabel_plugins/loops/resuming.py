"""Resuming a training: generators in the state dict, and a warning where the state was not loaded."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from genlabel_plugins.relabeling import Relabeling


class KeepsGenerator(nn.Module):
    """A module whose `mix` draws from a generator of its own, if it has one, with that generator in the state dict."""

    def _generator(self) -> torch.Generator | None:
        mix: Any = getattr(self, "mix", None)
        while mix is not None:  # a mixer may be made of another
            generator = getattr(mix, "generator", None)
            if isinstance(generator, torch.Generator):
                return generator
            mix = getattr(mix, "mix", None)
        return None

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        generator = self._generator()
        if generator is not None:
            destination[prefix + "generator"] = generator.get_state()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        unexpected_keys = args[3]
        generator, key = self._generator(), prefix + "generator"
        if generator is None:
            return
        if key in state_dict:
            generator.set_state(state_dict[key].cpu())
            if key in unexpected_keys:
                unexpected_keys.remove(key)
        else:
            warnings.warn(
                f"the saved state holds no {key!r}, as those of version 0.1.0 do not: the generator of the mixer stays "
                "as it is",
                stacklevel=2,
            )


def watch_for_resume(relabeling: Relabeling, model: nn.Module | None, what: str) -> None:
    """Warn once if the first optimizer step of a training is none, although statistics and warm-up start anew.

    An optimizer that goes on has state, which was loaded, or comes from steps that it took before. Plain SGD without
    momentum keeps none, and says nothing.

    Args:
        relabeling: Whose state might be loaded until then.
        model: Network in training; None for whichever optimizer steps next.
        what: What is to be saved, for the warning.
    """
    if not (relabeling.joint or relabeling.warmup_steps):
        return  # whatever a fitted relabeler knows, it has
    relabeling_of = weakref.ref(relabeling)
    model_of = (lambda: None) if model is None else weakref.ref(model)

    def look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        watched, trained = relabeling_of(), model_of()
        if watched is None or watched.settled or not (trained is None or _trains(optimizer, trained)):
            return
        watched.settled = True
        if optimizer.state:
            warnings.warn(
                "the optimizer goes on, but class statistics and warm-up start anew: if this training was resumed, "
                f"save the state_dict of {what} beside the weights, and load it",
                stacklevel=2,
            )

    handle = register_optimizer_step_pre_hook(look)
    weakref.finalize(relabeling, handle.remove).atexit = False


def _trains(optimizer: Optimizer, model: nn.Module) -> bool:
    known = {id(parameter) for parameter in model.parameters()}
    return any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"])
