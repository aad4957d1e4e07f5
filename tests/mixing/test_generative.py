"""Generative mixing against bisection, the measured ratio, and what must hold where no point has it."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris, load_wine
from torch.distributions import Independent, Normal

from genlabel_plugins import (
    GenerativeMix,
    GenerativeMixup,
    GenLabel,
    ManifoldMix,
    PerClass,
    RatioSearch,
    RunningGaussian,
    make_backend,
)
from genlabel_plugins.densities._segments import QuadraticLogRatio, closest_position
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_plugins.densities.backends.kernel_density import KernelDensity
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows

DENSITIES = {
    "full": {"covariance_type": "full"},
    "tied": {"covariance_type": "tied"},
    "diag": {"covariance_type": "diag"},
    "spherical": {"covariance_type": "spherical"},
    "components": {"n_components": 3},
    "diag components": {"n_components": 2, "covariance_type": "diag"},
    "many features": {"covariance_type": "full", "shrinkage": 0.1},
    "kde": None,
    "kde unbalanced": None,
}


class Measured:
    """A density of which only `log_prob` is known."""

    def __init__(self, density):
        self.density_ = density
        self.n_classes = density.n_classes

    def log_prob(self, x):
        return self.density_.log_prob(x)


class Searched:
    """A log-ratio of which the search does not know that it is a quadratic."""

    def __init__(self, log_ratio):
        self.log_ratio = log_ratio

    def __call__(self, t):
        return self.log_ratio(t)

    def take(self, rows):
        return Searched(self.log_ratio.take(rows))


def table(dtype=torch.float64, n_features=None, n_classes=None, unbalanced=False):
    """Whitened rows of moderately conditioned Gaussian classes, or wine."""
    if n_features is None:
        x, target = (torch.as_tensor(part) for part in load_wine(return_X_y=True))
        x = (x - x.mean(0)) / x.std(0)
        return x.to(dtype), target.long()
    generator = torch.Generator().manual_seed(0)
    count = [400 if unbalanced and c == 0 else 50 for c in range(n_classes)]
    target = torch.arange(n_classes).repeat_interleave(torch.tensor(count))
    mean = torch.randn(n_classes, n_features, generator=generator)
    spread = torch.eye(n_features) + 0.1 * torch.randn(n_classes, n_features, n_features, generator=generator)
    x = mean[target] + torch.einsum(
        "nij,nj->ni", spread[target], torch.randn(len(target), n_features, generator=generator)
    )
    return ((x - x.mean(0)) / x.std(0)).to(dtype), target


def fitted(name, dtype=torch.float64):
    if name == "many features":
        x, target = table(dtype, n_features=130, n_classes=3)
    elif name.startswith("kde"):
        x, target = table(dtype, n_features=6, n_classes=4, unbalanced="unbalanced" in name)
    else:
        x, target = table(dtype)
    params = DENSITIES[name]
    density = KernelDensity() if params is None else GaussianMixture(**params)
    return density.fit(x, target), x, target


def pairs(x, target, n_pairs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    i, j = (torch.randint(len(x), (n_pairs,), generator=generator) for _ in range(2))
    lam = torch.rand(n_pairs, generator=generator, dtype=torch.float64)
    other = target[i] != target[j]
    return i[other], j[other], lam[other]


def ratio(density, x, c_i, c_j):
    log_prob = density.log_prob(x)
    return torch.sigmoid((log_prob.gather(1, c_i[:, None]) - log_prob.gather(1, c_j[:, None])).squeeze(1))


def bisect(log_ratio, goal, low, high, n_steps=200):
    """Slow and sure: the root between two positions at which the excess has opposite signs, else NaN."""
    f_low = log_ratio(low) - goal
    valid = f_low * (log_ratio(high) - goal) < 0
    for _ in range(n_steps):
        middle = (low + high) / 2
        same = (log_ratio(middle) - goal) * f_low > 0
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return torch.where(valid, low, torch.nan)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_log_ratio_on_a_segment_is_that_of_log_prob(name):
    density, x, target = fitted(name)
    partner = torch.arange(len(x)).flip(0)[:40]
    t = torch.rand(40, 3, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    points = torch.lerp(x[partner][:, None], x[:40][:, None], t[..., None])
    log_prob = density.log_prob(points.flatten(0, 1)).view(40, 3, -1)
    rows = torch.arange(40)
    expected = log_prob[rows, :, target[:40]] - log_prob[rows, :, target[partner]]
    torch.testing.assert_close(
        density.segment(x, torch.stack([target[:40], target[partner]]), partner)(t), expected, rtol=1e-9, atol=1e-8
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_the_closed_form_is_the_nearest_root_that_bisection_finds(name):
    density, x, target = fitted(name)
    i, j, lam = pairs(x, target, 300)
    mixed = RatioSearch(density)(x[i], x[j], target[i], target[j], lam)

    def log_ratio(t):
        log_prob = density.log_prob(torch.lerp(x[j], x[i], t[:, None]))
        rows = torch.arange(len(t))
        return log_prob[rows, target[i]] - log_prob[rows, target[j]]

    goal = torch.logit(lam)
    edges = torch.linspace(0, 1, 41, dtype=x.dtype)
    roots = torch.stack(
        [bisect(log_ratio, goal, *(e.expand(len(lam)) for e in ends), 50) for ends in edges.unfold(0, 2, 1)]
    )
    far = (roots - lam).abs().nan_to_num(torch.inf)
    nearest = roots.gather(0, far.argmin(0, keepdim=True)).squeeze(0)
    found = far.amin(0) < torch.inf
    assert found.double().mean() > 0.5
    expected = torch.lerp(x[j], x[i], nearest[:, None])
    torch.testing.assert_close(mixed.x_mix[found], expected[found], rtol=0, atol=1e-9)
    assert mixed.attained[found].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DENSITIES)
def test_lam_holds_where_attained_and_the_label_holds_elsewhere(name, dtype):
    density, x, target = fitted(name, dtype)
    i, j, lam = pairs(x, target, 400)
    c_i, c_j = target[i], target[j]
    for mixer in (RatioSearch(density), RatioSearch(Measured(density))):
        x_mix, y, attained = mixer(x[i], x[j], c_i, c_j, lam)
        held = ratio(density, x_mix, c_i, c_j).double()
        assert ((held - lam).abs() <= 1e-4)[attained].all()
        share = y.gather(1, c_i[:, None]).squeeze(1).double()
        torch.testing.assert_close(share[attained], lam[attained], rtol=0, atol=1e-7)
        torch.testing.assert_close(share[~attained], held[~attained], rtol=0, atol=1e-6)
        torch.testing.assert_close(y.sum(1), torch.ones(len(y), dtype=y.dtype))
        assert attained.double().mean() > 0.6
        assert x_mix.dtype == dtype


@pytest.mark.parametrize("name", ["full", "components", "kde"])
def test_the_search_agrees_with_the_cheaper_way(name):
    density, x, target = fitted(name)
    i, j, lam = pairs(x, target, 300)
    pair = x[i], x[j], target[i], target[j], lam
    cheap, slow = RatioSearch(density)(*pair), RatioSearch(Measured(density), n_intervals=8, n_steps=30)(*pair)
    agree = (cheap.x_mix - slow.x_mix).abs().amax(1) < 1e-3
    assert agree.double().mean() > 0.97  # several roots, or two within one interval, may part them
    assert (cheap.attained == slow.attained).double().mean() > 0.99


def test_a_table_too_large_for_cached_scores_is_searched_by_log_prob(monkeypatch):
    density, x, target = fitted("kde")
    i, j, lam = pairs(x, target, 100)
    cached = RatioSearch(density)(x[i], x[j], target[i], target[j], lam)
    monkeypatch.setattr("genlabel_plugins.densities.backends.kernel_density.MAX_SEGMENT_ELEMENTS", 0)
    measured = RatioSearch(density)(x[i], x[j], target[i], target[j], lam)
    torch.testing.assert_close(cached.x_mix, measured.x_mix, rtol=0, atol=1e-6)


def steep_and_rough():
    """Densities whose log-ratios fall by thousands, rise and fall between grid points, or have poles."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 2
    spread = torch.tensor([1.0, 30.0], dtype=torch.float64)[target]
    x = torch.randn(400, 5, generator=generator, dtype=torch.float64) * spread[:, None] + 3 * target[:, None]
    yield "kde, spreads of 1 and 30", make_backend("kde").fit(x, target), x, target
    yield "components, spreads of 1 and 30", make_backend("gm", n_components=3).fit(x, target), x, target
    digits, digit = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    yield "digits", make_backend("kde").fit(digits / 16, digit), digits / 16, digit
    noise, labels = x[:, :2] / spread[:, None], torch.randint(3, (400,), generator=generator)
    yield "noise, narrow kernels", make_backend("kde", bandwidth=0.1).fit(noise, labels), noise, labels
    yield "noise, components", make_backend("gm", n_components=3).fit(noise, labels), noise, labels
    yield "noise, nearest rows", make_backend("nn").fit(noise, labels), noise, labels


