"""GenLabel inside timm's training loop."""

from genlabel_timm.arguments import (
    add_genlabel_arguments,
    genlabel_criterion_from_args,
    genlabel_mixup_from_args,
)
from genlabel_timm.collate import GenLabelFastCollateMixup
from genlabel_timm.criterion import GenLabelCriterion
from genlabel_timm.generative import GenerativeMixup
from genlabel_timm.mixup import GenLabelMixup
from genlabel_timm.model_features import ModelFeatures

__all__ = [
    "GenLabelCriterion",
    "GenLabelFastCollateMixup",
    "GenLabelMixup",
    "GenerativeMixup",
    "ModelFeatures",
    "add_genlabel_arguments",
    "genlabel_criterion_from_args",
    "genlabel_mixup_from_args",
]
