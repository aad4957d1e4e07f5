"""GenLabel for scikit-learn: a classifier, and one that cross-validates how to mix."""

from genlabel_sklearn.classifier import GenLabelClassifier
from genlabel_sklearn.classifier_cv import GenLabelClassifierCV

__all__ = ["GenLabelClassifier", "GenLabelClassifierCV"]
