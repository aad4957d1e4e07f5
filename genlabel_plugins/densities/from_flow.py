"""FromFlow: class densities from any flow of another library, given as an object."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_switch
from genlabel_plugins.densities.network_density import NetworkDensity


class FromFlow(NetworkDensity):
    """Class densities from a flow of normflows, zuko, nflows or pyro, or any density of rows that can be trained.

    The flow is copied and trained by maximum likelihood in the frame of `NetworkDensity`: rows come in units of their
    class, whatever their scale. The object that is given stays as it is, and a copy starts from its weights.

    Args:
        flow: An object with `log_prob(z) -> (N,)`, as of normflows, nflows and pyro, or that makes a distribution when
            it is called, as zuko's do.
        conditional: Whether the flow takes the class, as one of C indicators, for context: `log_prob(z, context)`,
            `flow(context)`, or pyro's `condition(context)`. One copy serves all classes then, instead of one for each.
        **options: Those of `NetworkDensity`.

    Raises:
        TypeError: If the flow is neither.
        ValueError: If it has nothing to train.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> class Shift(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.loc = nn.Parameter(torch.zeros(2))
        ...
        ...     def log_prob(self, z):
        ...         return Independent(Normal(self.loc, 1.0), 1).log_prob(z)
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> FromFlow(Shift(), max_epochs=2).fit(x, torch.arange(60) % 2).log_prob(x).shape
        torch.Size([60, 2])
    """

    compilable = False

    def __init__(self, flow: Any, *, conditional: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if not callable(flow) and not hasattr(flow, "log_prob") and not hasattr(flow, "condition"):
            raise TypeError(f"flow must have log_prob or condition, or make a distribution when called, got {flow!r}")
        if next(_Flow(flow).parameters(), None) is None:
            raise ValueError(f"flow must have parameters to train, got {flow!r} without: PerClass lifts what has none")
        check_switch("conditional", conditional)
        # In a list, so that the flow, which is never trained itself, is no submodule.
        self._given = [flow]
        self.conditional = conditional

    @property
    def flow(self) -> Any:
        """The flow that was given."""
        return self._given[0]

    def _network(self) -> nn.Module:
        if hasattr(self.flow, "clear_cache"):  # of pyro; what it holds cannot be copied
            self.flow.clear_cache()
        if self.conditional:
            return _Conditional(copy.deepcopy(self.flow), self.present_[self.trained_], len(self.class_count_))
        return _PerClass([copy.deepcopy(self.flow) for _ in range(len(self.trained_))])


class _Flow(nn.Module):
    """A flow with all that it learns as submodules."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.held = [flow]
        parts = [flow, *getattr(flow, "transforms", ())]  # distributions of pyro are no modules, their transforms are
        self.parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        flow, rows = self.held[0], z
        z = z.to(next(self.parameters()).dtype)
        given = () if context is None else (context.to(z.dtype),)
        if hasattr(flow, "condition"):
            log_prob: Tensor = flow.condition(*given).log_prob(z)
        elif hasattr(flow, "log_prob"):
            log_prob = flow.log_prob(z, *given)
        else:
            log_prob = flow(*given).log_prob(z)
        if hasattr(flow, "clear_cache"):
            flow.clear_cache()
        if log_prob.shape != (len(z),):
            raise ValueError(f"the flow must be a density of whole rows: got log_prob of shape {tuple(log_prob.shape)}")
        return log_prob.to(rows.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        own = not isinstance(self.held[0], nn.Module)  # pyro's tensors are of a dtype that no module changes
        super()._apply((lambda tensor: fn(tensor).to(tensor.dtype)) if own else fn, recurse)  # type: ignore[no-untyped-call]
        return self


class _Conditional(nn.Module):
    """One flow for all classes, `(N, D), (N,) -> (N,)`."""

    def __init__(self, flow: Any, known: Tensor, n_classes: int) -> None:
        super().__init__()
        self.flow = _Flow(flow)
        self.register_buffer("context", torch.eye(n_classes, device=known.device)[known], persistent=False)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        context: Any = self.context
        log_prob: Tensor = self.flow(z, context[label])
        return log_prob


class _PerClass(nn.Module):
    """One flow for each class, `(N, D), (N,) -> (N,)`; a row is given to that of its class alone."""

    def __init__(self, flows: list[Any]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(_Flow(flow) for flow in flows)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        log_prob = z.new_zeros(len(z))
        for c, flow in enumerate(self.flows):
            rows = (label == c).nonzero().squeeze(1)
            if len(rows):
                log_prob = log_prob.index_copy(0, rows, flow(z[rows]))
        return log_prob
