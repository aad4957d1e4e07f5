"""The core's samplers with imbalanced-learn's base, which its checks, tags and metadata routing ask for."""

from __future__ import annotations

from typing import Any

from genlabel_plugins.mixing import sampler

try:
    from imblearn.over_sampling.base import BaseOverSampler
except ModuleNotFoundError as error:
    if error.name != "imblearn":
        raise
    raise ModuleNotFoundError(
        "genlabel_imblearn needs imbalanced-learn: pip install 'genlabel-plugins[imblearn]'"
    ) from error


class _DenseOverSampler(BaseOverSampler):  # type: ignore[misc]
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    def _fit_resample(self, X: Any, y: Any, **params: Any) -> Any:
        raise NotImplementedError  # the core's fit_resample does it all


class GenerativeMixSampler(sampler.GenerativeMixSampler, _DenseOverSampler):
    """`genlabel_plugins.GenerativeMixSampler` for `imblearn.pipeline.Pipeline`, with the same options.

    Example:
        >>> from imblearn.pipeline import make_pipeline
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import StandardScaler
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), GenerativeMixSampler(random_state=0), LogisticRegression())
        >>> model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
        True
    """


class GenLabelSampler(sampler.GenLabelSampler, _DenseOverSampler):
    """`genlabel_plugins.GenLabelSampler` for `imblearn.pipeline.Pipeline`, with the same options.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True, as_frame=True)
        >>> sampler = GenLabelSampler(sampling_strategy={2: 80}, random_state=0)
        >>> X_more, y_more = sampler.fit_resample(X, y)
        >>> int(y_more.value_counts()[2]), sampler.sampling_strategy_
        (80, {2: 32})
    """
