"""`mixed_types`: any density for continuous columns, times smoothed class frequencies for categorical ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from genlabel_plugins._checks import check_positive, check_sizes
from genlabel_plugins.densities._ranks import State
from genlabel_plugins.densities.backends._evidence import MAX_JUDGES, choose_by_evidence, choose_judges
from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.registry import make_backend
from genlabel_plugins.densities.streaming import StreamingDensity


class MixedTypes(StreamingDensity):
    r"""Density of tables :math:`p_c(x) = p_c(x_\text{cont}) \prod_k p_{ck}(x_k)`, columns independent within a class.

    Rows hold the continuous columns, then one block of indicators for each categorical column, as `encode_rows`
    makes them. A category v of a column with V of them has the smoothed frequency
    :math:`(n_{cv} + s) / (n_c + s V)`. Its logarithm is linear in the block, so that all blocks and classes are
    scored by one matrix product, and rows mixed after an embedding layer, which is linear in the block too,
    have a density between those of the rows mixed.

    Columns that say the same are counted as if each were news. Where the backend of the continuous columns has
    `regularization="auto"`, rows that are left out tell, as there, the temperature that this calls for; of another
    backend the temperature is kept.

    Args:
        cardinality: Number of categories of each categorical column; the columns before their blocks are continuous.
        continuous: Backend of the continuous columns, a name or an object.
        continuous_params: Parameters that go with its name.
        smoothing: Rows of each category that are added to every class.

    Raises:
        ValueError: If `smoothing` is not positive.

    Example:
        >>> codes, target = torch.tensor([[0], [0], [1], [1]]), torch.tensor([0, 0, 0, 1])
        >>> rows = encode_rows(None, codes, [2])
        >>> MixedTypes(cardinality=[2]).fit(rows, target).log_prob(rows[:1]).exp()
        tensor([[0.6000, 0.3333]])
    """

    stream_fields: ClassVar[Mapping[str, bool]] = {"indicator": True}

    log_frequency_: Tensor  # (V_1 + V_2 + ..., K)
    log_frequency_mean_: Tensor  # (K,), of the training rows: rows come centered
    temperature_: Tensor  # (), by which `GenLabel` divides log-ratios

    def __init__(
        self,
        *,
        cardinality: Sequence[int] = (),
        continuous: Any = "gm",
        continuous_params: Mapping[str, Any] | None = None,
        smoothing: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes("cardinality", cardinality)
        check_positive("smoothing", smoothing)
        self.cardinality = cardinality
        self.continuous = continuous
        self.continuous_params = continuous_params
        self.smoothing = smoothing
        self.density = make_backend(continuous, **(continuous_params or {}))
        for claim in ("normalized", "exact", "compilable", "declines"):  # frequencies keep all of them
            setattr(self, claim, getattr(self.density, claim, frozenset() if claim == "declines" else False))
        self.streamable = getattr(self.density, "streamable", hasattr(self.density, "partial_fit"))
        self._declare("log_frequency_", "log_frequency_mean_", "temperature_")

    def partial_fit(
        self,
        x: Tensor,
        target: Tensor,
        *,
        n_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn from more rows, see `StreamingDensity.partial_fit`; what is continuous goes to its own backend.

        Raises:
            ValueError: As there, and if the backend of the continuous columns has no `partial_fit`.
        """
        if not hasattr(self.density, "partial_fit"):
            raise ValueError(f"the backend of the continuous columns has no partial_fit, got {self.continuous!r}")
        super().partial_fit(x, target, n_classes=n_classes, generator=generator)
        if start := self._start(x.flatten(1)):
            self.density.partial_fit(x.flatten(1)[:, :start], target, n_classes=n_classes, generator=generator)
        return self

    def merge(self, other: Self) -> Self:
        """Learn what another density was taught by `partial_fit`, see `StreamingDensity.merge`."""
        super().merge(other)
        if self._continuous_too():
            self.density.merge(other.density)
        return self

    def all_reduce(self) -> Self:
        """Merge the densities of all ranks, see `StreamingDensity.all_reduce`."""
        super().all_reduce()
        if self._continuous_too():
            self.density.all_reduce()
        return self

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        start = self._start(x)
        indicators = (x + self.offset_)[:, start:].double()
        count = indicators.new_zeros(len(self.present_), indicators.shape[1]).index_add_(0, target, indicators)
        self._store_frequencies(count)
        if start:
            options = {"generator": generator} if isinstance(self.density, Density) else {}
            self.density.fit(x[:, :start], target, **options)
        self.temperature_ = x.new_ones(())
        if self.leaves_parents_out and getattr(self.density, "regularization", None) == "auto":
            self.to(dtype=x.dtype)
            judges = choose_judges(x, target, MAX_JUDGES).row
            rows, label = x[judges], target[judges]
            left_out = self._log_prob_without(rows, Parents(rows, label, rows, torch.full_like(label, -1)))
            self.temperature_ *= choose_by_evidence(left_out[None], label)[1]
        elif start:
            self.temperature_ *= getattr(self.density, "temperature_", 1.0)

    def _condense(self, state: State) -> State:
        rows, target = state.pop("rows"), state.pop("target")
        indicators = rows[:, self._start(rows) :].double()
        count = indicators.new_zeros(len(state["count"]), indicators.shape[1]).index_add_(0, target, indicators)
        return state | {"indicator": count}

    def _joined(self, a: State, b: State) -> State:
        return {"indicator": a["indicator"] + b["indicator"]}

    def _finish(self, state: State) -> None:
        self.present_ = state["count"].nonzero().squeeze(1)
        self.offset_ = torch.zeros_like(state["origin"])  # the continuous columns are centered by their own density
        self._store_frequencies(state["indicator"][self.present_])
        self.temperature_ = self.log_frequency_mean_.new_ones(())

    def _store_frequencies(self, count: Tensor) -> None:
        """Smoothed log-frequencies from the rows of each class and category, `(K, V_1 + V_2 + ...)`."""
        blocks = [(block + self.smoothing).log() for block in count.split(list(self.cardinality), dim=1)]
        log_frequency = [block - block.logsumexp(1, keepdim=True) for block in blocks]
        self.log_frequency_ = torch.cat([count.new_zeros(len(count), 0), *log_frequency], 1).T.contiguous()
        start = len(self.offset_) - len(self.log_frequency_)
        self.log_frequency_mean_ = self.offset_[start:].double() @ self.log_frequency_

    def _start(self, x: Tensor) -> int:
        """Number of continuous columns of rows `(N, D)`."""
        n_indicators = sum(self.cardinality)
        if x.shape[1] < n_indicators:
            raise ValueError(f"x must have the {n_indicators} indicators of cardinality, got {x.shape[1]} columns")
        return x.shape[1] - n_indicators

    def _continuous_too(self) -> bool:
        return self.stream_origin_ is not None and len(self.stream_origin_) > sum(self.cardinality)

    @property
    def leaves_parents_out(self) -> bool:
        """Whether the density of the continuous columns can leave rows out; frequencies can."""
        return bool(getattr(self.density, "leaves_parents_out", False))

    def _log_prob_without(self, x: Tensor, parents: Parents) -> Tensor:
        start = x.shape[1] - len(self.log_frequency_)
        count = self.class_count_[self.present_].to(x)
        blocks = torch.tensor(self.cardinality, dtype=torch.long, device=x.device)
        total = count[:, None] + self.smoothing * blocks.to(x)  # (K, columns)
        smoothed = self.log_frequency_.T.exp() * total.repeat_interleave(
            blocks, 1, output_size=len(self.log_frequency_)
        )
        row, own, other = ((part + self.offset_)[:, start:] for part in (x, parents.x_i, parents.x_j))
        same = (parents.target_i == parents.target_j).to(x)
        log_prob = torch.addmm(self.log_frequency_mean_, x[:, start:], self.log_frequency_)
        second = (1 - same) * (parents.target_j >= 0)
        for target, lost, rows in (
            (parents.target_i, 1 + same, own + same[:, None] * other),
            (parents.target_j.clamp(min=0), second, second[:, None] * other),
        ):
            leaves = (lost < count[target]).to(x)  # a class keeps its rows if it would lose all of them
            change = (row * torch.log1p(-leaves[:, None] * rows / smoothed[target])).sum(1)
            change = change - torch.log1p(-(leaves * lost)[:, None] / total[target]).sum(1)
            log_prob = log_prob.scatter_add(1, target[:, None], change[:, None])
        if not start:
            return log_prob
        numbers = parents._replace(x_i=parents.x_i[:, :start], x_j=parents.x_j[:, :start])
        if self.density.n_classes != len(self.present_):  # learnt part by part, it knows of classes without a row
            target_j = torch.where(parents.target_j < 0, -1, self.present_[parents.target_j])
            numbers = numbers._replace(target_i=self.present_[parents.target_i], target_j=target_j)
        return log_prob + self._of_present(self.density.log_prob_without(x[:, :start], numbers))

    def _log_prob(self, x: Tensor) -> Tensor:
        start = x.shape[1] - len(self.log_frequency_)
        log_prob = torch.addmm(self.log_frequency_mean_, x[:, start:], self.log_frequency_)
        if not start:
            return log_prob
        return log_prob + self._of_present(self.density.log_prob(x[:, :start]))

    def _of_present(self, continuous: Tensor) -> Tensor:
        """Columns of the classes with rows: learnt part by part, a density knows of others, `(B, C) -> (B, K)`."""
        return continuous if continuous.shape[1] == len(self.present_) else continuous[:, self.present_]


