"""What every test and every docstring's example starts from."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    """The same random numbers in every run, whichever tests ran before in the same process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # timm and scikit-learn draw from it
    torch.manual_seed(0)
