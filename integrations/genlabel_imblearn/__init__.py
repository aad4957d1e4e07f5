"""The samplers of tables as over-samplers of imbalanced-learn."""

from genlabel_imblearn.over_sampling import GenerativeMixSampler, GenLabelSampler

__all__ = ["GenLabelSampler", "GenerativeMixSampler"]
