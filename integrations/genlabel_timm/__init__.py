"""GenLabel inside timm's training loop."""

from genlabel_timm.arguments import add_genlabel_arguments, genlabel_mixup_from_args
from genlabel_timm.collate import GenLabelFastCollateMixup
from genlabel_timm.criterion import GenLabelCriterion
from genlabel_timm.features import ModelFeatures
from genlabel_timm.generative import GenerativeMixup
from genlabel_timm.mixup import GenLabelMixup
from genlabel_timm.relabeling import Relabeling

__all__ = [
    "GenLabelCriterion",
    "GenLabelFastCollateMixup",
    "GenLabelMixup",
    "GenerativeMixup",
    "ModelFeatures",
    "Relabeling",
    "add_genlabel_arguments",
    "genlabel_mixup_from_args",
]
