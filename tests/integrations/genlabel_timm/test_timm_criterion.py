"""GenLabelCriterion: the same labels as GenLabelMixup for the price of the training forward."""

import copy
import gc
import warnings
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data.mixup import Mixup
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from genlabel_plugins import GenLabel, make_backend
from genlabel_timm import GenLabelCriterion, GenLabelFastCollateMixup, GenLabelMixup, ModelFeatures

C = 5


class Recorder(nn.Module):
    """A soft-target loss that keeps its last label."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        self.y = y
        return SoftTargetCrossEntropy()(output, y)


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: nn.Module = timm.create_model("test_resnet", num_classes=C)
    return net


def batch(n: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % C


def call(mixup: Mixup, x: Tensor, target: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    np.random.seed(seed)  # noqa: NPY002 (timm draws from the global generator)
    mixed: tuple[Tensor, Tensor] = mixup(x.clone(), target)
    return mixed


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_same_labels_as_the_mixup_alone(mode: str) -> None:
    x, target = batch()
    options: dict[str, Any] = {"num_classes": C, "mode": mode, "cutmix_alpha": 1.0, "gamma": 0.7}
    alone = GenLabelMixup(**options).attach(model())
    net = model()
    mixup, recorder = GenLabelMixup(**options).attach(net), Recorder()
    criterion = GenLabelCriterion(recorder, mixup)
    for seed in range(3):
        expected = call(alone, x, target, seed)[1]
        x_mix, y_mix = call(mixup, x, target, seed)
        assert torch.equal(y_mix, call(Mixup(num_classes=C, mode=mode, cutmix_alpha=1.0), x, target, seed)[1])
        criterion(net(x_mix), y_mix).backward()
        torch.testing.assert_close(recorder.y, expected, atol=1e-5, rtol=1e-5)


def test_gamma_zero_hands_timms_target_to_the_base_loss() -> None:
    x, target = batch()
    net, recorder = model(), Recorder()
    mixup = GenLabelMixup(num_classes=C, gamma=0.0).attach(net)
    x_mix, y_mix = call(mixup, x, target)
    GenLabelCriterion(recorder, mixup)(net(x_mix), y_mix)
    assert recorder.y is y_mix


def test_class_indices_and_evaluation_pass_through() -> None:
    x, target = batch()
    net = model()
    criterion = GenLabelCriterion(nn.CrossEntropyLoss(), net)
    torch.testing.assert_close(criterion(net(x), target), nn.functional.cross_entropy(net(x), target))
    recorder = Recorder()
    criterion = GenLabelCriterion(recorder, net).eval()
    y_mix = call(Mixup(num_classes=C), x, target)[1]
    criterion(net(x), y_mix)
    assert recorder.y is y_mix
    assert criterion.report()["relabeled"] == 0


def test_a_foreign_mixup_needs_clean_rows_from_the_caller() -> None:
    x, target = batch()
    net, recorder = model(), Recorder()
    criterion = GenLabelCriterion(recorder, net, gamma=0.5, label_smoothing=0.1)
    x_mix, y_mix = call(Mixup(num_classes=C), x, target)
    with pytest.raises(ValueError, match=r"loader=.*observe"):
        criterion(net(x_mix), y_mix)
    criterion.observe(x, target)
    criterion(net(x_mix), y_mix)
    # Without the mask that GenLabelMixup keeps, rows mixed within one class pass for clean ones.
    two_classes = target != target.flip(0)
    assert (recorder.y != y_mix).any(1)[two_classes].all()
    assert torch.equal(recorder.y[~two_classes], y_mix[~two_classes])


def test_algorithm_2_labels_by_a_frozen_models_features() -> None:
    x, target = batch(40)
    net, recorder = model().eval(), Recorder()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    z = ModelFeatures(net)(x)
    relabeler = GenLabel(make_backend("gm", covariance_type="spherical"), gamma=0.6).fit(z, target)
    alone = GenLabelMixup(num_classes=C, label_smoothing=0.0, relabeler=relabeler).attach(net)
    x_mix, y = call(alone, x, target)
    y_mix = call(Mixup(num_classes=C, label_smoothing=0.0), x, target)[1]
    expected = 0.6 * relabeler.posterior(ModelFeatures(net)(x_mix)) + 0.4 * y_mix
    torch.testing.assert_close(y, expected, atol=1e-6, rtol=0)
    head = net.get_classifier().train()  # type: ignore[operator]
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    mixup = GenLabelMixup(num_classes=C, label_smoothing=0.0, relabeler=relabeler).attach(net)
    criterion = GenLabelCriterion(recorder, mixup)
    x_mix, y_mix = call(mixup, x, target)
    criterion(net(x_mix), y_mix).backward()
    torch.testing.assert_close(recorder.y, expected, atol=1e-6, rtol=0)


def test_keep_clean_is_the_mean_of_both_losses() -> None:
    x, target = batch()
    net = model()
    reference = copy.deepcopy(net)
    mixup, recorder = GenLabelMixup(num_classes=C, gamma=1.0).attach(net), Recorder()
    criterion = GenLabelCriterion(recorder, mixup, keep_clean=True)
    x_mix, y_mix = call(mixup, x, target)
    loss = criterion(net(x_mix), y_mix)
    loss.backward()

    alone = GenLabelMixup(num_classes=C, gamma=1.0).attach(reference)
    y = call(alone, x, target)[1]
    smooth = nn.functional.one_hot(target, C) * 0.9 + 0.1 / C
    expected = (SoftTargetCrossEntropy()(reference(x_mix), y) + SoftTargetCrossEntropy()(reference(x), smooth)) / 2
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for actual, wanted in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, wanted.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_labels_in_full_precision(dtype: torch.dtype) -> None:
    x, target = batch()
    net, recorder = model(), Recorder()
    mixup = GenLabelMixup(num_classes=C, gamma=0.7).attach(net)
    criterion = GenLabelCriterion(recorder, mixup)
    x_mix, y_mix = call(mixup, x, target)
    with torch.autocast("cpu", dtype=dtype):
        loss = criterion(net(x_mix), y_mix)
    loss.backward()
    assert recorder.y.dtype == torch.float32
    torch.testing.assert_close(recorder.y.sum(1), torch.ones(16), atol=1e-6, rtol=0)
    assert torch.isfinite(loss)


@pytest.mark.slow
def test_compiled_model_with_gradient_accumulation() -> None:
    x, target = batch()
    net, recorder = model(), Recorder()
    mixup = GenLabelMixup(num_classes=C).attach(net)
    criterion = GenLabelCriterion(recorder, mixup)
    compiled = torch.compile(net, backend="aot_eager")
    for micro_batch in range(4):
        x_mix, y_mix = call(mixup, x, target, seed=micro_batch)
        (criterion(compiled(x_mix), y_mix) / 4).backward()
        assert not torch.equal(recorder.y, y_mix)
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters() if parameter.grad is not None)
    torch._dynamo.reset()


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_a_mixed_batch_may_be_cut_into_micro_batches(mode: str) -> None:
    x, target = batch()
    net, recorder = model().eval(), Recorder()  # whose rows do not depend on one another
    net.get_classifier().train()  # type: ignore[operator]
    mixup = GenLabelMixup(num_classes=C, gamma=0.7, mode=mode).attach(net)
    criterion = GenLabelCriterion(recorder, mixup)
    x_mix, y_mix = call(mixup, x, target)
    labels = []
    for x_part, y_part in zip(x_mix.split(8), y_mix.split(8), strict=True):
        criterion(net(x_part), y_part).backward()
        labels.append(recorder.y)
    expected = call(GenLabelMixup(num_classes=C, gamma=0.7, mode=mode).attach(model().eval()), x, target)[1]
    torch.testing.assert_close(torch.cat(labels), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_lam_and_mask_travel_beside_labels_that_are_copied_or_cast(mode: str, smoothing: float) -> None:
    x, _ = batch()
    target = torch.arange(16) // 2 % 2  # half of the pairs lie within a class
    options: dict[str, Any] = {"num_classes": C, "mode": mode, "label_smoothing": smoothing, "prob": 0.7, "gamma": 0.7}
    net = model()
    mixup, recorder = GenLabelMixup(**options).attach(net), Recorder()
    criterion = GenLabelCriterion(recorder, mixup)
    for seed in range(4):
        expected = call(GenLabelMixup(**options).attach(model()), x, target, seed)[1]
        criterion.relabeling.forget()
        x_mix, y_mix = call(mixup, x, target, seed)
        criterion(net(x_mix.contiguous(memory_format=torch.channels_last)), y_mix.to("cpu", copy=True))
        torch.testing.assert_close(recorder.y, expected, atol=1e-5, rtol=0)
        kept = ((x_mix == x) | (x_mix == x.flip(0))).flatten(1).all(1)
        assert torch.equal(recorder.y[kept], y_mix[kept])
        x_mix, y_mix = call(mixup, x, target, seed)
        criterion(net(x_mix), y_mix.to(torch.bfloat16))
        unchanged = (recorder.y == y_mix.to(torch.bfloat16)).all(1)
        assert torch.equal(unchanged, kept)


def test_kept_clean_rows_go_with_their_micro_batch() -> None:
    x, target = batch()
    net = model().eval()
    net.get_classifier().train()  # type: ignore[operator]
    whole = GenLabelMixup(num_classes=C, gamma=0.0).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), whole, keep_clean=True)
    x_mix, y_mix = call(whole, x, target)
    expected = criterion(net(x_mix), y_mix)
    parts = GenLabelMixup(num_classes=C, gamma=0.0).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), parts, keep_clean=True)
    x_mix, y_mix = call(parts, x, target)
    losses = [criterion(net(a), b) for a, b in zip(x_mix.split(8), y_mix.split(8), strict=True)]
    torch.testing.assert_close(sum(losses) / 2, expected)


class NoSync(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("keep_clean", [False, True])
def test_no_loss_after_the_first_waits_for_the_device(keep_clean: bool) -> None:
    x, target = batch()
    net = model()
    mixup = GenLabelMixup(num_classes=C, mode="batch", warmup_steps=3).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup, keep_clean=keep_clean)
    x_mix, y_mix = call(mixup, x, target)
    criterion(net(x_mix), y_mix)
    for _ in range(2):
        with NoSync():
            x_mix, y_mix = call(mixup, x, target)
            criterion(net(x_mix), y_mix).backward()


@pytest.mark.slow
def test_hooks_go_with_the_mixers_that_are_dropped() -> None:
    net = model()
    for _ in range(50):  # a notebook cell, run again and again
        criterion = GenLabelCriterion(SoftTargetCrossEntropy(), GenLabelMixup(num_classes=C).attach(net))
    gc.collect()
    assert len(net.get_classifier()._forward_pre_hooks) == 1  # type: ignore[operator]
    del criterion
    gc.collect()
    assert not net.get_classifier()._forward_pre_hooks  # type: ignore[operator]


def test_the_mask_of_a_batch_mixed_ahead_is_not_taken_for_this_one() -> None:
    x, target = batch()
    net, recorder = model(), Recorder()
    mixup = GenLabelMixup(num_classes=C, gamma=0.7, mode="elem", prob=0.5).attach(net)
    criterion = GenLabelCriterion(recorder, mixup)
    x_mix, y_mix = call(mixup, x, target, seed=1)
    call(mixup, x, target, seed=2)
    criterion(net(x_mix), y_mix)
    assert torch.equal((recorder.y != y_mix).any(1), (x_mix != x).flatten(1).any(1) & (target != target.flip(0)))


def test_two_forwards_before_a_loss_warn() -> None:
    x, target = batch()
    net = model()
    mixup = GenLabelMixup(num_classes=C).attach(net)
    criterion = GenLabelCriterion(nn.CrossEntropyLoss(), mixup)
    x_mix, y_mix = call(mixup, x, target)
    output = net(x_mix)
    net(x)
    with pytest.warns(UserWarning, match="several training forwards"):
        criterion(output, y_mix)
    criterion(net(x), target)  # class indices take the features with them
    x_mix, y_mix = call(mixup, x, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(net(x_mix), y_mix)


def test_another_smoothing_than_declared_is_refused() -> None:
    x, target = batch()
    net = model()
    for declared, actual in ((0.1, 0.0), (0.0, 0.1)):
        criterion = GenLabelCriterion(SoftTargetCrossEntropy(), net, label_smoothing=declared)
        criterion.observe(x, target)
        x_mix, y_mix = call(Mixup(num_classes=C, label_smoothing=actual), x, target)
        with pytest.raises(
            ValueError, match=f"label_smoothing={declared}, but the labels are smoothed by {actual:.3g}"
        ):
            criterion(net(x_mix), y_mix)
        criterion.mix.detach()


def test_state_dict_holds_the_class_statistics_and_no_model() -> None:
    x, target = batch()
    net = model()
    mixup = GenLabelMixup(num_classes=C).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup)
    x_mix, y_mix = call(mixup, x, target)
    criterion(net(x_mix), y_mix)
    state = criterion.state_dict()
    assert sum(key.endswith("mean_") for key in state) == 1
    assert not any("conv" in key for key in state)
    assert not list(criterion.parameters())
    resumed = GenLabelCriterion(SoftTargetCrossEntropy(), model())
    resumed.load_state_dict(state)
    torch.testing.assert_close(resumed.relabeling.relabeler.density.mean_, criterion.relabeling.relabeler.density.mean_)
    other = GenLabelCriterion(SoftTargetCrossEntropy(), timm.create_model("test_resnet", num_classes=C + 1))
    with pytest.raises(ValueError, match=f"of {C} classes, these of {C + 1}"):
        other.load_state_dict(state)


def test_errors_and_warnings_name_the_remedy() -> None:
    x, target = batch()
    net = model()
    with pytest.raises(ValueError, match="JsdCrossEntropy"):
        GenLabelCriterion(JsdCrossEntropy(), net)
    with pytest.warns(UserWarning, match="target_threshold"):
        GenLabelCriterion(BinaryCrossEntropy(target_threshold=0.2), net)
    with pytest.raises(ValueError, match=r"GenLabelFastCollateMixup needs a model.*attach"):
        GenLabelCriterion(SoftTargetCrossEntropy(), GenLabelFastCollateMixup(num_classes=C))
    with pytest.raises(ValueError, match=r"\['gamma'\]"):
        GenLabelCriterion(SoftTargetCrossEntropy(), GenLabelMixup(num_classes=C).attach(net), gamma=0.5)
    with pytest.raises(ValueError, match=r"loss of soft labels.*LabelSmoothingCrossEntropy"):
        GenLabelCriterion(LabelSmoothingCrossEntropy(), net)
    mixup = GenLabelMixup(num_classes=7).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup)
    x_mix, y_mix = call(mixup, x, target)
    with pytest.raises(ValueError, match=r"num_classes=7.*5 classes"):
        criterion(net(x_mix), y_mix)
    mixup = GenLabelMixup(num_classes=C).attach(net)
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup)
    x_mix, y_mix = call(mixup, x, target)
    output = net.eval()(x_mix)
    with pytest.raises(ValueError, match=r"16 rows.*training mode, got none"):
        criterion(output, y_mix)


@pytest.mark.parametrize("wrapped", [False, True], ids=["mixer alone", "criterion"])
def test_a_run_that_goes_on_without_its_state_is_told_what_to_save(wrapped: bool) -> None:
    def step(load: dict[str, Any] | None) -> dict[str, Any]:
        model = timm.create_model("test_resnet", num_classes=10)
        mixup_fn = GenLabelMixup(mixup_alpha=1.0, num_classes=10).attach(model)
        base = SoftTargetCrossEntropy()
        criterion: Any = GenLabelCriterion(base, mixup_fn) if wrapped else base
        optimizer = torch.optim.AdamW(model.parameters())
        if load is not None:
            optimizer.load_state_dict(load)
        x, y = mixup_fn(torch.randn(8, 3, 32, 32), torch.arange(8))
        criterion(model(x), y).backward()
        optimizer.step()
        return optimizer.state_dict()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = step(None)
    with pytest.warns(UserWarning, match="GenLabelCriterion" if wrapped else "its mixer's relabeling"):
        step(state)


def test_a_switch_given_as_text_is_refused():
    mixup = GenLabelMixup(num_classes=C).attach(model())
    with pytest.raises(ValueError, match="keep_clean must be True or False, got 'false'"):
        GenLabelCriterion(SoftTargetCrossEntropy(), mixup, keep_clean="false")  # type: ignore[arg-type]