def test_the_second_search_can_be_turned_off():
    asked = []

    class Counted(Measured):
        def log_prob(self, x):
            asked.append(len(x))
            return super().log_prob(x)

    _, density, x, target = list(steep_and_rough())[3]
    i, j, lam = pairs(x, target, 50)
    RatioSearch(Counted(density), n_fine=0)(x[i], x[j], target[i], target[j], lam)
    assert sum(asked) == len(i) * (7 + 6 + 1)  # a grid of seven, six steps, and the ratio at the finished point


@pytest.mark.slow
@pytest.mark.parametrize("measured", [False, True])
def test_what_a_fine_grid_attains_is_attained(measured):
    grid = torch.linspace(0, 1, 501, dtype=torch.float64)
    for name, density, x, target in steep_and_rough():
        i, j, lam = pairs(x, target, 100)
        mixed = RatioSearch(Measured(density) if measured else density)(x[i], x[j], target[i], target[j], lam)
        points = torch.lerp(x[j][:, None], x[i][:, None], grid[:, None]).flatten(0, 1)
        c_i, c_j = (c.repeat_interleave(501) for c in (target[i], target[j]))
        excess = ratio(density, points, c_i, c_j).view(-1, 501) - lam[:, None]
        crosses = (excess[:, :-1] * excess[:, 1:] <= 0).any(1)
        assert mixed.attained[crosses].all(), name
        gap = (ratio(density, mixed.x_mix, target[i], target[j]) - lam).abs()
        assert (gap <= excess.abs().amin(1) + 0.01).all(), name
        assert (gap <= excess.abs().amin(1) + 1e-4).double().mean() > 0.95, name


