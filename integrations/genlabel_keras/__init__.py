"""GenLabel inside Keras 3 on its torch backend."""

from genlabel_keras.mix_up import GenLabelMixUp

__all__ = ["GenLabelMixUp"]
