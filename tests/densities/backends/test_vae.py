import copy
import math
import pickle

import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import nn

from genlabel_plugins import load, make_backend, save
from genlabel_plugins.densities.backends._quasi_random import normal_draws
from genlabel_plugins.densities.backends.vae import VAE, Autoencoder

SMALL = {"latent_dim": 1, "hidden_features": 16, "n_samples": 16, "max_epochs": 40, "learning_rate": 1e-2}


def arcs(n_rows=400, seed=0):
    """Rows of two classes along two arcs, in units a thousand times apart."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(n_rows) % 2
    angle = math.pi * torch.rand(n_rows, generator=generator, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin() * (1 - 2 * target) + target], 1)
    noise = 0.1 * torch.randn(n_rows, 2, generator=generator, dtype=torch.float64)
    return (x + noise) * torch.tensor([1.0, 1000.0], dtype=torch.float64) + 50, target


def quadrature(vae, x, c):
    """Log-density of the model itself, by integration over a latent line."""
    w = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    mean = vae.decode(w[:, None], torch.full((len(w),), c))  # (W, D)
    std = vae.scale_[c] * vae.network_.log_scale[c].exp()
    log_joint = torch.as_tensor(norm(mean.numpy(), std.numpy()).logpdf(x.numpy()[:, None]).sum(-1))
    return (log_joint + torch.as_tensor(norm.logpdf(w.numpy()))).logsumexp(1) + (w[1] - w[0]).log()


@pytest.mark.slow
def test_bound_stays_below_the_model_and_tightens_with_draws():
    x, target = arcs()
    gaps = []
    for n_samples in (4, 32, 1024):
        vae = VAE(**SMALL | {"n_samples": n_samples}).fit(x, target)
        truth = torch.stack([quadrature(vae, x[:100], c) for c in (0, 1)], 1)
        own = target[:100, None]
        gaps.append((truth - vae.log_prob(x[:100])).gather(1, own))
    means = [float(gap.mean()) for gap in gaps]
    assert means[0] > means[1] > means[2] > -0.002
    assert means[2] < 0.01
    assert gaps[2].abs().max() < 0.2


def test_bound_of_a_linear_model_reaches_its_gaussian():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Autoencoder(3, 2, 2, 8).double()
        loading = torch.randn(3, 2, dtype=torch.float64)
        model.decode_in = nn.Identity()
        model.decode_out = nn.Linear(2, 3, dtype=torch.float64)
        model.known = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
        model.decode_out.weight.data = loading
        model.decode_out.bias.data = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
        model.log_scale.data = torch.tensor([[0.0, -0.5, 0.3], [-0.2, 0.1, 0.0]], dtype=torch.float64)
        z = torch.randn(20, 3, dtype=torch.float64)
    draws = {s: normal_draws(s, 2, torch.Generator().manual_seed(0)) for s in (4, 64, 16384)}
    for c in (0, 1):
        covariance = loading @ loading.T + (2 * model.log_scale[c].detach()).exp().diag()
        truth = torch.as_tensor(multivariate_normal([1.0, 0.0, -1.0], covariance).logpdf(z))
        label = torch.tensor(c)
        with torch.no_grad():
            bounds = {s: model(z, label, w) for s, w in draws.items()}
        torch.testing.assert_close(bounds[16384], truth, atol=0.02, rtol=0)
        assert bounds[4].mean() < bounds[64].mean() < truth.mean() + 1e-3


@pytest.mark.newer_torch(2, 14)
@pytest.mark.slow
def test_follows_a_curved_class_where_one_gaussian_cannot():
    x, target = arcs()
    unseen, unseen_target = arcs(1000, seed=1)
    vae = VAE(**SMALL | {"max_epochs": 150, "n_samples": 64}).fit(x, target)
    gm = make_backend("gm").fit(x, target)
    own = unseen_target[:, None]
    assert vae.log_prob(unseen).gather(1, own).mean() > gm.log_prob(unseen).gather(1, own).mean() + 0.3
    back = vae.decode(vae.encode(unseen, unseen_target), unseen_target)
    error = ((back - unseen) / unseen.std(0)).square().mean()
    assert error < 0.2


def test_all_classes_at_once_are_the_classes_one_by_one():
    x, target = arcs()
    vae = VAE(**SMALL).fit(x, target)
    for c in (0, 1):
        z = (x - vae.offset_ - vae.mean_[c]) / vae.scale_[c]
        alone = vae.network_(z, torch.tensor(c), vae.draws_) + vae.log_det_[c]
        torch.testing.assert_close(vae.log_prob(x)[:, c][target == c], alone[target == c])


def test_a_batch_larger_than_a_chunk_gives_the_same(monkeypatch):
    x, target = arcs(100)
    vae = VAE(**SMALL | {"max_epochs": 2}).fit(x, target)
    expected = vae.log_prob(x)
    monkeypatch.setattr("genlabel_plugins.densities.backends.vae.CHUNK_POINTS", 7 * 2 * 16)
    torch.testing.assert_close(vae.log_prob(x), expected)


@pytest.mark.slow
def test_codes_of_classes_by_their_own_numbers():
    x, target = arcs()
    labels = torch.tensor([1, 4])[target]  # classes 0, 2 and 3 have no row
    vae = VAE(**SMALL).fit(x, labels, n_classes=6)
    twin = VAE(**SMALL).fit(x, target)
    w = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None].requires_grad_()
    for c, number in ((0, 1), (1, 4)):
        decoded = vae.decode(w, torch.full((5,), number))
        torch.testing.assert_close(decoded, twin.decode(w, torch.full((5,), c)))
        (gradient,) = torch.autograd.grad(decoded.sum(), w)
        assert gradient.abs().min() > 0
    torch.testing.assert_close(vae.encode(x, labels), twin.encode(x, target))
    with pytest.raises(ValueError, match=r"c must hold classes with at least 20 training rows, \[1, 4\]"):
        vae.decode(w, torch.full((5,), 2))


def test_small_classes_are_gaussian():
    x, target = arcs()
    rows = torch.cat([x, x.new_tensor([[60.0, 60.0]])])
    vae = VAE(**SMALL).fit(rows, torch.cat([target, torch.tensor([2])]))
    pooled = sum((x[target == c] - x[target == c].mean(0)).square().sum(0) for c in (0, 1)) / (len(rows) - 3)
    std = ((1 + 1e-4) * pooled).sqrt()
    expected = torch.as_tensor(norm(rows[-1], std).logpdf(rows).sum(1))
    torch.testing.assert_close(vae.log_prob(rows)[:, 2], expected)
    few = VAE().fit(x[:10], target[:10])
    assert few.network_ is None
    assert torch.isfinite(few.log_prob(x)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_falls_off_in_every_direction(dtype):
    x, target = arcs()
    x = x.to(dtype)
    vae = VAE(**SMALL).fit(x, target)
    angle = torch.linspace(0, 2 * math.pi, 25, dtype=dtype)
    direction = torch.stack([angle.cos(), angle.sin()], 1) * x.std(0)
    rays = torch.stack([vae.log_prob(x.mean(0) + direction * length) for length in (20.0, 100.0, 1e4, 1e6, 1e8)])
    assert torch.isfinite(rays).all()
    assert (rays.diff(dim=0) < 0).all()


def test_state_travels(tmp_path):
    x, target = arcs()
    vae = VAE(**SMALL | {"max_epochs": 3}).fit(x.float(), target, n_classes=4)
    expected = vae.log_prob(x)
    state = torch.get_rng_state()
    fresh = VAE(**SMALL)
    fresh.load_state_dict(vae.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    save(vae, tmp_path / "vae.safetensors")
    loaded = load(tmp_path / "vae.safetensors", VAE)
    for twin in (fresh, loaded, copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        assert torch.equal(twin.log_prob(x), expected)
        assert torch.equal(twin.decode(torch.ones(1, 1), target[:1]), vae.decode(torch.ones(1, 1), target[:1]))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"n_samples": -1}, "n_samples must be at least 1, got -1"),
        ({"validation_fraction": 0.0}, "validation_fraction must lie between 0 and 1, got 0.0"),
    ],
)
def test_refuses_options_out_of_range(option, message):
    with pytest.raises(ValueError, match=message):
        make_backend("vae", **option)