@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("name", ["full", "tied", "kde"])
def test_lam_of_zero_and_one_asks_for_the_most_extreme_ratio(name, lam):
    density, x, target = fitted(name)
    i, j, _ = pairs(x, target, 100)
    mixed = RatioSearch(density)(x[i], x[j], target[i], target[j], lam)
    held = ratio(density, mixed.x_mix, target[i], target[j])
    torch.testing.assert_close(mixed.y.gather(1, target[i, None]).squeeze(1), held, rtol=0, atol=1e-4)
    t = torch.linspace(0, 1, 101, dtype=x.dtype)
    on_segment = torch.stack([ratio(density, torch.lerp(x[j], x[i], s), target[i], target[j]) for s in t])
    best = on_segment.amax(0) if lam else on_segment.amin(0)
    assert ((held - best).abs() < 1e-3).double().mean() > (0.97 if name == "kde" else 0.999)


@pytest.mark.parametrize("name", ["full", "tied", "diag", "components", "kde"])
@pytest.mark.parametrize("measured", [False, True])
def test_on_a_constant_ratio_the_point_is_that_of_linear_mixing(name, measured):
    density, x, target = fitted(name)
    mixer = RatioSearch(Measured(density) if measured else density)
    empty = mixer(x[:0], x[:0], target[:0], target[:0], 0.5)
    assert empty.y.shape == (0, density.n_classes)
    lam = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=x.dtype)
    same = mixer(x[:4], x[4:8], target[:4], target[:4], lam)  # one class
    torch.testing.assert_close(same.x_mix, torch.lerp(x[4:8], x[:4], lam[:, None]))
    torch.testing.assert_close(same.y, torch.eye(density.n_classes, dtype=x.dtype)[target[:4]])
    assert same.attained.tolist() == [False, False, True, False]
    point = mixer(x[:4], x[:4], target[:4], target[-4:], lam)  # one point
    torch.testing.assert_close(point.x_mix, x[:4])
    share = point.y.gather(1, target[:4, None]).squeeze(1)
    torch.testing.assert_close(share, ratio(density, x[:4], target[:4], target[-4:]), atol=1e-4, rtol=0)


