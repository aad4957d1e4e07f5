"""Mixing and relabeling in loops of plain PyTorch."""

from genlabel_plugins.loops.feature_tap import FeatureTap
from genlabel_plugins.loops.genlabel_mix import BatchMix, GenerativeMix, GenLabelMix, LabeledMix, RelabelTransform
from genlabel_plugins.loops.manifold import ManifoldMix

__all__ = ["BatchMix", "FeatureTap", "GenLabelMix", "GenerativeMix", "LabeledMix", "ManifoldMix", "RelabelTransform"]
