"""The feature tap on real timm models: six families, and those whose classifier is no plain linear layer."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from genlabel_plugins.loops import FeatureTap
from genlabel_timm import GenLabelCriterion, GenLabelMixup, ModelFeatures

C = 4
FAMILIES = [
    ("resnet10t", 32, {}),
    ("vit_tiny_patch16_224", 32, {"img_size": 32, "depth": 2}),
    ("convnext_atto", 32, {"depths": (1, 1, 1, 1)}),
    ("efficientnet_b0", 32, {}),
    ("mobilenetv3_small_050", 32, {}),
    ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2}),
]


def create(name: str, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=C, **options)
    return model


def images(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def pre_logits(model: Any, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    return features, model.forward_head(model.forward_features(x), pre_logits=True)


def convolution(model: Any, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    return model.get_classifier()(features[:, :, None, None]).flatten(1), model(x)


def branches(model: Any, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    parts = features.split([head.in_features for head in model.head], dim=1)
    return torch.stack([head(part) for head, part in zip(model.head, parts, strict=True)]).mean(0), model(x)


def head_module(model: Any, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    return model.head.fc(features), model(x)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "options"), FAMILIES)
def test_six_families_train(name: str, size: int, options: dict[str, Any]) -> None:
    model = create(name, **options)
    x, target = images(size, 8), torch.arange(8) % C
    features = ModelFeatures(model.eval())
    torch.testing.assert_close(*pre_logits(model, x, features(x)))
    mixup_fn = GenLabelMixup(mixup_alpha=1.0, num_classes=C).attach(model.train())
    criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup_fn)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        x_mix, y = mixup_fn(x.clone(), target)
        loss = criterion(model(x_mix), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert criterion.report()["relabeled"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "options", "identity"),
    [
        ("resnetv2_50", 32, {"layers": (1, 1, 1, 1)}, convolution),
        ("dla34", 32, {}, convolution),
        ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 1}, pre_logits),
        ("pit_ti_distilled_224", 64, {"img_size": 64}, pre_logits),
        ("levit_128s", 64, {"img_size": 64}, pre_logits),
        ("efficientformer_l1", 224, {}, pre_logits),
        ("efficientformerv2_s0", 64, {"img_size": 64}, pre_logits),
        ("swiftformer_xs", 64, {}, pre_logits),
        ("crossvit_tiny_240", 240, {}, branches),
        ("sequencer2d_s", 32, {"layers": (1, 1, 1, 1)}, head_module),
    ],
)
def test_ten_unusual_classifiers(
    name: str, size: int, options: dict[str, Any], identity: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    model = create(name, **options).eval()
    x = images(size)
    features = ModelFeatures(model)(x)
    assert features.shape[0] == 2
    assert features.ndim == 2
    with torch.no_grad():
        torch.testing.assert_close(*identity(model, x, features))


def test_a_model_without_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes > 0"):
        ModelFeatures(timm.create_model("test_resnet", num_classes=0))
    with pytest.raises(ValueError, match="get_classifier"):
        ModelFeatures(nn.Linear(2, 2))


def test_the_tap_gives_features_once_and_only_in_training() -> None:
    model = create("test_resnet")
    source = ModelFeatures(model)
    output = model(images(32))
    features = source.take()
    assert features is not None
    assert not features.requires_grad
    assert source.take() is None
    torch.testing.assert_close(model.eval().get_classifier()(features), output)
    model.eval()(images(32))
    assert source.take() is None


def test_moving_average_copies_share_the_tap_and_stay_silent() -> None:
    model = create("test_resnet")
    source = ModelFeatures(model)
    ema = ModelEmaV3(model, decay=0.9)
    model(images(32))
    ema.module(images(32, 6))
    ema.update(model)
    features = source.take()
    assert features is not None
    assert len(features) == 2
    assert all(tap in ema.module.get_classifier()._forward_pre_hooks.values() for tap in source.taps)


def test_a_hooked_model_saves_and_loads() -> None:
    model = create("test_resnet")
    source = ModelFeatures(model)
    model(images(32))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    torch.testing.assert_close(loaded.eval()(images(32)), copy.deepcopy(model).eval()(images(32)))
    (tap,) = loaded.get_classifier()._forward_pre_hooks.values()
    assert isinstance(tap, FeatureTap)
    assert tap.features is None
    assert source.take() is not None


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_are_tapped_without_a_graph_break(backend: str) -> None:
    model = create("test_resnet")
    source = ModelFeatures(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for seed in range(2):
        x = images(32) + seed
        output = compiled(x)
        output.sum().backward()
        features = source.take()
        assert features is not None
        torch.testing.assert_close(model.get_classifier()(features), output)
    torch._dynamo.reset()


def test_wrappers_are_looked_through() -> None:
    model = create("test_resnet")
    compiled = torch.compile(model, backend="eager")
    assert ModelFeatures(compiled).model is model
    torch._dynamo.reset()


def test_channels_last() -> None:
    model = create("test_resnet").to(memory_format=torch.channels_last)
    x = images(32, 8).contiguous(memory_format=torch.channels_last)
    mixup_fn = GenLabelMixup(mixup_alpha=1.0, cutmix_alpha=1.0, num_classes=C).attach(model)
    x_mix, y = mixup_fn(x, torch.arange(8) % C)
    assert x_mix.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.sum(1), torch.ones(8))
