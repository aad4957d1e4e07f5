"""Densities learnt part by part: from a stream, from partitions of a table, over ranks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from genlabel_plugins._state import as_rows, check_fit_inputs, rank_in_class
from genlabel_plugins.densities._ranks import State, all_gather_states
from genlabel_plugins.densities.density import Density

RESERVOIR = 5000  # rows of a class; `docs/streams.md` shows what they cost
ROWS = ("rows", "target", "key")  # fields of a state that grow with its rows


class StreamingDensity(Density):
    """Density that is learnt part by part, as from a table that outgrows one machine.

    What is kept of the rows, the state of a stream, begins as the rows themselves and is condensed by `_condense`: to
    sums, or to a sample. `partial_fit` joins the state of a part, `merge` that of another density, `all_reduce` those
    of all ranks. Nothing is fitted before the first question. The state lies in buffers: a density that has learnt half
    of a stream is saved, loaded and goes on.

    Attributes:
        streamable: Parts equal one fit; `genlabel_plugins.testing` holds any backend with a `partial_fit` to it.
        stream_fields: What a state may hold beside rows, and whether the field has a row for each class.
        stream_count_: Rows seen of each class, shape `(C,)`.
        stream_origin_: Mean of the first part, shape `(D,)`; its dtype is that of the rows.
    """

    streamable: bool = True
    stream_fields: ClassVar[Mapping[str, bool]] = {}

    stream_count_: Tensor
    stream_origin_: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._declare(*(f"stream_{name}_" for name in self._fields()))

    def fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Forget, then learn from these rows alone, see `Density.fit`; no state is kept to go on from."""
        super().fit(x, target, n_classes=n_classes, generator=generator)
        self._set_state(None)
        return self

    def partial_fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn from more rows, as if they had come together with those before; a part may be empty.

        Args:
            x: Inputs, shape `(N, *)`.
            target: Class indices, shape `(N,)`.
            n_classes: Number of classes C; by default the largest index so far plus one.
            generator: Source of randomness on the CPU, where rows are drawn; by default a fresh one, seeded with the
                number of rows before.

        Raises:
            ValueError: On shapes, dtypes or values that no density can be fitted to, on another number of features
                or fewer classes than before, and after `fit`, which keeps no state to go on from.
        """
        state = self._state()
        known = 0 if state is None else len(state["count"])
        if n_classes is not None and n_classes < known:
            raise ValueError(f"n_classes must be at least the {known} of the parts before, got {n_classes}")
        if not len(as_rows(x)):
            return self
        x, target, n_classes = check_fit_inputs(x, target, n_classes)
        if state is not None:
            _check_width(len(state["origin"]), x.shape[1])
        seen = 0 if state is None else int(state["count"].sum())
        with torch.no_grad():
            count = torch.bincount(target, minlength=n_classes)
            origin = self._origin(x) if state is None else state["origin"].to(x)
            part = {"count": count, "origin": origin, "rows": x, "target": target}
            part |= self._drawn(x, generator or torch.Generator().manual_seed(seen))
            self._learn(self._join(state, self._condense(part)))
        return self

    def merge(self, other: Self) -> Self:
        """Learn what another density was taught by `partial_fit`, as if its rows had come after those of this one.

        Raises:
            ValueError: If the other is another backend, has other options or features, or was learnt by `fit`.
        """
        if type(other) is not type(self):
            raise ValueError(f"merge takes a {type(self).__name__}, got a {type(other).__name__}")
        for name in inspect.signature(type(self)).parameters:
            own, others = getattr(self, name), getattr(other, name)
            if own is not others and repr(own) != repr(others):
                raise ValueError(f"both must have the same options, got {name}={own!r} and {others!r}")
        with torch.no_grad():
            self._learn(self._join(self._state(), other._state()))
        return self

    def all_reduce(self) -> Self:
        """Merge the densities of all ranks, in their order; afterwards each rank has learnt all rows.

        Call it once, when every rank has seen its rows: a second call would count them again. Without an initialized
        `torch.distributed` there is nothing to do.
        """
        with torch.no_grad():
            self._learn(reduce(self._join, all_gather_states(self._state(), self._fields())))
        return self

    def check_fitted(self) -> None:
        """Fit to what was learnt part by part; raise `NotFittedError` before any row."""
        if self.offset_ is not None:
            return
        state = self._state()
        if state is None:
            super().check_fitted()
            return
        try:
            with torch.inference_mode(False), torch.no_grad():
                self._finish(state)
                self.class_count_ = state["count"].clone()
                self.to(dtype=state["origin"].dtype).requires_grad_(False)
        except BaseException:
            self.offset_ = None  # half a fit is no fit
            raise

    def _drawn(self, x: Tensor, generator: torch.Generator) -> State:
        """What is drawn for rows `(N, D)`, to be kept with them."""
        return {}

    def _condense(self, state: State) -> State:
        """A state of fewer numbers, where there are rows enough."""
        return state

    def _joined(self, a: State, b: State) -> State:
        """Fields of `stream_fields` of the rows of two states together, of which one at least holds no rows."""
        raise NotImplementedError(f"{type(self).__name__} must define _joined")

    def _finish(self, state: State) -> None:
        """Fit to a state; by default to its rows."""
        super().fit(state["rows"], state["target"], n_classes=len(state["count"]))

    def _join(self, a: State | None, b: State | None) -> State | None:
        """State of the rows of two, those of `a` first."""
        if a is None or b is None:
            state = b if a is None else a
            return None if state is None else {name: field.clone() for name, field in state.items()}  # no one else's
        _check_width(len(a["origin"]), len(b["origin"]))
        b = {name: field.to(a["count"].device) for name, field in b.items()}
        n_classes = max(len(a["count"]), len(b["count"]))
        a, b = self._padded(a, n_classes), self._padded(b, n_classes)
        dtype = torch.promote_types(a["origin"].dtype, b["origin"].dtype)
        joined = {"count": a["count"] + b["count"], "origin": a["origin"].to(dtype)}
        if "rows" in a and "rows" in b:
            joined |= {name: torch.cat([a[name], b[name]]) for name in ROWS if name in a}
            return self._condense(joined)
        return joined | self._joined(a, b)

    def _padded(self, state: State, n_classes: int) -> State:
        """The same state with a row of zeros for each class that is new."""
        n_new = n_classes - len(state["count"])
        by_class = {"count", *(name for name, each in self.stream_fields.items() if each)}
        return {
            name: torch.cat([field, field.new_zeros(n_new, *field.shape[1:])]) if n_new and name in by_class else field
            for name, field in state.items()
        }

    @classmethod
    def _fields(cls) -> tuple[str, ...]:
        return ("count", "origin", *ROWS, *cls.stream_fields)

    def _state(self) -> State | None:
        """State of the stream, or None before any part."""
        buffers = ((name, self._buffers[f"stream_{name}_"]) for name in self._fields())
        state = {name: buffer for name, buffer in buffers if buffer is not None}
        if not state and self.offset_ is not None:
            raise ValueError(
                f"this {type(self).__name__} was learnt by fit, which keeps no state to go on from: begin with a new "
                "one and partial_fit"
            )
        return state or None

    def _set_state(self, state: State | None) -> None:
        for name in self._fields():
            self._buffers[f"stream_{name}_"] = None if state is None else state.get(name)

    def _learn(self, state: State | None) -> None:
        """Go on from another state; what was fitted before it holds no longer."""
        self._set_state(state)
        self.offset_ = None  # type: ignore[assignment]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {name: buffer for name, buffer in self._buffers.items() if name.startswith("stream_")}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():  # sums stay float64 and rows as they came, whatever the densities are in
            moved = self._buffers[name]
            self._buffers[name] = None if buffer is None or moved is None else buffer.to(moved.device)
        return self


class ReservoirDensity(StreamingDensity):
    """Density of the rows themselves, of which a stream keeps a sample: `reservoir` rows of each class.

    Each row draws a key, and the rows of a class with the smallest keys stay: a uniform sample without replacement,
    of merged streams too. Up to so many rows, parts equal one fit.

    Reference:
        Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006, with equal weights.
    """

    reservoir: int

    def _drawn(self, x: Tensor, generator: torch.Generator) -> State:
        return {"key": torch.rand(len(x), generator=generator, dtype=torch.float64).to(x.device)}

    def _condense(self, state: State) -> State:
        target = state["target"]
        if int(target.bincount().max()) <= self.reservoir:
            return state
        by_key = state["key"].argsort()
        order = by_key[target[by_key].argsort(stable=True)]  # classes in turn, each from its smallest key on
        kept = order[rank_in_class(target[order]) < self.reservoir].sort().values  # in the order in which they came
        return state | {name: state[name][kept] for name in ROWS}


def _check_width(before: int, now: int) -> None:
    if now != before:
        raise ValueError(f"x must have the {before} features of the parts before, got {now}")
