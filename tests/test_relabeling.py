"""Relabeling against the posterior of scikit-learn's and scipy's Gaussians, and what its report means."""

import copy
import io
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from torch.utils._python_dispatch import TorchDispatchMode

from genlabel_plugins import ExcludeIntrusion, GenLabel, Mixup, Relabeling
from genlabel_plugins._checks import check_labels
from genlabel_plugins.mixing.inputs import clean_first, one_hot
from genlabel_plugins.relabeling import shows_mixture

X, TARGET = (torch.as_tensor(values) for values in load_iris(return_X_y=True))
Y = one_hot(TARGET, 3, X)


def mixed_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    mixed = Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(seed))(X, TARGET)
    return mixed.x, mixed.y_mix


def spherical_posterior(x: torch.Tensor) -> np.ndarray:
    """Algorithm 3 after one batch, from scipy's density of one class at a time."""
    score = []
    for c in range(3):
        rows = X[c == TARGET].numpy()
        variance = np.trace(np.cov(rows.T)) / 4
        score.append(multivariate_normal(rows.mean(0), variance * np.eye(4)).logpdf(x))
    p = np.exp(np.stack(score, 1) - np.max(score, 0)[:, None])
    p[np.arange(len(p)), p.argmin(1)] = 0  # top_k=2
    return p / p.sum(1, keepdims=True)


def test_algorithm_3_blends_the_posterior_of_class_gaussians():
    relabeling = Relabeling(3, gamma=0.7)
    relabeling.observe(X, TARGET)
    x, y_lin = mixed_batch()
    y = relabeling.label(x, y_lin, mixed=True)
    np.testing.assert_allclose(y, 0.7 * spherical_posterior(x) + 0.3 * y_lin.numpy(), atol=1e-9)
    assert y.dtype == torch.float64


@pytest.mark.parametrize("gamma", [0.0, 0.4, 1.0])
def test_a_fitted_relabeler_blends_by_its_own_gamma(gamma):
    relabeler = GenLabel("gm", gamma=gamma).fit(X, TARGET)
    x, y_lin = mixed_batch()
    y = Relabeling(3, relabeler=relabeler).label(x, y_lin)
    expected = gamma * relabeler.posterior(x) + (1 - gamma) * y_lin
    torch.testing.assert_close(y[shows_mixture(y_lin)], expected[shows_mixture(y_lin)], atol=1e-12, rtol=0)


def test_a_relabeler_of_another_kind_is_taken_at_its_word():
    class Even:
        def relabel(self, x, y_mix):
            return torch.full_like(y_mix, 1 / 3)

    y = Relabeling(3, relabeler=Even()).label(*mixed_batch(), mixed=True)
    torch.testing.assert_close(y, torch.full_like(y, 1 / 3))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_that_are_not_mixed_keep_their_label_bit_for_bit(smoothing):
    relabeling = Relabeling(3, relabeler=GenLabel("gm", gamma=1.0).fit(X, TARGET))
    x, y_lin = mixed_batch()
    y_lin = y_lin * (1 - smoothing) + smoothing / 3
    mask = torch.arange(len(x)) % 3 == 0
    y = relabeling.label(x, y_lin, mask)
    assert torch.equal(y[~mask], y_lin[~mask])
    assert not torch.isclose(y[mask], y_lin[mask], atol=1e-3).all()
    assert torch.equal(relabeling.label(x, y_lin, mixed=False), y_lin)


def test_by_default_the_labels_themselves_say_which_rows_are_mixed():
    relabeling = Relabeling(3, relabeler=GenLabel("gm", gamma=1.0).fit(X, TARGET))
    y_lin = torch.cat([Y[:50].roll(1, 1), (Y[50:] + Y[50:].roll(1, 1)) / 2])
    y = relabeling.label(X, y_lin)
    assert torch.equal(y[:50], y_lin[:50])
    assert relabeling.report()["relabeled"] == pytest.approx(2 / 3)
    assert shows_mixture(torch.tensor([[0.999, 0.001], [1.0, 0.0]], dtype=torch.bfloat16)).tolist() == [False, False]


def test_the_warm_up_grows_from_the_linear_label():
    x, y_lin = mixed_batch()
    full = Relabeling(3, relabeler=GenLabel("gm", gamma=0.8).fit(X, TARGET)).label(x, y_lin) - y_lin
    relabeling = Relabeling(3, relabeler=GenLabel("gm", gamma=0.8).fit(X, TARGET), warmup_steps=4)
    for step in range(6):
        torch.testing.assert_close(relabeling.label(x, y_lin) - y_lin, full * min(step / 4, 1), atol=1e-12, rtol=0)


def test_accuracy_is_counted_before_the_statistics_learn():
    relabeling = Relabeling(3, beta=0.0)
    relabeling.observe(X, TARGET)
    assert math.isnan(relabeling.report()["clean_accuracy"])
    swapped = (TARGET + 1) % 3
    relabeling.observe(X, swapped)  # by the statistics of before, nearly all are wrong
    assert relabeling.report()["clean_accuracy"] < 0.1
    relabeling.observe(X, swapped)
    assert relabeling.report()["clean_accuracy"] > 0.9


