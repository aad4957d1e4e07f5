"""Samplers that add rows to whole tables, off-line, in the manner of imbalanced-learn."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.mixing._table_sampler import AnyStrategy, Proposal, Rows, TableSampler
from genlabel_plugins.mixing.generative import RatioSearch
from genlabel_plugins.relabeler import GAMMA, GenLabel


class GenerativeMixSampler(TableSampler):
    """Add rows to a table by generative mixing: `fit_resample(X, y)`.

    A new row lies between a row of its class and one of another class, where the class densities have the ratio
    lam; lam is drawn from Beta(alpha, alpha) and its larger side goes to the row's class. A pair between which no
    point has that ratio is drawn anew, with another lam, so that each class gets as many rows as are asked.

    Columns keep their kind and dtype: integers are rounded, and of booleans, texts and categories one of the two rows'
    is taken, the row's own with its share of the mix; the class must be ahead at what comes of it. The density of
    such columns is that of the backend `mixed_types`.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`, of which a copy is fitted.
        sampling_strategy: What imbalanced-learn takes. `"auto"`, `"not majority"` and `"all"` bring each class to
            the size of the largest, `"minority"` the smallest alone, `"not minority"` all but that; a sequence of
            class names those; a mapping says how many rows each class shall have, those there are included; a float
            is, for two classes, the size of the smaller over that of the larger; a callable takes y and returns a
            mapping.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        ahead_of: `"all"` demands that the row's class is the most likely of all at the new row, `"pair"` more likely
            than the other class of the pair: a third class may then lie between the two.
        soft_labels: Return labels `(N, C)` in the order of `classes_` instead of class names.
        random_state: Seed, or a `RandomState`.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        density_: The fitted density, in float64.
        attained_: Which of the new rows hold the lam drawn for them: all, but for values rounded or taken whole.
        sampling_strategy_: Rows to make of each class that lacks some.
        n_features_in_: Number of features.

    Raises:
        ValueError: In `fit_resample`, on an option out of range, fewer than two classes, or a class of which no
            new row is found: its density is nowhere ahead.

    Example:
        >>> import numpy as np
        >>> X = np.random.RandomState(0).randn(30, 2)
        >>> y = np.array(["rare"] * 6 + ["usual"] * 24)
        >>> X_more, y_more = GenerativeMixSampler(random_state=0).fit_resample(X, y)
        >>> X_more.shape, int((y_more == "rare").sum())
        ((48, 2), 24)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    _way_out = "ahead_of='pair'"

    def __init__(
        self,
        backend: Any = "gm",
        *,
        sampling_strategy: AnyStrategy = "auto",
        alpha: float = 1.0,
        ahead_of: Literal["all", "pair"] = "all",
        soft_labels: bool = False,
        random_state: Any = None,
    ) -> None:
        self.backend = backend
        self.sampling_strategy = sampling_strategy
        self.alpha = alpha
        self.ahead_of = ahead_of
        self.soft_labels = soft_labels
        self.random_state = random_state

    def _check_options(self) -> None:
        super()._check_options()
        if self.ahead_of not in ("all", "pair"):
            raise ValueError(f"ahead_of must be 'all' or 'pair', got {self.ahead_of!r}")

    def _learn(self, rows: Rows) -> None:
        self.density_ = self._make_density(rows).fit(rows.x, rows.target)

    def _propose(self, rows: Rows, c: Tensor) -> Proposal:
        search = RatioSearch(self.density_)
        i, j = rows.draw(c), rows.draw(c, other=True)
        lam = rows.draw_share(len(c), self.alpha)
        between, _, attained = search(rows.x[i], rows.x[j], c, rows.target[j], lam)
        numbers, source, x = rows.settle(between, i, j)
        log_prob = self.density_.log_prob(x)
        pair = torch.stack([c, rows.target[j]], 1)
        share = log_prob.gather(1, pair).softmax(1)
        ahead = share[:, 0] > 0.5 if self.ahead_of == "pair" else log_prob.argmax(1) == c
        return Proposal(
            numbers=numbers,
            source=source,
            y=torch.zeros_like(log_prob).scatter_(1, pair, share),
            good=attained & ahead,
            attained=(share[:, 0] - lam).abs() <= search.tolerance,
        )


class GenLabelSampler(TableSampler):
    r"""Add rows to a table by mixup, labelled by GenLabel: `fit_resample(X, y)`.

    .. math:: x = \lambda\, x_i + (1 - \lambda)\, x_j, \qquad
              y = \gamma\, y_\text{gen} + (1 - \gamma)\, (\lambda\, e_{c_i} + (1 - \lambda)\, e_{c_j})

    Row i is of the class that lacks rows, j any other row of the table, and i has the larger share. A new row whose
    largest label is another class's is dropped and drawn anew, so that each class gets as many rows as are asked;
    `gamma=0` drops none. Columns keep their kind and dtype, as in `GenerativeMixSampler`.

    Args:
        backend: Name of a registered density, or an object with `fit` and `log_prob`, of which a copy is fitted.
        sampling_strategy: What imbalanced-learn takes; see `GenerativeMixSampler`.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`.
        gamma: Trust in the posterior `y_gen`, in [0, 1]; 0 is mixup.
        priors: `"uniform"` (the paper), `"empirical"` or one number per class, for the posterior.
        leave_parents_out: Label each new row as if `"kde"`, `"nn"` or `"gm"` had not seen the two rows that it is of.
        cross_fit: The same for any density, by that many folds.
        soft_labels: Return labels `(N, C)` in the order of `classes_` instead of class names.
        random_state: Seed, or a `RandomState`.

    Attributes:
        classes_: Class names, sorted, shape `(C,)`.
        genlabel_: The fitted relabeler, in float64.
        attained_: Which of the new rows lie where lam says: all, but for values rounded or taken whole.
        sampling_strategy_: Rows to make of each class that lacks some.
        n_features_in_: Number of features.

    Raises:
        ValueError: In `fit_resample`, on an option out of range, fewer than two classes, or a class of which no
            new row is found: its density is nowhere ahead.

    Example:
        >>> import numpy as np
        >>> X = np.random.RandomState(0).randn(30, 2)
        >>> y = np.array(["rare"] * 6 + ["usual"] * 24)
        >>> X_more, y_more = GenLabelSampler(soft_labels=True, random_state=0).fit_resample(X, y)
        >>> X_more.shape, y_more.shape, int((y_more.argmax(1) == 0).sum())
        ((48, 2), (48, 2), 24)

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, equation (1).
    """

    _way_out = "a smaller gamma"

    def __init__(
        self,
        backend: Any = "gm",
        *,
        sampling_strategy: AnyStrategy = "auto",
        alpha: float = 1.0,
        gamma: float = GAMMA,
        priors: Any = "uniform",
        leave_parents_out: bool = False,
        cross_fit: int | None = None,
        soft_labels: bool = False,
        random_state: Any = None,
    ) -> None:
        self.backend = backend
        self.sampling_strategy = sampling_strategy
        self.alpha = alpha
        self.gamma = gamma
        self.priors = priors
        self.leave_parents_out = leave_parents_out
        self.cross_fit = cross_fit
        self.soft_labels = soft_labels
        self.random_state = random_state

    def _learn(self, rows: Rows) -> None:
        density = self._make_density(rows)
        left_out: dict[str, Any] = {"leave_parents_out": self.leave_parents_out, "cross_fit": self.cross_fit}
        genlabel = GenLabel(density, gamma=self.gamma, priors=self.priors, **left_out)
        self.genlabel_ = genlabel.fit(rows.x, rows.target)

    def _propose(self, rows: Rows, c: Tensor) -> Proposal:
        i = rows.draw(c)
        away = 1 + torch.rand(len(c), generator=rows.generator, dtype=torch.float64) * (len(rows.x) - 1)
        j = (i + away.long()) % len(rows.x)
        lam = rows.draw_share(len(c), self.alpha)[:, None].to(rows.x)
        between = lam * rows.x[i] + (1 - lam) * rows.x[j]
        numbers, source, x = rows.settle(between, i, j)
        y_mix = torch.zeros(len(c), len(self.classes_), dtype=rows.x.dtype)
        y_mix.scatter_add_(1, c[:, None], lam).scatter_add_(1, rows.target[j][:, None], 1 - lam)
        parents = Parents(rows.x[i], c, rows.x[j], torch.where(i == j, -1, rows.target[j]))
        y = self.genlabel_.relabel(x, y_mix, parents=parents)
        attained = (x == between).all(1)
        return Proposal(numbers=numbers, source=source, y=y, good=y.argmax(1) == c, attained=attained)
