"""GenLabel inside the Trainer of transformers."""

from genlabel_transformers.model_features import ModelFeatures
from genlabel_transformers.trainer import GenLabelTrainer

__all__ = ["GenLabelTrainer", "ModelFeatures"]
