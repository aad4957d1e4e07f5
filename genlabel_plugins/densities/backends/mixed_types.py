"""`mixed_types`: any density for continuous columns, times smoothed class frequencies for categorical ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins._checks import check_positive, check_sizes
from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.registry import make_backend


class MixedTypes(Density):
    r"""Density of tables :math:`p_c(x) = p_c(x_\text{cont}) \prod_k p_{ck}(x_k)`, columns independent within a class.

    Rows hold the continuous columns, then one block of indicators for each categorical column, as `encode_rows`
    makes them. A category v of a column with V of them has the smoothed frequency
    :math:`(n_{cv} + s) / (n_c + s V)`. Its logarithm is linear in the block, so that all blocks and classes are
    scored by one matrix product, and rows mixed after an embedding layer, which is linear in the block too,
    have a density between those of the rows mixed.

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

    log_frequency_: Tensor  # (V_1 + V_2 + ..., K)
    log_frequency_mean_: Tensor  # (K,), of the training rows: rows come centered

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
        self._declare("log_frequency_", "log_frequency_mean_")

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        n_classes, n_indicators = len(self.present_), sum(self.cardinality)
        if x.shape[1] < n_indicators:
            raise ValueError(f"x must have the {n_indicators} indicators of cardinality, got {x.shape[1]} columns")
        start = x.shape[1] - n_indicators
        indicators = (x + self.offset_)[:, start:].double()
        count = indicators.new_zeros(n_classes, n_indicators).index_add_(0, target, indicators)
        blocks = [(block + self.smoothing).log() for block in count.split(list(self.cardinality), dim=1)]
        log_frequency = [block - block.logsumexp(1, keepdim=True) for block in blocks]
        self.log_frequency_ = torch.cat([count.new_zeros(n_classes, 0), *log_frequency], 1).T.contiguous()
        self.log_frequency_mean_ = self.offset_[start:].double() @ self.log_frequency_
        if start:
            options = {"generator": generator} if isinstance(self.density, Density) else {}
            self.density.fit(x[:, :start], target, **options)

    def _log_prob(self, x: Tensor) -> Tensor:
        start = x.shape[1] - len(self.log_frequency_)
        log_prob = torch.addmm(self.log_frequency_mean_, x[:, start:], self.log_frequency_)
        return log_prob + self.density.log_prob(x[:, :start]) if start else log_prob


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
