"""What every test and every docstring's example starts from."""

import os
import random

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")  # else Keras looks for TensorFlow

CHEAP = {
    "flow": {"max_epochs": 3, "n_layers": 1, "hidden_features": 8},
    "gan": {
        "latent_dim": 1,
        "max_epochs": 20,
        "learning_rate": 1e-2,
        "hidden_features": (16,),
        "n_restarts": 32,
        "n_steps": 3,
    },
    "vae": {"max_epochs": 5, "hidden_features": 8, "n_samples": 8},
}


@pytest.fixture(autouse=True)
def _seed():
    """The same random numbers in every run, whichever tests ran before in the same process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # timm and scikit-learn draw from it
    torch.manual_seed(0)


@pytest.fixture
def cheap():
    """Parameters by the name of a backend under which it trains in no time; of the others, none."""
    return lambda name: dict(CHEAP.get(name, {}))
