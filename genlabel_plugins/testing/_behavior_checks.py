"""What a backend does as a module, whatever the rows: shapes, dtypes, randomness, state, autograd."""

from __future__ import annotations

import copy
import inspect
from unittest import SkipTest

import torch
from sklearn.exceptions import NotFittedError

from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.testing._assertions import Make, assert_raises, assert_same, assert_same_label, blobs, skip_unless


def check_constructor_stores_arguments(make: Make) -> None:
    """Each constructor argument is kept under its own name, and nothing is learnt yet."""
    density = make()
    for name in inspect.signature(type(density)).parameters:
        assert hasattr(density, name), f"the argument {name} must be stored as an attribute of that name"
    assert_raises(NotFittedError, density.log_prob, torch.zeros(1, 2))


def check_shape_and_dtype(make: Make) -> None:
    """`(B, *)` gives `(B, C)` in the dtype of the training rows, whatever the dtype of the batch."""
    x, target = blobs()
    for stored in (torch.float32, torch.float64):
        density = make()
        assert density.fit(x.to(stored), target) is density, "fit must return self"
        for given in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            log_prob = density.log_prob(x[:5].to(given))
            assert log_prob.shape == (5, 3), f"log_prob must have shape (5, 3), got {tuple(log_prob.shape)}"
            assert log_prob.dtype == stored, f"log_prob must have dtype {stored}, got {log_prob.dtype}"
        assert_same(density.log_prob(x[:5, None, :, None]), density.log_prob(x[:5]), "of inputs (B, 1, D, 1)")
        assert density.log_prob(x[:0]).shape == (0, 3), "an empty batch must give shape (0, 3)"
        density.bfloat16()
        assert density.log_prob(x[:5]).dtype == stored, "model.bfloat16() must leave the precision alone"
    assert_raises(ValueError, density.log_prob, x[:, :1])


def check_device(make: Make) -> None:
    """Log-densities live where the rows are, and agree with those on the CPU."""
    if not torch.cuda.is_available():
        raise SkipTest("needs a CUDA device")
    x, target = blobs()
    density = make().fit(x.cuda(), target.cuda())
    log_prob = density.log_prob(x.cuda())
    assert log_prob.device.type == "cuda", f"log_prob must stay on cuda, got {log_prob.device}"
    assert_same_label(density.cpu().log_prob(x), log_prob.cpu(), "on the CPU")


def check_deterministic(make: Make) -> None:
    """Equal generators give equal densities, `log_prob` draws nothing, the global generator is left alone."""
    x, target = blobs()
    state = torch.get_rng_state()
    first = make().fit(x, target, generator=torch.Generator().manual_seed(1))
    log_prob = first.log_prob(x)
    assert torch.equal(torch.get_rng_state(), state), "the global generator must be left alone"
    torch.manual_seed(123)
    second = make().fit(x, target, generator=torch.Generator().manual_seed(1))
    assert_same(second.log_prob(x), log_prob, "under an equal generator")
    assert_same(first.log_prob(x), log_prob, "when asked twice")


def check_refit_equals_fit(make: Make) -> None:
    """Nothing is left of an earlier fit."""
    x, target = blobs()
    once = make().fit(x, target)
    twice = make().fit(x[:80].float() * 3 + 1, target[:80], n_classes=5).fit(x, target)
    assert_same(twice.log_prob(x), once.log_prob(x), "after a second fit")


def check_rows_are_independent(make: Make) -> None:
    """The log-density of a row does not depend on the batch it comes in."""
    x, target = blobs()
    density = make().fit(x, target)
    one_by_one = torch.cat([density.log_prob(row[None]) for row in x[::20]])
    assert_same_label(one_by_one, density.log_prob(x)[::20], "row by row")


def check_state_dict(make: Make) -> None:
    """A fresh object that loads the state dict is the fitted one, and so is a deep copy."""
    x, target = blobs()
    for dtype in (torch.float32, torch.float64):
        density = make().fit(x.to(dtype), target, n_classes=5)
        expected = density.log_prob(x)
        fresh = make()
        fresh.load_state_dict(density.state_dict())
        assert_same(fresh.log_prob(x), expected, "after a state dict round trip")
        assert_same(copy.deepcopy(density).log_prob(x), expected, "of a deep copy")


def check_no_gradient_left(make: Make) -> None:
    """No graph and no gradient stays behind, whatever the caller's mode."""
    x, target = blobs()
    density = make().fit(x.clone().requires_grad_(), target)
    rows = x.clone().requires_grad_()
    log_prob = density.log_prob(rows)
    assert not log_prob.requires_grad, "log_prob must not require a gradient"
    assert rows.grad is None, "log_prob must leave no gradient on its rows"
    for name, parameter in density.named_parameters():
        assert not parameter.requires_grad, f"the parameter {name} must not require a gradient after fit"
        assert parameter.grad is None, f"the parameter {name} must have no gradient after log_prob"
    with torch.no_grad():
        assert_same(density.log_prob(x), log_prob, "under no_grad")


def check_autocast(make: Make) -> None:
    """Autocast does not reach a log-density."""
    x, target = blobs()
    density = make().fit(x.float(), target)
    expected = density.log_prob(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(density.log_prob(x.float()), expected, "under autocast")
        assert_same(make().fit(x.float(), target).log_prob(x.float()), expected, "fitted under autocast")


def check_compiles(make: Make) -> None:
    """`torch.compile` captures relabeling in one graph."""
    skip_unless(make, "compilable")
    x, target = blobs()
    genlabel = GenLabel(make(), gamma=0.5).fit(x, target)
    y_mix = torch.full((len(x), 3), 1 / 3).to(x)
    torch.compiler.reset()
    compiled = torch.compile(genlabel.relabel, fullgraph=True, backend="eager")
    assert_same(compiled(x, y_mix), genlabel.relabel(x, y_mix), "when compiled")