def test_a_fitted_relabeler_counts_clean_rows_and_learns_nothing():
    relabeler = GenLabel("gm").fit(X, TARGET)
    state = copy.deepcopy(relabeler.density.state_dict())
    relabeling = Relabeling(3, relabeler=relabeler)
    relabeling.observe(X, TARGET)
    assert all(torch.equal(value, state[name]) for name, value in relabeler.density.state_dict().items())
    expected = (relabeler.posterior(X).argmax(1) == TARGET).double().mean()
    assert relabeling.report()["clean_accuracy"] == pytest.approx(float(expected))


def test_the_report_means_the_same_whatever_gamma_is():
    x, y_lin = mixed_batch()
    for gamma in (0.3, 0.9):
        relabeling = Relabeling(3, gamma=gamma)
        relabeling.observe(X, TARGET)
        relabeling.label(x, y_lin, mixed=torch.arange(150) < 50)
        relabeling.label(x, y_lin, mixed=False)
        report = relabeling.report()
        y_gen = torch.as_tensor(spherical_posterior(x))[:50]
        assert report["relabeled"] == pytest.approx(50 / 300)
        assert report["distance"] == pytest.approx(float((y_gen - y_lin[:50]).abs().sum(1).mean() / 2), abs=1e-5)
        assert report["entropy"] == pytest.approx(float(torch.special.entr(y_gen).sum(1).mean()), abs=1e-5)
        assert report["class_share"] == pytest.approx(y_gen.mean(0).tolist(), abs=1e-5)
        assert report["classes_without_statistics"] == []
        assert relabeling.report()["relabeled"] == 0


def test_the_report_counts_rows_that_were_passed_over():
    relabeling = Relabeling(3)
    relabeling.observe(X, TARGET)
    spoilt = X.clone()
    spoilt[0], spoilt[1] = 1e9, math.nan
    relabeling.observe(spoilt, TARGET)
    assert relabeling.report()["passed_over_rows"] == 2
    relabeling.forget()
    assert relabeling.report()["passed_over_rows"] == 0
    assert Relabeling(3, relabeler=GenLabel("gm").fit(X, TARGET)).report()["passed_over_rows"] == 0


def test_the_state_carries_statistics_and_step():
    relabeling = Relabeling(3, warmup_steps=5)
    relabeling.observe(X, TARGET)
    relabeling.label(*mixed_batch())
    file = io.BytesIO()
    torch.save(relabeling.state_dict(), file)
    file.seek(0)
    resumed = Relabeling(3, warmup_steps=5)
    resumed.load_state_dict(torch.load(file))
    assert resumed.step == 1
    assert resumed.ready
    assert torch.equal(resumed.label(*mixed_batch()), relabeling.label(*mixed_batch()))
    relabeling.forget()
    assert (relabeling.step, relabeling.ready, relabeling.report()["relabeled"]) == (0, False, 0)


def test_statistics_of_another_number_of_classes_or_features_are_refused():
    saved = Relabeling(3)
    saved.observe(X, TARGET)
    with pytest.raises(ValueError, match="of 3 classes, these of 4"):
        Relabeling(4).load_state_dict(saved.state_dict())
    other = Relabeling(3)
    other.observe(X[:, :2], TARGET)
    with pytest.raises(ValueError, match="of 4 features, these of 2"):
        other.load_state_dict(saved.state_dict())
    assert other.relabeler.density.mean_.shape == (3, 2)
    fresh = Relabeling(3)
    fresh.load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="the 4 features seen before, got 2"):
        fresh.label(X[:, :2], Y, mixed=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0.0, 1.0, 0.4], [2.0, 0.0, 0.9]], "kornia's columns"),
        ([[[0.0, 1.0, 0.4], [2.0, 0.0, 0.9]]], "kornia's columns"),
        ([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]], "kornia's columns|several classes"),
        ([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], "several classes at once"),
        ([[-1.0, 2.0, 0.5], [0.0, 1.0, 0.0]], "logits"),
        ([[0.2, 0.2, 0.2], [0.0, 1.0, 0.0]], "divided by their sum"),
        ([[0.5, 0.5], [0.0, 1.0]], r"shape \(B, 3\).*got shape \(2, 2\)"),
        ([0.0, 1.0], "class indices"),
        ([[math.nan, 0.5, 0.5], [0.0, 1.0, 0.0]], "nan"),
    ],
)
def test_labels_are_not_trusted_by_shape(y, message):
    with pytest.raises(ValueError, match=message):
        Relabeling(3, relabeler=GenLabel("gm").fit(X, TARGET)).label(X[:2], torch.tensor(y))


def test_labels_of_any_precision_and_smoothing_pass():
    y = torch.rand(64, 1000).softmax(1)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        check_labels(y.to(dtype), 1000)
        check_labels((one_hot(torch.arange(64), 1000, y) * 0.9 + 0.1 / 1000).to(dtype))