def encode_rows(continuous: Tensor | None, codes: Tensor | None, cardinality: Sequence[int]) -> Tensor:
    """Rows of a table for a density: continuous columns, then a block of indicators for each categorical one.

    Args:
        continuous: Continuous columns, shape `(N, *)`, or None.
        codes: Categories, shape `(N, len(cardinality))`, integers below the cardinality; or None.
        cardinality: Number of categories of each categorical column.

    Returns:
        Rows, shape `(N, D)`, of the dtype of `continuous` and float32 or better.

    Example:
        >>> encode_rows(torch.tensor([[0.5]]), torch.tensor([[2, 0]]), [3, 2])
        tensor([[0.5000, 0.0000, 0.0000, 1.0000, 1.0000, 0.0000]])
    """
    if continuous is not None:
        continuous = continuous.flatten(1).to(torch.promote_types(continuous.dtype, torch.float32))
    if codes is None or not cardinality:
        return continuous  # type: ignore[return-value]
    size = torch.tensor(cardinality).to(codes.device, non_blocking=True)
    like = continuous if continuous is not None else codes.new_zeros(0, dtype=torch.float32)
    indicators = like.new_zeros(len(codes), sum(cardinality)).scatter_(1, codes + size.cumsum(0) - size, 1.0)
    return indicators if continuous is None else torch.cat([continuous, indicators], 1)
