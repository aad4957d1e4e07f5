"""scikit-learn's own checks of an estimator, with no exception."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from genlabel_sklearn import GenLabelClassifier, GenLabelClassifierCV


@pytest.mark.slow
@parametrize_with_checks([GenLabelClassifier(), GenLabelClassifierCV(n_repeats=1)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)