def test_coincident_gaussians_give_one_half_and_never_lam():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    density = GaussianMixture().fit(x.repeat(2, 1), torch.arange(2).repeat_interleave(20))
    zeros = torch.zeros(10, dtype=torch.long)
    mixed = RatioSearch(density)(x[:10], x[10:], zeros, zeros + 1, torch.full((10,), 0.9, dtype=x.dtype))
    torch.testing.assert_close(mixed.y, torch.full((10, 2), 0.5, dtype=x.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(mixed.x_mix, torch.lerp(x[10:], x[:10], torch.tensor(0.9, dtype=x.dtype)))
    assert not mixed.attained.any()


def test_singular_classes_are_mixed_finitely():
    line = torch.linspace(-1, 1, 30, dtype=torch.float64)
    x = torch.cat([torch.stack([line, line], 1), torch.stack([line, -line], 1) + 4])
    target = torch.arange(2).repeat_interleave(30)
    for reg_covar in (1e-4, 1e-12):
        density = GaussianMixture(reg_covar=reg_covar).fit(x, target)
        lam = torch.linspace(0.01, 0.99, 30, dtype=x.dtype)
        mixed = RatioSearch(density)(x[:30], x[30:], target[:30], target[30:], lam)
        held = ratio(density, mixed.x_mix, target[:30], target[30:])
        assert torch.isfinite(mixed.x_mix).all()
        torch.testing.assert_close(mixed.y[:, 0], held, rtol=0, atol=1e-4)


def test_a_density_that_holds_another_is_measured_as_a_whole():
    x, target = (torch.as_tensor(part) for part in load_iris(return_X_y=True))
    codes = (x[:, 3] > 1).long()[:, None]
    rows = encode_rows(x[:, :3], codes, [2])
    mixed_types = MixedTypes(cardinality=[2]).fit(rows, target)
    per_class = PerClass(lambda x: Independent(Normal(x.mean(0), x.std(0)), 1)).fit(x[:, :3], target)
    for density, inputs in ((mixed_types, rows), (GenLabel(mixed_types), rows), (per_class, x[:, :3])):
        i, j, lam = pairs(inputs, target, 60)
        mixed = RatioSearch(density)(inputs[i], inputs[j], target[i], target[j], lam)
        held = ratio(density, mixed.x_mix, target[i], target[j])
        torch.testing.assert_close(mixed.y.gather(1, target[i, None]).squeeze(1), held, rtol=0, atol=1e-4)
        assert mixed.attained.double().mean() > 0.5


class Silent:
    """Densities that vanish, or cannot be told, everywhere beyond a box."""

    n_classes = 2

    def log_prob(self, x):
        inside = (x.abs() < 1).all(1, keepdim=True)
        value = torch.where(inside, x[:, :1] * torch.tensor([[5.0, -5.0]], dtype=x.dtype), -torch.inf)
        return value.expand(-1, 2)


def test_where_the_densities_vanish_a_sample_keeps_its_own_label():
    x_i, x_j = torch.tensor([[9.0], [0.9], [9.0]]), torch.tensor([[8.0], [-0.9], [-9.0]])
    c_i, c_j = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    mixed = RatioSearch(Silent())(x_i, x_j, c_i, c_j, torch.tensor([0.7, 0.6, 0.4]))
    assert mixed.x_mix[0] == 9.0
    assert mixed.y[0].tolist() == [1.0, 0.0]
    assert mixed.attained[1]
    assert torch.isfinite(mixed.y).all()


def test_a_class_without_rows_and_a_relabeler_are_served():
    x, target = table()
    density = GaussianMixture().fit(x, torch.where(target == 1, 3, target), n_classes=5)
    assert density.present_.tolist() == [0, 2, 3]
    c = torch.where(target == 1, 3, target)
    i, j, lam = pairs(x, c, 100)
    expected = RatioSearch(Measured(density), n_intervals=16, n_steps=40)(x[i], x[j], c[i], c[j], lam)
    mixed = RatioSearch(GenLabel(density))(x[i], x[j], c[i], c[j], lam)
    assert mixed.y.shape == (len(i), 5)
    assert ((mixed.x_mix - expected.x_mix).abs().amax(1) < 1e-4).double().mean() > 0.97


@pytest.mark.slow
@given(
    start=st.floats(-50, 50),
    stop=st.floats(-50, 50),
    bulge=st.floats(-200, 200),
    goal=st.floats(-15, 15),
    lam=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_the_position_on_a_quadratic_is_a_root_or_the_closest_point(start, stop, bulge, goal, lam):
    start, stop, bulge, goal, lam = (torch.tensor([v], dtype=torch.float64) for v in (start, stop, bulge, goal, lam))
    quadratic = QuadraticLogRatio(start, stop, bulge)
    t = closest_position(quadratic, goal, lam)
    gap = (quadratic(t[:, None]).squeeze(1) - goal).abs()
    grid = torch.linspace(0, 1, 401, dtype=torch.float64)[None]
    excess = quadratic(grid) - goal
    assert 0 <= t <= 1
    if (excess[:, :-1] * excess[:, 1:] <= 0).any():
        assert gap <= 1e-7
    else:
        assert gap <= excess.abs().min() + 1e-7
    searched = closest_position(Searched(quadratic), goal, lam, n_intervals=4, n_steps=60)
    if excess[0, 0] * excess[0, -1] < 0:
        assert (quadratic(searched[:, None]) - goal).abs() <= 1e-7


def test_iris_mixes_in_half_precision_honestly():
    x, target = (torch.as_tensor(part) for part in load_iris(return_X_y=True))
    density = GaussianMixture(covariance_type="tied").fit(x.float(), target)
    half = x.to(torch.bfloat16)
    i, j, lam = pairs(half, target, 200)
    with torch.autocast("cpu"):
        mixed = RatioSearch(density)(half[i], half[j], target[i], target[j], lam.float())
    assert mixed.x_mix.dtype == torch.bfloat16
    assert mixed.y.dtype == torch.float32
    held = ratio(density, mixed.x_mix, target[i], target[j])
    torch.testing.assert_close(mixed.y.gather(1, target[i, None]).squeeze(1), held, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pairing", ["permutation", "flip", "nearest_other"])
def test_generative_mix_stands_in_for_genlabel_mix(pairing):
    x, target = table(torch.float32)
    density = GaussianMixture(shrinkage="ledoit_wolf").fit(x, target)
    generator = torch.Generator().manual_seed(3)
    mix = GenerativeMix(GenLabel(density), alpha=0.5, pairing=pairing, generator=generator)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(mix)))
    x_mix, y = mix(x[60:101], target[60:101])
    assert x_mix.shape == (41, 13)
    assert y.shape == (41, 3)
    torch.testing.assert_close(y.sum(1), torch.ones(41))
    again, y_again = copied(x[60:101], target[60:101])
    assert torch.equal(x_mix, again)
    assert torch.equal(y, y_again)
    one, y_one = mix(x[:1], target[:1])
    assert torch.equal(one, x[:1])
    assert y_one.tolist() == [[1.0, 0.0, 0.0]]
    assert mix.to(torch.float64).relabeler.density.offset_.dtype == torch.float64


def test_classes_may_be_any_integers():
    x, target = table(torch.float32)
    mix = GenerativeMix(GaussianMixture(shrinkage=0.1).fit(x, target))
    x_mix, y = mix(x, target.int())
    assert x_mix.shape == x.shape
    torch.testing.assert_close(y.sum(1), torch.ones(len(y)))


def test_a_mapping_is_refused():
    x, target = table(torch.float32)
    mix = GenerativeMix(GaussianMixture(shrinkage=0.1).fit(x, target))
    with pytest.raises(TypeError, match="one tensor"):
        mix({"x": x[:4]}, target[:4])


def test_options_and_inputs_out_of_range_are_named():
    x, target = table(torch.float32)
    density = GaussianMixture(shrinkage=0.1).fit(x, target)
    with pytest.raises(ValueError, match="go together"):
        RatioSearch(density, encode=lambda x, c: x)
    with pytest.raises(ValueError, match="even number, got 3"):
        RatioSearch(density, n_intervals=3)
    with pytest.raises(ValueError, match="n_fine must be 0 or a positive even number, got -2"):
        RatioSearch(density, n_fine=-2)
    with pytest.raises(ValueError, match="floating point"):
        RatioSearch(density)(x[:2].to(torch.uint8), x[:2].to(torch.uint8), target[:2], target[:2], 0.5)
    with pytest.raises(ValueError, match="one dtype and shape"):
        RatioSearch(density)(x[:2], x[:3], target[:2], target[:3], 0.5)
    with pytest.raises(ValueError, match=r"floating point to be mixed by densities, got torch\.int64"):
        GenerativeMix(density)(x[:4].long(), target[:4])


def test_features_keep_their_gradient_in_a_hidden_layer():
    x, target = table(torch.float32)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(13, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    running = RunningGaussian(3)
    running.update(model[:2](x).detach(), target)
    pairs_of_features = GenerativeMixup(RatioSearch(running))
    output, y = ManifoldMix(model, ["2"], pairs_of_features)(x[::6], target[::6])
    torch.nn.functional.cross_entropy(output, y).backward()
    assert model[0].weight.grad.abs().sum() > 0
    assert pairs_of_features.attained.float().mean() > 0.2


def circle(w, c):
    """A generator whose manifolds are circles about zero: of radius 1 for class 0, and 3 for class 1."""
    return (2 * c[:, None] + 1) * torch.cat([w.cos(), w.sin()], 1)


def test_paths_between_codes_stay_between_the_manifolds():
    angle = torch.linspace(0.1, 3, 24, dtype=torch.float64)[:, None]
    target = torch.arange(24) % 2
    x = circle(angle, target)
    gan = make_backend("gan", generator_network=circle, latent_dim=1, amortized=False).fit(x, target)
    mixer = RatioSearch(gan, encode=gan.invert, decode=gan.generate)
    lam = torch.full((12,), 0.4, dtype=torch.float64)
    x_mix, y, attained = mixer(x[0::2], x[1::2].flip(0), target[0::2], target[1::2].flip(0), lam)
    # The ratio is sigmoid(d_1 - d_0) with distances from circles: 0.4 at the radius r = 2 + log(1.5) / 2.
    expected = torch.full((12,), 2 + torch.log(torch.tensor(1.5)) / 2, dtype=torch.float64)
    torch.testing.assert_close(x_mix.norm(dim=1), expected, rtol=0, atol=1e-3)
    assert attained.all()
    torch.testing.assert_close(y[:, 0], lam)


def test_a_network_that_knows_no_classes_serves_as_codec():
    x, target = table(torch.float32)
    density = GaussianMixture(covariance_type="diag").fit(x, target)
    rotation = torch.linalg.qr(torch.randn(13, 13, generator=torch.Generator().manual_seed(0))).Q
    mixer = RatioSearch(density, encode=lambda x, c: x @ rotation, decode=lambda w, c: w @ rotation.T, n_steps=20)
    i, j, lam = pairs(x, target, 100)
    direct = RatioSearch(density, n_steps=20)(x[i], x[j], target[i], target[j], lam)
    coded = mixer(x[i], x[j], target[i], target[j], lam)
    close = (direct.x_mix - coded.x_mix).abs().amax(1) < 1e-3  # a rotation keeps segments
    assert close.float().mean() > 0.95


def test_networks_of_a_codec_move_with_the_mix():
    x, target = table(torch.float32)
    mix = GenerativeMix(
        GaussianMixture(shrinkage=0.1).fit(x, target), encode=torch.nn.Linear(13, 2), decode=lambda w, c: w
    )
    assert mix.mix.search.encode in set(mix.modules())
    assert mix.double().mix.search.encode.weight.dtype == torch.float64
    copied = copy.deepcopy(mix)
    assert copied.mix.search.encode is copied.encode


def test_a_vae_is_mixed_between_its_codes():
    x, target = (torch.as_tensor(part) for part in load_iris(return_X_y=True))
    vae = make_backend("vae", max_epochs=5).fit(x.float(), target)
    x_mix, y = GenerativeMix(vae, encode=vae.encode, decode=vae.decode)(x[::10].float(), target[::10])
    assert x_mix.shape == (15, 4)
    assert torch.isfinite(x_mix).all()
    torch.testing.assert_close(y.sum(1), torch.ones(15))
