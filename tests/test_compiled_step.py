"""A training step with relabeling, compiled by inductor to machine code."""

import os
import shutil

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from genlabel_plugins import GenLabel

COMPILERS = ("c++", "g++", "clang++", "cl")  # what inductor looks for


@pytest.fixture
def compiler():
    """A C++ compiler, in continuous integration always."""
    if not any(map(shutil.which, COMPILERS)) and "CI" not in os.environ:
        pytest.skip(f"inductor needs a C++ compiler, one of {', '.join(COMPILERS)}")


@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    target = torch.arange(90) % 3
    x = torch.randn(90, 5) + target[:, None]
    genlabel, model = GenLabel("gm", gamma=0.6).fit(x, target), nn.Linear(5, 3)

    def step(x, y, lam):
        x_mix, y_mix = (lam * rows + (1 - lam) * rows.roll(1, 0) for rows in (x, y))
        label = genlabel.relabel(x_mix, y_mix)
        return label, cross_entropy(model(x_mix), label)

    arguments = x[:32], one_hot(target[:32], 3).to(x), torch.tensor(0.3)
    torch.compiler.reset()
    found = {}
    for name, run in (("eager", step), ("compiled", torch.compile(step, fullgraph=True, backend="inductor"))):
        model.zero_grad()
        label, loss = run(*arguments)
        loss.backward()
        found[name] = label, loss.detach(), model.weight.grad.clone()
    assert (found["eager"][0].sum(1) - 1).abs().max() < 1e-6
    for compiled, eager in zip(found["compiled"], found["eager"], strict=True):
        torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=1e-5)
