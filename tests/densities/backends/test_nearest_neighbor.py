"""Nearest-neighbor densities against slow loops and scikit-learn's neighbors."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from genlabel_plugins import GenLabel, make_backend
from genlabel_plugins.densities.backends import _tiles as tiles


def unequal_classes(sizes=(40, 300, 5, 90), n_features=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    center = 2 * torch.randn(len(sizes), n_features, generator=generator, dtype=torch.float64)
    x = torch.randn(len(target), n_features, generator=generator, dtype=torch.float64) + center[target]
    order = torch.randperm(len(target), generator=generator)
    return x[order], target[order]


def between(x, n=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.randint(len(x), (2, n), generator=generator)
    return 0.7 * x[i] + 0.3 * x[j]


def slow_log_prob(x, target, query, k):
    n_features = x.shape[1]
    log_ball = n_features / 2 * math.log(math.pi) - math.lgamma(n_features / 2 + 1)
    columns = []
    for c in range(int(target.max()) + 1):
        rows = x[target == c]
        used = min(k, len(rows))
        distance, _ = NearestNeighbors(n_neighbors=used, algorithm="brute").fit(rows).kneighbors(query)
        nearest = torch.from_numpy(distance[:, -1])
        columns.append(math.log(used / len(rows)) - log_ball - n_features * nearest.log())
    return torch.stack(columns, 1)


@pytest.mark.parametrize("n_neighbors", [1, 3, 20])
@pytest.mark.parametrize("n_features", [1, 2, 20])
def test_log_density_equals_the_formula(n_neighbors, n_features):
    x, target = unequal_classes(n_features=n_features)
    query = between(x)
    nearest = make_backend("nn", n_neighbors=n_neighbors).fit(x, target)
    torch.testing.assert_close(nearest.log_prob(query), slow_log_prob(x, target, query, n_neighbors))


@pytest.mark.slow
@pytest.mark.parametrize("max_width", [8, 16, 64])
@pytest.mark.parametrize("n_neighbors", [1, 12, 40])
def test_many_classes_and_many_tiles(monkeypatch, max_width, n_neighbors):
    monkeypatch.setattr(tiles, "MAX_WIDTH", max_width)
    monkeypatch.setattr(tiles, "CHUNK_ELEMENTS", 4096)
    x, target = unequal_classes([1 + c % 60 for c in range(100)], n_features=2)
    query = between(x)
    nearest = make_backend("nn", n_neighbors=n_neighbors).fit(x, target)
    torch.testing.assert_close(nearest.log_prob(query), slow_log_prob(x, target, query, n_neighbors))


def test_next_to_a_training_row_float32_is_exact():
    x, target = unequal_classes((400, 300), n_features=128)
    x = x.float()
    query = x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    rounded = make_backend("nn").fit(x, target).log_prob(query)
    exact = make_backend("nn").fit(x.double(), target).log_prob(query.double())
    assert (rounded - exact).abs().max() < 1e-2  # of densities of hundreds of nats; a bare product is off by nats


def test_float32_labels_are_those_of_float64():
    x, target = unequal_classes((500, 400, 300), n_features=10)
    query = between(x, 256)
    exact = GenLabel("nn").fit(x, target).posterior(query)
    rounded = GenLabel("nn").fit(x.float(), target).posterior(query.float())
    assert (rounded.double() - exact).abs().max() < 1e-5


@pytest.mark.slow
def test_a_wide_column_compiles_and_is_part_of_the_state():
    x, target = unequal_classes()
    x = x.float()
    x[:, 1] += 3000 * (torch.arange(len(x)) % 2)
    nearest = make_backend("nn", n_neighbors=2).fit(x, target)
    assert nearest.wide_row_.shape[2] == 1
    loaded = make_backend("nn", n_neighbors=2)
    loaded.load_state_dict(nearest.state_dict())
    compiled = torch.compile(loaded.log_prob, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), nearest.log_prob(x))


@pytest.mark.parametrize("kind", ["sentinel", "far class", "levels in all columns"])
def test_untidy_rows_keep_their_neighbors_in_float32(kind):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(500) % 2
    x = torch.randn(500, 5, generator=generator)
    if kind == "sentinel":
        x[7, 1] = 999_999
    elif kind == "far class":
        x[target == 1] += 1e5
    else:
        x += 1e4 * torch.randint(2, (500, 1), generator=generator)
    query = x + 0.1 * torch.randn(500, 5, generator=generator)
    exact = GenLabel("nn").fit(x.double(), target).posterior(query.double())
    assert (GenLabel("nn").fit(x, target).posterior(query) - exact).abs().max() < 2e-3


@pytest.mark.parametrize("n_features", [4, 10])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_column_on_far_apart_levels_hides_no_neighbor(n_features, noise):
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    target = torch.arange(2000) % 3
    x = normal(2000, n_features)
    x[:, 1] = 3000 * torch.randint(2, (2000,), generator=generator) + noise * normal(2000)
    query = x[:500] + 0.5 * normal(500, n_features)
    query[:, 1] = x[:500, 1]
    exact = GenLabel("nn").fit(x.double(), target).posterior(query.double())
    found = GenLabel("nn").fit(x, target).posterior(query)
    assert torch.equal(found.argmax(1), exact.argmax(1))
    assert (found - exact).abs().max() < 1e-3


def test_neighbors_are_those_of_scikit_learn_and_places_are_rows_of_the_class():
    x, target = unequal_classes()
    query = between(x)
    square, place = make_backend("nn", n_neighbors=8).fit(x, target).neighbors(query)
    for c in range(4):
        rows = x[target == c]
        known = min(8, len(rows))
        distance, index = NearestNeighbors(n_neighbors=known).fit(rows).kneighbors(query)
        nearest = square[:, c].sort(1)
        torch.testing.assert_close(nearest.values[:, :known].sqrt(), torch.as_tensor(distance))
        assert torch.equal(place[:, c].gather(1, nearest.indices)[:, :known], torch.as_tensor(index))
        assert (nearest.values[:, known:] == torch.inf).all()
    assert make_backend("nn").fit(x, target).neighbors(query[:0])[0].shape == (0, 4, 1)


def test_on_a_training_row_the_distance_has_a_floor():
    x, target = unequal_classes(n_features=2)
    floor = 1e-6 * (x - x.mean(0)).square().sum(1).mean().sqrt()
    row = int((target == 1).nonzero()[0])
    log_prob = make_backend("nn").fit(x, target).log_prob(x[row : row + 1])[0, 1]
    torch.testing.assert_close(log_prob, -math.log(300 * math.pi) - 2 * floor.log())


def test_units_and_offsets_leave_the_posterior_alone():
    x, target = unequal_classes()
    query = between(x)
    expected = GenLabel("nn").fit(x, target).posterior(query)
    for scale in (1e-8, 1e8):
        torch.testing.assert_close(GenLabel("nn").fit(scale * x, target).posterior(scale * query), expected)
    shifted = GenLabel("nn").fit(x + 1e6, target).posterior(query + 1e6)
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-7)


def test_identical_rows_have_a_finite_density():
    x, target = torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 2])
    assert torch.isfinite(make_backend("nn", n_neighbors=2).fit(x, target).log_prob(x)).all()


def test_large_batches_are_scored_in_parts():
    x, target = unequal_classes()
    query = between(x, 2500)
    nearest = make_backend("nn").fit(x, target)
    torch.testing.assert_close(
        nearest.log_prob(query), torch.cat([nearest.log_prob(part) for part in query.split(100)])
    )


@pytest.mark.slow
def test_compiles_without_a_graph_break():
    x, target = unequal_classes()
    nearest = make_backend("nn", n_neighbors=3).fit(x, target)
    compiled = torch.compile(nearest.log_prob, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(between(x)), nearest.log_prob(between(x)))


def test_state_dict_round_trip():
    x, target = unequal_classes()
    nearest = make_backend("nn", n_neighbors=2).fit(x, target)
    loaded = make_backend("nn", n_neighbors=2)
    loaded.load_state_dict(nearest.state_dict())
    assert torch.equal(loaded.log_prob(x), nearest.log_prob(x))


@pytest.mark.parametrize("option", [{"n_neighbors": 0}, {"min_distance": 0.0}])
def test_options_out_of_range_are_refused(option):
    name, value = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        make_backend("nn", **option)