def test_targets_out_of_range_are_named_in_the_first_batch():
    with pytest.raises(ValueError, match=r"0\.\.1, got values from 0 to 2"):
        Relabeling(2).observe(X, TARGET)


class NoSync(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step waited for the device"
        assert func is not torch.ops.aten.nonzero.default, "a step waited for the device"
        return func(*args, **(kwargs or {}))


def test_no_step_after_the_first_waits_for_the_device():
    relabeling = Relabeling(3, warmup_steps=3)
    x, y_lin = mixed_batch()
    relabeling.observe(X, TARGET)
    relabeling.label(x, y_lin)
    with NoSync():
        for _ in range(3):
            relabeling.observe(X, TARGET)
            relabeling.label(x, y_lin)


def test_degenerate_labels_warn_once_a_training():
    relabeling = Relabeling(3, gamma=1.0)
    relabeling.observe(X, TARGET * 0)
    y_lin = torch.full((1200, 3), 1 / 3)
    relabeling.label(torch.zeros(1200, 4), y_lin)
    with pytest.warns(UserWarning, match=r"degenerate.*lower gamma.*warm-up.*keep_clean"):
        relabeling.report()
    relabeling.label(torch.zeros(1200, 4), y_lin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relabeling.report()


def test_options_are_named():
    for option in ({"gamma": 1.5}, {"gamma": "0.5"}, {"beta": -1.0}, {"stats_every": 0}, {"warmup_steps": -1}):
        name, value = next(iter(option.items()))
        with pytest.raises(ValueError, match=f"{name} must .*{value}"):
            Relabeling(3, **option)
    with pytest.raises(ValueError, match="gamma is the relabeler's own"):
        Relabeling(3, relabeler=GenLabel("gm"), gamma=0.5)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got values from -1 to 2"):
        GenLabel("gm", gamma=torch.tensor([-1.0, 2.0]))
    y = GenLabel("gm").fit(X, TARGET).relabel(X, Y, gamma=torch.linspace(-1, 2, 150))
    assert ((y >= 0) & (y <= 1)).all()


def test_clean_rows_come_first_in_inputs_and_labels():
    both = clean_first({"a": X[:2]}, {"a": X[2:5]})
    assert torch.equal(both["a"], X[:5])
    assert torch.equal(clean_first(one_hot(TARGET[:2], 3, Y), Y[2:4]), Y[:4])


def test_rows_that_hold_one_input_are_not_mixed():
    partner = torch.tensor([1, 0, 2, 0, 0])
    mixed = Mixup(3).mixed(X[:5], TARGET[:5], partner, torch.tensor([0.5, 1.0, 0.3, 0.0, 0.2]))
    assert mixed.is_mixed.tolist() == [True, False, False, False, True]


def test_rows_that_are_left_of_a_batch_know_their_own_place():
    generator = torch.Generator().manual_seed(0)
    left = ExcludeIntrusion(Mixup(3, per_sample=True, generator=generator), X, TARGET, how="drop")(X, TARGET)
    assert len(left.lam) < len(X)
    assert torch.equal(left.target_i, TARGET[left.row])
    itself = torch.tensor([torch.equal(x, X[row]) for x, row in zip(left.x, left.row, strict=True)])
    assert torch.equal(left.is_mixed, (left.partner != left.row) & (left.lam < 1))
    assert itself[~left.is_mixed].all()


def test_statistics_are_due_again_a_fixed_number_of_steps_after_the_last_update():
    relabeling, labels = Relabeling(3, stats_every=2), mixed_batch()
    wanted = []
    for has_clean_rows in (True, False, False, True, False, True):
        wanted.append(relabeling.wants_clean)
        if wanted[-1] and has_clean_rows:  # a step without them is made up for by the next
            relabeling.observe(X, TARGET)
        relabeling.label(*labels)
    assert wanted == [True, False, True, True, False, True]
    resumed = Relabeling(3, stats_every=2)
    resumed.load_state_dict(relabeling.state_dict())
    assert resumed.wants_clean == relabeling.wants_clean is False


def test_a_report_after_forgetting_counts_no_earlier_fallback():
    relabeling = Relabeling(3)
    relabeling.observe(X, TARGET)
    x, y = mixed_batch()
    x[0] = math.nan
    relabeling.label(x, y, mixed=True)
    assert relabeling.report()["fallback_rows"] == 1
    relabeling.label(x, y, mixed=True)
    relabeling.forget()
    assert relabeling.report()["fallback_rows"] == 0


def test_labels_of_one_class_each_are_no_even_ones():
    relabeling = Relabeling(3, top_k=1)
    relabeling.observe(X, TARGET)
    x, y = mixed_batch()
    x[0], y[0] = math.nan, Y[0].lerp(Y[-1], 0.5)  # keeps its linear label, which is less sure than any other
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            relabeling.label(x, y, mixed=True)
        assert relabeling.report()["entropy"] > 0
