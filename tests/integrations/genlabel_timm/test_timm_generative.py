"""Generative mixing as timm's mixup_fn: timm's draws and switches, the mixer's images and labels."""

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_digits
from timm.data.mixup import Mixup

from genlabel_plugins import GenerativeMix, RatioSearch, make_backend
from genlabel_timm.generative import GenerativeMixup


@pytest.fixture(scope="module")
def digits():
    x, target = load_digits(n_class=3, return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return x, torch.tensor(target)


@pytest.fixture(scope="module")
def mixer(digits):
    return RatioSearch(make_backend("gm", covariance_type="tied", reg_covar=0.1).fit(*digits))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_lam_is_drawn_as_timm_draws_it(digits, mixer, mode):
    x, target = digits[0][:16], digits[1][:16]
    np.random.seed(5)  # noqa: NPY002  # timm draws from it
    _, y_timm = Mixup(0.4, prob=0.7, mode=mode, label_smoothing=0.0, num_classes=3)(x.clone(), target)
    np.random.seed(5)  # noqa: NPY002  # timm draws from it
    x_mix, y = GenerativeMixup(mixer, 0.4, prob=0.7, mode=mode, label_smoothing=0.0, num_classes=3)(x, target)
    same = target == target.flip(0)
    lam = y_timm.gather(1, target[:, None]).squeeze(1)
    unmixed = (y_timm.amax(1) == 1) & ~same
    assert torch.equal(x_mix[unmixed], x[unmixed])
    log_prob = mixer.relabeler.log_prob(x_mix)
    pair = torch.stack([target, target.flip(0)], 1)
    held = log_prob.gather(1, pair).softmax(1)[:, 0]
    share = y.gather(1, target[:, None]).squeeze(1)
    mixed = ~unmixed & ~same
    assert ((share - lam).abs() <= 1e-6)[mixed].float().mean() > 0.5
    torch.testing.assert_close(share[mixed], held[mixed], rtol=0, atol=2e-4)


def test_no_row_comes_of_a_search_that_failed(digits):
    """Between kernels of two digits the log-ratio falls by thousands, and takes every value in between."""
    x, target = digits[0].double(), digits[1]
    mixup_fn = GenerativeMixup(
        RatioSearch(make_backend("kde").fit(x, target)), mode="elem", label_smoothing=0.0, num_classes=3
    )
    np.random.seed(5)  # noqa: NPY002  # timm draws from it
    lam = mixup_fn._lam(200, x.device).double()
    np.random.seed(5)  # noqa: NPY002  # timm draws from it
    _, y = mixup_fn(x[:200], target[:200])
    other = target[:200] != target[:200].flip(0)
    torch.testing.assert_close(y.gather(1, target[:200, None]).squeeze(1)[other], lam[other], rtol=0, atol=1e-9)


def test_switches_of_the_training_loop(digits, mixer):
    x, target = digits[0][:8], digits[1][:8]
    mixup_fn = GenerativeMixup(mixer, num_classes=3, label_smoothing=0.1)
    mixup_fn.mixup_enabled = False
    x_same, y = mixup_fn(x, target)
    assert torch.equal(x_same, x)
    torch.testing.assert_close(y, torch.eye(3)[target] * 0.9 + 0.1 / 3)
    with pytest.raises(ValueError, match="even, got 7"):
        mixup_fn(x[:7], target[:7])
    with pytest.raises(ValueError, match="num_classes=1000, but the densities have 3 classes"):
        GenerativeMixup(mixer)
    with pytest.raises(ValueError, match="cutmix_alpha must be 0"):
        GenerativeMixup(mixer, cutmix_alpha=1.0, num_classes=3)
    with pytest.raises(ValueError, match=r"target must hold class indices of shape \(B,\), got torch.float32"):
        GenerativeMixup(mixer, num_classes=3)(x, torch.eye(3)[target])
    with pytest.raises(ValueError, match=r"search must be a RatioSearch, such as .*, got NearestNeighbor"):
        GenerativeMixup(make_backend("nn"), num_classes=3)


@pytest.mark.parametrize("backend", ["gan", "vae"])
def test_a_timm_model_trains_on_images_mixed_between_codes(digits, backend):
    x, target = digits
    if backend == "gan":
        density = make_backend(
            "gan", image_shape=(1, 8, 8), hidden_features=(16,), max_epochs=1, n_restarts=16, n_steps=2
        )
        density.fit(x, target)
        codec = {"encode": density.invert, "decode": density.generate}
    else:
        density = make_backend("vae", max_epochs=2).fit(x, target)
        codec = {"encode": density.encode, "decode": density.decode}
    model = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    mixup_fn = GenerativeMixup(RatioSearch(density, n_steps=3, **codec), num_classes=3)
    for mix in (mixup_fn, GenerativeMix(density, **codec)):
        x_mix, y = mix(x[:8], target[:8])
        assert x_mix.shape == x[:8].shape
        assert torch.isfinite(x_mix).all()
        torch.nn.functional.cross_entropy(model(x_mix.repeat_interleave(4, 2).repeat_interleave(4, 3)), y).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
