"""Streaming class moments against numpy."""

import numpy as np
import pytest
import torch

from genlabel_plugins.densities import _moments as moments
from genlabel_plugins.densities._moments import class_moments


def _rows(dtype=torch.float64, offset=0.0):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(500, 4, generator=generator, dtype=torch.float64) * torch.tensor([1, 2, 3, 4]) + offset).to(dtype)
    return x, torch.randint(0, 3, (500,), generator=generator)


@pytest.mark.parametrize("chunk_rows", [7, 64, 65_536])
@pytest.mark.parametrize("diagonal", [False, True])
def test_moments_equal_numpy_whatever_the_chunks(monkeypatch, chunk_rows, diagonal):
    monkeypatch.setattr(moments, "CHUNK_ROWS", chunk_rows)
    x, target = _rows()
    found = class_moments(x, target, 4, diagonal=diagonal)
    assert found.class_count.tolist() == np.bincount(target, minlength=4).tolist()
    for c in range(3):
        rows = x[target == c].numpy()
        scatter = np.cov(rows.T, bias=True) * len(rows)
        np.testing.assert_allclose(found.mean[c], rows.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.scatter[c], np.diag(scatter) if diagonal else scatter, rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(found.fourth[c], ((rows - rows.mean(0)) ** 4).sum(0), rtol=1e-10)
    assert not found.mean[3].any()
    assert not found.scatter[3].any()
    assert not found.fourth[3].any()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_float32_rows_far_from_zero_lose_nothing(offset):
    x, target = _rows(torch.float32, offset)
    found = class_moments(x, target, 3)
    for c in range(3):
        rows = x[target == c].double().numpy()  # the rows as float32 holds them
        np.testing.assert_allclose(found.mean[c], rows.mean(0), rtol=0, atol=2e-6)
        np.testing.assert_allclose(found.scatter[c] / len(rows), np.cov(rows.T, bias=True), rtol=2e-6, atol=2e-5)
        np.testing.assert_allclose(found.fourth[c], ((rows - rows.mean(0)) ** 4).sum(0), rtol=1e-3)


def test_state_is_float64_and_positive_semidefinite_far_from_zero():
    x, target = _rows(torch.float32, 1e6)
    found = class_moments(x, target, 3)
    assert found.scatter.dtype == torch.float64
    assert (torch.linalg.eigvalsh(found.scatter) > 0).all()
