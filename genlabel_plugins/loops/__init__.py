"""Mixing and relabeling in loops of plain PyTorch."""

from genlabel_plugins.loops.feature_tap import FeatureTap
from genlabel_plugins.loops.genlabel_loss import GenLabelLoss
from genlabel_plugins.loops.genlabel_mix import BatchMix, GenerativeMix, GenLabelMix, LabeledMix
from genlabel_plugins.loops.head_features import HeadFeatures
from genlabel_plugins.loops.manifold import ManifoldMix
from genlabel_plugins.loops.mixed_batch import MixedBatch
from genlabel_plugins.loops.relabel_transform import RelabelTransform
from genlabel_plugins.loops.resuming import watch_for_resume

__all__ = [
    "BatchMix",
    "FeatureTap",
    "GenLabelLoss",
    "GenLabelMix",
    "GenerativeMix",
    "HeadFeatures",
    "LabeledMix",
    "ManifoldMix",
    "MixedBatch",
    "RelabelTransform",
    "watch_for_resume",
]
