"""`gan`: distances from known manifolds, what training learns, and what inversion leaves behind."""

import math
from copy import deepcopy

import pytest
import torch
from sklearn.datasets import load_digits, make_moons
from torch import Tensor, nn

from genlabel_plugins import GenLabel
from genlabel_plugins.densities._quasi_newton import minimize
from genlabel_plugins.densities.backends import _gan_training, gan_inversion
from genlabel_plugins.densities.backends.gan_inversion import GANInversion

CHEAP = {"max_epochs": 2, "hidden_features": (16, 16), "n_restarts": 8, "n_steps": 3}


def rows(n_rows: int = 200, n_features: int = 2, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def circle(w: Tensor, c: Tensor) -> Tensor:
    return (c[:, None] + 1) * torch.cat([w.cos(), w.sin()], 1)


def spiral(w: Tensor, c: Tensor) -> Tensor:
    t = 3 * math.pi * torch.sigmoid(2 * w) + 0.5
    angle = t + math.pi * c[:, None]
    return torch.cat([t * angle.cos(), t * angle.sin()], 1) / 3


class Ellipsoid(nn.Module):
    """Class c is a sphere of radius c + 1 in three dimensions, stretched by a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stretch = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, w: Tensor, c: Tensor) -> Tensor:
        a, b = w.unbind(1)
        point = torch.stack([a.cos() * b.cos(), a.cos() * b.sin(), a.sin()], 1)
        return (c[:, None] + 1) * self.stretch * point


@pytest.fixture(scope="module")
def moons() -> tuple[GANInversion, Tensor, Tensor]:
    x, target = (torch.tensor(part) for part in make_moons(300, noise=0.05, random_state=0))
    gan = GANInversion(latent_dim=1, max_epochs=25, hidden_features=(32, 32), n_restarts=64, scale="class")
    return gan.fit(x, target), x, target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_distance_from_circles_is_exact(dtype: torch.dtype, offset: float) -> None:
    x = rows().to(dtype) + offset
    gan = GANInversion(lambda w, c: circle(w, c) + offset, latent_dim=1, amortized=False)
    gan.fit(x, torch.arange(len(x)) % 2)
    radius = torch.linalg.vector_norm(x - offset, dim=1, keepdim=True)
    expected = (radius - torch.tensor([1.0, 2.0])).abs().to(dtype)
    torch.testing.assert_close(gan.distance(x), expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(gan.log_prob(x), -gan.distance(x))


@pytest.mark.slow
@pytest.mark.parametrize("amortized", [False, True])
def test_distance_from_spirals_is_that_of_dense_samples(amortized: bool) -> None:
    x = rows(500)
    gan = GANInversion(spiral, latent_dim=1, amortized=amortized, max_epochs=5).fit(x, torch.arange(500) % 2)
    w = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None]
    samples = [spiral(w, torch.full((len(w),), c)) for c in range(2)]
    expected = torch.stack([torch.cdist(x, made).amin(1) for made in samples], 1)
    assert (gan.distance(x) - expected).abs().max() < 1e-3


@pytest.mark.newer_torch(2, 14)
def test_latents_of_inversion_give_the_nearest_point() -> None:
    x, c = rows(64, 3), torch.arange(64) % 2
    gan = GANInversion(Ellipsoid(), latent_dim=2, amortized=False, n_steps=20).fit(x, c)
    w = gan.invert(x, c)
    nearest = gan.generate(w, c)
    assert w.shape == (64, 2)
    distance = gan.distance(x).gather(1, c[:, None]).squeeze(1)
    torch.testing.assert_close(torch.linalg.vector_norm(x - nearest, dim=1), distance)
    grid = torch.cartesian_prod(*[torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)] * 2)
    for k in range(2):
        dense = torch.cdist(x, gan.generate(grid, torch.full((len(grid),), k))).amin(1)
        assert (gan.distance(x)[:, k] <= dense + 1e-3).all()


def test_given_generator_stays_the_callers() -> None:
    network = Ellipsoid()
    x = rows(32, 3)
    gan = GANInversion(network, latent_dim=2, **CHEAP).fit(x, torch.arange(32) % 2)
    with torch.inference_mode():
        gan.log_prob(x)
    assert network.stretch.requires_grad
    assert network.stretch.grad is None
    assert network.stretch.dtype == torch.float32
    before = gan.log_prob(x)
    with torch.no_grad():
        network.stretch *= 2
    torch.testing.assert_close(gan.log_prob(x), before, rtol=0, atol=0)


@pytest.mark.slow
def test_inversion_leaves_no_graph_and_no_gradient(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, _ = moons
    log_prob = gan.log_prob(x[:8].clone().requires_grad_())
    assert not log_prob.requires_grad
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in gan.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(gan.log_prob(x[:8]), log_prob, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.newer_torch(2, 14)
def test_training_separates_moons(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, target = moons
    assert (gan.log_prob(x).argmax(1) == target).double().mean() > 0.95
    own = gan.distance(x).gather(1, target[:, None]).squeeze(1)
    torch.testing.assert_close(gan.scale_, torch.stack([own[target == c].mean() for c in range(2)]))


def test_path_in_latent_space_has_gradients(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, target = moons
    w = gan.invert(x[:4], target[:4]).requires_grad_()
    gan.generate(w, target[:4]).sum().backward()
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()


def test_encoder_guesses_what_restarts_find(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, _ = moons
    guessed = deepcopy(gan)
    guessed.start_ = gan.start_[:1]
    searched = gan.distance(x)
    assert (guessed.distance(x) - searched).abs().median() < 1e-3


def test_state_dict_round_trip(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, _ = moons
    for state in (gan.state_dict(), deepcopy(gan).state_dict()):
        loaded = GANInversion(latent_dim=1, hidden_features=(32, 32))
        loaded.load_state_dict(state)
        torch.testing.assert_close(loaded.log_prob(x), gan.log_prob(x), rtol=0, atol=0)
    network = Ellipsoid()
    x = rows(32, 3)
    given = GANInversion(network, latent_dim=2, **CHEAP).fit(x, torch.arange(32) % 2)
    loaded = GANInversion(Ellipsoid(), latent_dim=2, **CHEAP)
    loaded.load_state_dict(given.state_dict())
    torch.testing.assert_close(loaded.log_prob(x), given.log_prob(x), rtol=0, atol=0)


def test_refit_equals_fit_and_spares_the_global_generator() -> None:
    x, target = rows(64), torch.arange(64) % 2
    gan = GANInversion(latent_dim=1, **CHEAP)
    state = torch.get_rng_state()
    first = gan.fit(x, target).log_prob(x)
    torch.testing.assert_close(gan.fit(x, target).log_prob(x), first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_units_of_the_data_do_not_matter(scale: float) -> None:
    x, target = rows(64, 3), torch.arange(64) % 2
    x[:, 2] = 7  # a constant column
    gan = GANInversion(latent_dim=1, **CHEAP).fit(x.float(), target)
    scaled = GANInversion(latent_dim=1, **CHEAP).fit(x.float() * scale, target)
    torch.testing.assert_close(
        scaled.distance(x.float() * scale) / scale, gan.distance(x.float()), rtol=1e-2, atol=1e-2
    )


def test_far_rows_are_finite_and_far(moons: tuple[GANInversion, Tensor, Tensor]) -> None:
    gan, x, _ = moons
    distance = gan.distance(x[:4] * 1e6)
    assert torch.isfinite(distance).all()
    torch.testing.assert_close(
        distance, 1e6 * torch.linalg.vector_norm(x[:4], dim=1, keepdim=True).expand(-1, 2), rtol=1e-3, atol=100.0
    )


def test_small_and_empty_classes() -> None:
    x = rows(21)
    target = torch.tensor([0] * 20 + [2])
    gan = GANInversion(latent_dim=1, scale="class", **CHEAP).fit(x, target, n_classes=4)
    log_prob = gan.log_prob(x)
    assert torch.isfinite(log_prob[:, [0, 2]]).all()
    assert (log_prob[:, [1, 3]] == -torch.inf).all()
    assert (gan.distance(x)[:, [1, 3]] == torch.inf).all()
    one = GANInversion(latent_dim=1, **CHEAP).fit(x[:1], target[:1])
    assert torch.isfinite(one.log_prob(x)).all()


def test_chunks_do_not_matter(moons: tuple[GANInversion, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    gan, x, target = moons
    whole, w = gan.log_prob(x), gan.invert(x, target)
    monkeypatch.setattr("genlabel_plugins.densities.backends.gan_inversion.CHUNK_PAIRS", 60)
    torch.testing.assert_close(gan.log_prob(x), whole)
    torch.testing.assert_close(gan.invert(x, target), w)


def test_thousand_classes() -> None:
    gan = GANInversion(circle, latent_dim=1, amortized=False, n_restarts=16).fit(rows(1000), torch.arange(1000))
    x = rows(8, scale=300)
    radius = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    expected = (radius - torch.arange(1, 1001)).abs()
    torch.testing.assert_close(gan.distance(x), expected, atol=1e-3, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("side", [8, 7])
def test_images(side: int) -> None:
    digits = load_digits()
    keep = digits.target < 2
    x = torch.tensor(digits.images[keep], dtype=torch.float32)[:, None, :side, :side]
    target = torch.tensor(digits.target[keep])
    gan = GANInversion(latent_dim=4, image_shape=(1, side, side), hidden_features=(16, 8), max_epochs=8, n_restarts=16)
    assert (gan.fit(x, target).log_prob(x).argmax(1) == target).double().mean() > 0.95
    assert gan.generate(gan.start_[:5], target[:5]).shape == (5, 1, side, side)


def test_relabeler_follows_the_nearer_circle() -> None:
    genlabel = GenLabel(GANInversion(circle, latent_dim=1, amortized=False), gamma=1.0).fit(
        rows(), torch.arange(200) % 2
    )
    y = genlabel.relabel(torch.tensor([[0.0, 1.25]], dtype=torch.float64), torch.tensor([[0.5, 0.5]]))
    expected = torch.softmax(torch.tensor([[-0.25, -0.75]]), 1)  # distances 1/4 and 3/4
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=0)


def test_minimize_solves_quadratics_and_the_banana() -> None:
    matrix = torch.randn(20, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = rows(20, 5)

    def quadratic(w: Tensor) -> Tensor:
        return (torch.einsum("pij,pj->pi", matrix, w) - bias).square().sum(1)

    _, value = minimize(quadratic, torch.zeros_like(bias), 200)
    assert value.max() < 1e-8
    _, value = minimize(lambda w: (1 - w[:, 0]).square() + 100 * (w[:, 1] - w[:, 0].square()).square(), rows(20), 150)
    assert value.max() < 1e-8


def test_minimize_survives_functions_that_are_not_finite() -> None:
    w = torch.tensor([[0.05], [2.0]])
    best, value = minimize(lambda w: (w - w.log()).sum(1), w, 20)  # the first step crosses zero
    torch.testing.assert_close(best, torch.ones(2, 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(value, torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "row"}, "got 'row'"),
        ({"scale": -1.0}, r"got -1\.0"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"n_steps": -1}, "n_steps must not be negative, got -1"),
        ({"generator_network": 3}, r"callable as G\(w, c\), got 3"),
        ({"image_shape": (28, 28)}, r"must be \(channels, height, width\), got \(28, 28\)"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANInversion(**options)


def test_shapes_that_do_not_fit() -> None:
    x, target = rows(8, 3), torch.arange(8) % 2
    with pytest.raises(ValueError, match=r"the 3 features of x, got shape \(2, 2\)"):
        GANInversion(circle, latent_dim=1).fit(x, target)
    with pytest.raises(ValueError, match=r"image_shape \(1, 2, 2\) has 4 pixels, got rows of 3"):
        GANInversion(image_shape=(1, 2, 2)).fit(x, target)
    with pytest.raises(ValueError, match="sides of at least 4"):
        GANInversion(image_shape=(3, 1, 1)).fit(x, target)


def test_an_interrupt_ends_the_whole_fit_and_keeps_what_is_learnt(monkeypatch):
    steps = []

    def descend(*args):
        steps.append(args)
        if len(steps) > 5:
            raise KeyboardInterrupt
        return original(*args)

    original = _gan_training._descend
    monkeypatch.setattr(_gan_training, "_descend", descend)
    monkeypatch.setattr(gan_inversion, "train_encoder", None)  # would be called
    x = rows(60)
    with pytest.warns(UserWarning, match="GAN's training was interrupted: the state reached so far is kept"):
        gan = GANInversion(**CHEAP | {"max_epochs": 50}).fit(x, torch.arange(60) % 2)
    assert len(steps) == 6
    assert torch.isfinite(gan.log_prob(x)).all()
