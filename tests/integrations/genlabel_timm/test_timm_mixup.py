"""GenLabelMixup against timm's Mixup and against Algorithms 1 to 3 written out."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import timm
import torch
from timm.data.mixup import Mixup, mixup_target

from genlabel_plugins import Density, GenLabel, Relabeling, RunningGaussian, make_backend
from genlabel_plugins.loops.head_features import untracked_statistics
from genlabel_timm import GenLabelMixup, ModelFeatures

C = 5
MODES = [
    {"mode": "batch", "mixup_alpha": 1.0},
    {"mode": "batch", "mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    {"mode": "batch", "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.5, "switch_prob": 0.3},
    {"mode": "pair", "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.7},
    {"mode": "elem", "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.7},
    {"mode": "elem", "mixup_alpha": 0.0, "cutmix_minmax": (0.2, 0.8)},
    {"mode": "pair", "mixup_alpha": 0.2, "label_smoothing": 0.0, "correct_lam": False},
]


def batch(n: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.randint(C, (n,), generator=generator)


def model(n_classes: int = C) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=n_classes)


def spherical() -> Density:
    density: Density = make_backend("gm", covariance_type="spherical")
    return density


def call(mixup: Mixup, x: torch.Tensor, target: torch.Tensor, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    np.random.seed(seed)  # noqa: NPY002 (timm draws from the global generator)
    mixed: tuple[torch.Tensor, torch.Tensor] = mixup(x.clone(), target)
    return mixed


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_gamma_zero_is_timm_bit_for_bit(options: dict[str, object], seed: int) -> None:
    x, target = batch()
    expected = call(Mixup(num_classes=C, **options), x, target, seed)
    actual = call(GenLabelMixup(num_classes=C, gamma=0.0, **options).attach(model()), x, target, seed)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("options", MODES)
def test_a_relabeler_that_keeps_the_label_is_timm_bit_for_bit(options: dict[str, object]) -> None:
    x, target = batch()
    relabeler = GenLabel(spherical(), gamma=0.0).fit(torch.randn(50, 3, 32, 32), torch.arange(50) % C)
    expected = call(Mixup(num_classes=C, **options), x, target)
    actual = call(GenLabelMixup(num_classes=C, relabeler=relabeler, **options), x, target)
    assert torch.equal(actual[1], expected[1])


@pytest.mark.slow
@pytest.mark.parametrize("options", MODES)
def test_only_mixed_rows_change_and_labels_stay_distributions(options: dict[str, object]) -> None:
    x, target = batch(16)
    timm_mixup = Mixup(num_classes=C, **options)
    mixup = GenLabelMixup(num_classes=C, gamma=0.9, **options).attach(model())
    mixed_rows = 0
    for seed in range(8):
        x_mix, y_mix = call(timm_mixup, x, target, seed)
        actual, y = call(mixup, x, target, seed)
        changed = (x_mix != x).flatten(1).any(1)
        assert torch.equal(actual, x_mix)
        assert torch.equal(y[~changed], y_mix[~changed])
        torch.testing.assert_close(y.sum(1), torch.ones(16))
        assert (y >= 0).all()
        mixed_rows += int(changed.sum())
    assert mixup.report()["relabeled"] == pytest.approx(mixed_rows / (8 * 16), abs=0.02)


def test_unattached_it_is_timm_with_one_warning() -> None:
    x, target = batch()
    mixup = GenLabelMixup(num_classes=C)
    with pytest.warns(UserWarning, match="attach"):
        actual = call(mixup, x, target)
    assert torch.equal(actual[1], call(Mixup(num_classes=C), x, target)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(mixup, x, target)


def test_algorithm_1_blends_the_posterior_of_the_mixed_input() -> None:
    x, target = batch(8)
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(200, 3, 32, 32, generator=generator) + torch.arange(200).reshape(-1, 1, 1, 1) % C / 10
    relabeler = GenLabel(spherical(), gamma=0.6).fit(rows, torch.arange(200) % C)
    x_mix, y_mix = call(Mixup(num_classes=C, label_smoothing=0.0), x, target)
    _, y = call(GenLabelMixup(num_classes=C, label_smoothing=0.0, relabeler=relabeler), x, target)
    torch.testing.assert_close(y, 0.6 * relabeler.posterior(x_mix) + 0.4 * y_mix, atol=1e-6, rtol=0)


def test_algorithm_3_by_hand_with_smoothing() -> None:
    x, target = batch(16)
    net, smoothing, gamma = model(), 0.1, 0.7
    reference = copy.deepcopy(net)
    features = ModelFeatures(reference)
    _, y = call(GenLabelMixup(num_classes=C, gamma=gamma, label_smoothing=smoothing).attach(net), x, target)

    running = RunningGaussian(C)
    running.update(features(x), target)
    x_mix, y_mix = call(Mixup(num_classes=C, label_smoothing=smoothing), x, target)
    log_prob = running.log_prob(features(x_mix))
    best = log_prob.argsort(1, descending=True)[:, :2]
    y_gen = torch.zeros(16, C)
    for row in range(16):
        p = (log_prob[row, best[row]] - log_prob[row, best[row, 0]]).exp()
        y_gen[row, best[row]] = p / p.sum()
    smooth = y_gen * (1 - smoothing) + smoothing / C
    torch.testing.assert_close(y, gamma * smooth + (1 - gamma) * y_mix, atol=1e-5, rtol=0)


def test_extra_passes_leave_no_trace_in_the_model() -> None:
    x, target = batch()
    net = model()
    before = copy.deepcopy(net.state_dict())
    call(GenLabelMixup(num_classes=C).attach(net), x, target)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_extra_passes_normalize_as_training_does() -> None:
    x, _ = batch()
    net = model()
    with untracked_statistics(net):
        expected = net(x)
    torch.testing.assert_close(net(x), expected)
    assert not torch.allclose(net.eval()(x), expected, atol=1e-3)


def test_warm_up_grows_from_timm_to_the_full_correction() -> None:
    x, target = batch(16)
    y_mix = call(Mixup(num_classes=C), x, target)[1]
    full = call(GenLabelMixup(num_classes=C, gamma=0.8).attach(model()), x, target)[1] - y_mix
    mixup = GenLabelMixup(num_classes=C, gamma=0.8, warmup_steps=4).attach(model())
    for step in range(6):
        correction = call(mixup, x, target)[1] - y_mix
        torch.testing.assert_close(correction, full * min(step / 4, 1), atol=1e-6, rtol=0)


def test_stats_every_spaces_the_clean_passes() -> None:
    x, target = batch()
    mixup = GenLabelMixup(num_classes=C, stats_every=3).attach(model())
    counts = []
    for _ in range(7):
        call(mixup, x, target)
        counts.append(int(mixup.relabeling.relabeler.density.class_count_.sum()))
    assert counts == [8, 8, 8, 16, 16, 16, 24]


def test_mixing_turned_off_relabels_nothing() -> None:
    x, target = batch()
    mixup = GenLabelMixup(num_classes=C).attach(model())
    mixup.mixup_enabled = False
    x_same, y = call(mixup, x, target)
    assert torch.equal(x_same, x)
    assert torch.equal(y, mixup_target(target, C, 1.0, 0.1))
    assert mixup.report()["relabeled"] == 0


def test_report_names_classes_without_statistics() -> None:
    x, _ = batch()
    mixup = GenLabelMixup(num_classes=C).attach(model())
    call(mixup, x, torch.tensor([0, 0, 0, 0, 3, 3, 3, 3]))
    report = mixup.report()
    assert report["classes_without_statistics"] == [1, 2, 4]
    assert np.isnan(report["clean_accuracy"])
    assert report["relabeled"] == 1
    assert report["fallback_rows"] == 0
    assert sum(report["class_share"]) == pytest.approx(1, abs=1e-5)
    assert 0 <= report["distance"] <= 1
    assert 0 <= report["entropy"] <= np.log(2) + 1e-5
    assert mixup.report()["relabeled"] == 0


def test_degenerate_labels_warn_once_and_name_the_remedy() -> None:
    mixup = GenLabelMixup(num_classes=C, gamma=1.0).attach(model())
    features = torch.zeros(1200, 4)
    y_mix = torch.full((1200, C), 1 / C)
    mixup.relabeling.observe(torch.randn(100, 4), torch.zeros(100, dtype=torch.long))
    mixup.relabeling.label(features, y_mix)
    with pytest.warns(UserWarning, match=r"degenerate.*lower gamma.*warm-up.*keep_clean"):
        mixup.report()
    mixup.relabeling.label(features, y_mix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixup.report()


@pytest.mark.slow
def test_sure_labels_of_densities_that_misclassify_clean_rows_warn() -> None:
    relabeling = Relabeling(C, gamma=1.0)
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(50) % C
    centers = 100 * torch.eye(C)
    y_mix = (torch.eye(C) + torch.eye(C).roll(1, 0))[target] / 2
    for step in range(500):
        relabeling.observe(centers[target] + torch.randn(50, C, generator=generator), target)
        relabeling.meter.add_clean(torch.zeros(50, C), (target + 1) % C)  # far worse than the fit itself
        if step == 499:
            with pytest.warns(UserWarning, match="accuracy on clean rows 0.6"):
                relabeling.label(centers[target], y_mix)
        else:
            relabeling.label(centers[target], y_mix)


def test_errors_name_the_value() -> None:
    x, target = batch()
    if "multi_label" in inspect.signature(Mixup).parameters:  # from timm 1.0.31 on
        with pytest.raises(ValueError, match="multi_label"):
            GenLabelMixup(num_classes=C, multi_label=True)
    with pytest.raises(ValueError, match=r"num_classes=7.*5 classes"):
        GenLabelMixup(num_classes=7).attach(model())(x, target)
    with pytest.raises(ValueError, match=r"even, got 7.*drop_last"):
        GenLabelMixup(num_classes=C).attach(model())(x[:7], target[:7])
    with pytest.raises(TypeError, match="splits"):
        GenLabelMixup(num_classes=C).attach(model())([x, x], target)
    for wrong, message in ((target + 5, "lie in 0..4"), (torch.eye(C)[target], r"class indices.*got torch.float32")):
        with pytest.raises(ValueError, match=f"target must .*{message}"):
            GenLabelMixup(num_classes=C).attach(model())(x, wrong)
        with pytest.raises(ValueError, match=f"target must .*{message}"):
            GenLabelMixup(num_classes=C)(x, wrong)
    for option in (
        {"gamma": 1.5},
        {"gamma": "0.5"},
        {"beta": -1.0},
        {"stats_every": 0},
        {"warmup_steps": -1},
        {"label_smoothing": 1.0},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(option))} must"):
            GenLabelMixup(num_classes=C, **option)
    relabeler = GenLabel(spherical()).fit(torch.randn(40, 3, 32, 32), torch.arange(40) % 4)
    with pytest.raises(ValueError, match="gamma is the relabeler's own"):
        GenLabelMixup(num_classes=C, relabeler=relabeler, gamma=0.5)
    with pytest.raises(ValueError, match=r"\(8, 4\).*\(8, 5\)"):
        GenLabelMixup(num_classes=C, relabeler=relabeler)(x, target)


def test_detach_takes_the_hooks_away() -> None:
    net = model()
    mixup = GenLabelMixup(num_classes=C).attach(net).attach(net)
    assert len(net.get_classifier()._forward_pre_hooks) == 1
    mixup.detach()
    assert not net.get_classifier()._forward_pre_hooks


def test_another_model_starts_the_statistics_afresh() -> None:
    x, target = batch()
    mixup = GenLabelMixup(num_classes=C, warmup_steps=2).attach(model())
    expected = [call(mixup, x, target)[1] for _ in range(2)]
    mixup.attach(timm.create_model("test_vit", num_classes=C, img_size=32))
    call(mixup, x, target)
    net = model()
    mixup.attach(net)
    for y in expected:
        assert torch.equal(call(mixup, x, target)[1], y)
    mixup.attach(net)
    assert mixup.relabeling.step == 2
    with pytest.raises(ValueError, match=r"96 features seen before, got 4"):
        mixup.relabeling.relabeler.density.update(torch.zeros(2, 4), target[:2])


def test_half_precision_inputs() -> None:
    x, target = batch()
    for dtype in (torch.bfloat16, torch.float16):
        mixup = GenLabelMixup(num_classes=C, gamma=0.7).attach(model().to(dtype))
        y = call(mixup, x.to(dtype), target)[1]
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.sum(1), torch.ones(8))


def test_a_state_loaded_after_the_device_was_set_follows_the_rows() -> None:
    saved = Relabeling(C)
    saved.observe(torch.randn(20, 4), torch.arange(20) % C)
    resumed = Relabeling(C).to("meta")  # stands for a GPU
    resumed.load_state_dict(saved.state_dict())
    assert resumed.relabeler.density.mean_.device.type == "cpu"
    resumed._follow(torch.empty(0, device="meta"))
    assert {buffer.device.type for buffer in resumed.buffers()} == {"meta"}


def test_labels_keep_float64() -> None:
    relabeling = Relabeling(C, gamma=0.5)
    features, target = torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % C
    relabeling.observe(features, target)
    y_mix = mixup_target(target, C, 0.3).double()
    y = relabeling.label(features, y_mix, mixed=True)
    y_gen = relabeling.relabeler.posterior(features)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, (y_gen + y_mix) / 2, atol=1e-12, rtol=0)


def test_class_statistics_survive_a_state_dict() -> None:
    x, target = batch()
    mixup = GenLabelMixup(num_classes=C, warmup_steps=2).attach(model())
    call(mixup, x, target)
    state = pickle.loads(pickle.dumps(mixup.relabeling.state_dict()))
    resumed = GenLabelMixup(num_classes=C, warmup_steps=2).attach(model())
    resumed.relabeling.load_state_dict(state)
    assert resumed.relabeling.step == 1
    assert torch.equal(resumed.relabeling.relabeler.density.mean_, mixup.relabeling.relabeler.density.mean_)


@pytest.mark.parametrize("latent", [False, True])
def test_parents_are_the_rows_that_timm_mixed(latent: bool) -> None:
    x, target = batch(32)
    network = model().eval()
    rows = ModelFeatures(network)(x) if latent else x.flatten(1)
    fitted = GenLabel("nn", leave_parents_out=True).fit(rows, target)
    mixup = GenLabelMixup(mixup_alpha=1.0, mode="elem", num_classes=C, label_smoothing=0.0, relabeler=fitted)
    x_mix, y = call(mixup.attach(network) if latent else mixup, x, target)
    assert mixup.batch is None
    _, y_mix = call(Mixup(mixup_alpha=1.0, mode="elem", num_classes=C, label_smoothing=0.0), x, target)
    mixed = ModelFeatures(network)(x_mix) if latent else x_mix.flatten(1)
    for n in range(4):
        kept = torch.ones(32, dtype=torch.bool)
        kept[[n, 31 - n]] = False
        without = GenLabel("nn").fit(rows[kept], target[kept], n_classes=C)
        expected = without.relabel(mixed[n : n + 1], y_mix[n : n + 1])
        torch.testing.assert_close(y[n : n + 1], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 3, 8, 8).to_sparse(), "x must be dense"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "x must be floating point to be mixed in place, got torch.uint8"),
        (torch.zeros(4, 3, 8, 8, device="meta"), "x must hold numbers, got a meta tensor"),
    ],
)
def test_images_that_are_not_mixed_in_place_cost_one_sentence(x, message):
    with pytest.raises(ValueError, match=message):
        GenLabelMixup(mixup_alpha=1.0, num_classes=2)(x, torch.arange(4) % 2)
