"""A classifier that is trained step by step, the least of backends, and skops; for more than one file."""

import torch
from sklearn.datasets import load_iris, load_wine
from skops import io as skops

from genlabel_sklearn import GenLabelClassifier

IRIS = load_iris(return_X_y=True)
WINE = load_wine(return_X_y=True)


def classifier(backend="gm", **options):
    """A network that is trained step by step, logistic regression too."""
    rate = {} if options.get("head") == "mlp" else {"learning_rate": 0.1}
    defaults = {"keep_clean": True, "early_stopping": False, "max_epochs": 20, "random_state": 0}
    return GenLabelClassifier(backend, **defaults | rate | options)


def fitted(*weights, data=IRIS, **options):
    return classifier(**options).fit(*data, *weights)


class Centroids:
    """The least that a backend is: `fit(x, target)` and `log_prob(x)`; it can run out after some calls."""

    def __init__(self, calls=1_000_000):
        self.calls = calls

    def fit(self, x, target):
        self.mean = torch.stack([x[target == c].mean(0) for c in range(int(target.max()) + 1)])
        return self

    def log_prob(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return -torch.cdist(x, self.mean).square() / 2


def through_skops(estimator):
    """The estimator written and read again, where nothing but our own types asks for trust."""
    stored = skops.dumps(estimator)
    types = skops.get_untrusted_types(data=stored)
    assert all(name.startswith(("genlabel_sklearn", "genlabel_plugins")) for name in types), types
    return skops.loads(stored, trusted=types)
