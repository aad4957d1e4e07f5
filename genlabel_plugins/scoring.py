"""How well a generative model classifies rows that it has not seen."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins._checks import check_target
from genlabel_plugins._state import as_rows
from genlabel_plugins.densities import CrossFit, Density


def classifier_accuracy(
    model: Any,
    x: Tensor,
    target: Tensor,
    *,
    n_folds: int | None = 5,
    generator: torch.Generator | None = None,
) -> float:
    """Accuracy of the generative classifier, the arg max of the posterior: how far to trust the densities.

    Held out by default, since a density that remembers its rows (a nearest neighbor) classifies them without
    fail. The paper finds that GenLabel helps from about 0.95 on.

    Args:
        model: A density or a relabeler, anything with `fit` and `log_prob`.
        x: Inputs, shape `(N, *)`.
        target: Class indices, shape `(N,)`.
        n_folds: Folds of a stratified cross-validation that refits copies and leaves rows that occur several times out
            together; None scores the model as it is on the rows given.
        generator: Source of randomness on the CPU for the folds; by default a fresh one, seeded with 0.

    Returns:
        Share of rows whose class is the most likely one; a row without a finite density counts as missed.

    Example:
        >>> from genlabel_plugins import make_backend
        >>> x = torch.arange(20.0)[:, None]
        >>> target = (x[:, 0] > 9.5).long()
        >>> classifier_accuracy(make_backend("gm"), x, target)
        1.0

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Table 9.
    """
    scored = held_out(model, x, target, n_folds, generator)
    return float(torch.cat([hits(score, labels) for score, labels in scored]).double().mean())


def held_out(
    model: Any, x: Tensor, target: Tensor, n_folds: int | None, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Log-joint densities `(B, C)` and classes `(B,)` of rows that the model has not seen, fold by fold.

    Rows that occur several times are left out together: a density that remembers its rows knows their twins. There
    are as many folds as the largest class has distinct rows, if it has fewer than `n_folds`.

    Raises:
        ValueError: On rows or classes that no density takes, `n_folds` below 2, or no class of two distinct rows.
    """
    rows = as_rows(x)
    check_target(target, None, len(rows))
    if not len(rows):
        raise ValueError("x must have at least one row, got none")
    n_classes = int(target.max()) + 1
    check_target(target, max(n_classes, 1))
    target = target.long()
    if n_folds is None:
        yield _log_joint(model, x), target
        return
    if n_folds < 2:
        raise ValueError(f"n_folds must be None or at least 2, got {n_folds}")
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415 - its import takes longer than torch's

    model = of_all_rows(copy.deepcopy(model))
    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**31, (), generator=generator))
    row = torch.arange(len(x), device=x.device)
    distinct, group = rows.unique(dim=0, return_inverse=True)
    if len(distinct) == len(x):
        group = row
    first = row.new_full((len(distinct),), len(x)).scatter_reduce_(0, group, row, "amin")
    group_target = target[first].cpu()
    largest = int(group_target.bincount().max())
    if largest < 2:
        raise ValueError(f"n_folds={n_folds} needs a class of two distinct rows, got none in {len(x)} rows")
    folds = StratifiedKFold(min(n_folds, largest), shuffle=True, random_state=seed)
    for _, test in folds.split(group_target, group_target):
        is_test = torch.isin(group, torch.as_tensor(test, device=x.device))
        fitted = fit_copy(model, x[~is_test], target[~is_test], n_classes)
        yield _log_joint(fitted, x[is_test]), target[is_test]


def of_all_rows(model: Any) -> Any:
    """The model with the density that `CrossFit` fits to all rows, whose copies no score asks for; it is changed."""
    if isinstance(model, CrossFit):
        return model.density
    if isinstance(getattr(model, "density", None), CrossFit):
        model.density = model.density.density
    return model


def fit_copy(model: Any, x: Tensor, target: Tensor, n_classes: int, generator: torch.Generator | None = None) -> Any:
    """Fit a copy of a density or a relabeler to some of the rows of a table of `n_classes` classes.

    Args:
        model: Anything with `fit` and `log_prob`.
        x: Rows of the fold, shape `(N, *)`.
        target: Their classes, shape `(N,)`, of which the last ones may be absent.
        n_classes: Number of classes C.
        generator: Source of randomness on the CPU for what is a `Density`.

    Raises:
        ValueError: If the last class has no row, and the model's `fit` takes no `n_classes`.
    """
    return fit_fold(copy.deepcopy(model), x, target, n_classes, generator)


def fit_fold(model: Any, x: Tensor, target: Tensor, n_classes: int, generator: torch.Generator | None = None) -> Any:
    """The same, of the model itself."""
    density = getattr(model, "density", model)
    options: dict[str, Any] = {}
    if generator is not None and isinstance(density, Density):
        options["generator"] = generator
    if int(target.max()) + 1 != n_classes:  # an object need not know of classes without rows
        if not _takes(density.fit, "n_classes"):
            raise ValueError(
                f"a fold holds no row of the last of {n_classes} classes, which {density!r} cannot know of: "
                "let its fit take n_classes, or use fewer folds than that class has rows"
            )
        options["n_classes"] = n_classes
    return model.fit(x, target, **options)


def hits(score: Tensor, target: Tensor) -> Tensor:
    """Whether the best score is that of the true class, `(B, C), (B,) -> (B,)`; never where no score is finite."""
    finite = score.isfinite()
    return (score.masked_fill(~finite, -torch.inf).argmax(1) == target) & finite.any(1)


def _takes(call: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(call).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _log_joint(model: Any, x: Tensor) -> Tensor:
    """Log-densities plus log-priors, `(B, *) -> (B, C)`; a density alone has uniform priors."""
    log_joint: Tensor = getattr(model, "log_joint", model.log_prob)(x)
    return log_joint
