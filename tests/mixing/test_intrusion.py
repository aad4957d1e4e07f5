"""Intrusion against scipy's nearest neighbors and closed forms."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch._subclasses.fake_tensor import FakeTensorMode

from genlabel_plugins import ColumnCutMix, ExcludeIntrusion, Mixup, intrudes, intrusion_rates
from genlabel_plugins.mixing.intrusion import TrainingSamples

LINE = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)  # Example 1 of the paper
LINE_TARGET = torch.tensor([0, 1, 0])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=600, n_features=3, n_classes=5):
    x = torch.randn(n, n_features, dtype=torch.float64, generator=seeded())
    return x, torch.randint(n_classes, (n,), generator=seeded(1))


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 600, 40_000])  # fewer samples than candidates, one chunk, several chunks
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_mask_equals_brute_force(n, offset):
    x, target = blobs(n)
    mixed = Mixup(5, per_sample=True, generator=seeded())(x[:500], target[:500])
    found = intrudes(mixed.x.float() + offset, mixed.target_i, mixed.target_j, x.float() + offset, target)
    rows, samples = ((t.float() + offset).double().numpy() for t in (mixed.x, x))
    nearest = target.numpy()[cdist(rows, samples).argmin(1)]
    expected = (nearest != mixed.target_i.numpy()) & (nearest != mixed.target_j.numpy())
    assert np.array_equal(found.numpy(), expected)


def test_half_precision_leaves_the_samples_alone():
    samples = TrainingSamples(1e3 * LINE, LINE_TARGET).half()  # squares that float16 cannot hold
    assert samples.class_share(1e3 * LINE).argmax(1).tolist() == [0, 1, 0]


def test_small_distances_survive_the_matrix_product():
    # Samples 1e-4 apart at norm 1: their squared distances drown in the rounding of float32 products.
    x = torch.tensor([[1.0], [1.0 + 1e-4], [-1.0 - 5e-5]]).repeat(1, 8)
    samples = TrainingSamples(x, torch.tensor([0, 1, 2]))
    near = x[:2] + 2e-5
    assert samples.class_share(near).argmax(1).tolist() == [0, 1]


def test_memory_stays_flat_in_the_number_of_samples(monkeypatch):
    sizes, product = [], torch.mm

    def watched(*args, **options):
        sizes.append((result := product(*args, **options)).numel())
        return result

    monkeypatch.setattr(torch, "mm", watched)
    x, target = blobs(50_000, 2)
    TrainingSamples(x, target).class_share(x[:3000])
    assert max(sizes) <= 128 * 16_384


@pytest.mark.slow
def test_rates_of_example_1_have_a_closed_form():
    # x_mix of the outer two lies in (-1, 1); the middle sample is nearest on half of it. Of the four ordered
    # pairs of class 0 with itself, two are outer pairs; a quarter of all intrude, and 1/9 of all nine pairs.
    rates = intrusion_rates(LINE, LINE_TARGET, n_pairs=200_000)
    assert float(rates.rate[0, 0]) == pytest.approx(1 / 4, abs=0.005)
    assert float(rates.rate[0, 1]) == float(rates.rate[1, 1]) == 0.0
    assert float(rates.overall) == pytest.approx(1 / 9, abs=0.003)


def test_rates_are_symmetric_and_count_every_pair_once():
    x, target = blobs()
    rates = intrusion_rates(x, target, n_pairs=5000)
    assert torch.equal(rates.rate.nan_to_num(), rates.rate.T.nan_to_num())
    assert int(rates.pair_count.triu().sum()) == 5000
    weighted = (rates.rate * rates.pair_count).triu().sum() / 5000
    torch.testing.assert_close(weighted, rates.overall.to(weighted), rtol=1e-6, atol=1e-6)
    target = target.sort().values  # rates draw from the rows class by class
    i, j = torch.randint(600, (2, 5000), generator=seeded())
    pair = lambda a, b: ((target[i] == a) & (target[j] == b) | (target[i] == b) & (target[j] == a)).sum()  # noqa: E731
    assert all(int(rates.pair_count[a, b]) == int(pair(a, b)) for a in range(5) for b in range(5))


def tied_rows(kind):
    generator = seeded()
    x = torch.randint(2 if kind == "binary" else 4, (300, 4), generator=generator).float()
    return x, torch.randint(3, (300,), generator=generator).sort().values


@pytest.mark.parametrize("kind", ["binary", "integer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_share_whatever_the_order_of_rows(kind, dtype):
    x, target = tied_rows(kind)
    mixed = Mixup(3, per_sample=True, pairing="flip", generator=seeded(3))(x.to(dtype), target)
    square = cdist(mixed.x.double(), x.double(), "sqeuclidean")
    near = square <= square.min(1, keepdims=True) + 1e-5
    neither = (target[None] != mixed.target_i[:, None]) & (target[None] != mixed.target_j[:, None])
    expected = (near * neither.numpy()).sum(1) / near.sum(1)
    samples = TrainingSamples(x.to(dtype), target)
    found = samples.intrusion(mixed.x, mixed.target_i, mixed.target_j)
    assert np.abs(found.numpy() - expected).mean() < (1e-6 if kind == "binary" else 0.01)
    shuffled = torch.randperm(300, generator=seeded(1))
    same = TrainingSamples(x.to(dtype)[shuffled], target[shuffled])
    assert torch.equal(same.intrusion(mixed.x, mixed.target_i, mixed.target_j), found)
    torch.testing.assert_close(samples.class_share(mixed.x).sum(1), torch.ones(300, dtype=dtype))
    assert samples.class_share(mixed.x[:0]).shape == (0, 3)


@pytest.mark.slow
def test_rates_of_binary_rows_share_ties_whatever_the_order_of_rows():
    x, target = tied_rows("binary")
    code = (x.long() * torch.tensor([8, 4, 2, 1])).sum(1)
    count = torch.zeros(16, 3).index_put_((code, target), torch.ones(300), accumulate=True)
    share = (count / count.sum(1, keepdim=True))[code]  # the nearest sample is the end with the greater lam
    expected = torch.empty(3, 3)
    for a in range(3):
        for b in range(3):
            neither = [c for c in range(3) if c not in (a, b)]
            at_end = share[:, neither].sum(1)
            expected[a, b] = (at_end[target == a].mean() + at_end[target == b].mean()) / 2
    rates = intrusion_rates(x, target, n_pairs=100_000)
    assert float((rates.rate - expected).abs().max()) < 0.01
    shuffled = torch.randperm(300, generator=seeded())
    again = intrusion_rates(x[shuffled], target[shuffled], n_pairs=100_000)
    assert torch.equal(again.rate, rates.rate)
    assert torch.equal(again.overall, rates.overall)


def test_a_row_of_the_own_class_does_not_intrude_beside_a_twin():
    x, target = torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([1, 0, 0])
    own = torch.zeros(1, dtype=torch.long)
    assert not intrudes(torch.zeros(1, 1), own, own, x, target)
    assert float(TrainingSamples(x, target).intrusion(torch.zeros(1, 1), own, own)) == 0.5
    assert intrudes(torch.zeros(1, 1), own + 2, own + 2, x, target)


def test_a_checkpoint_holds_no_training_rows():
    assert not TrainingSamples(LINE, LINE_TARGET).state_dict()


def test_a_pair_never_drawn_has_no_rate():
    x, target = torch.zeros(3, 1), torch.tensor([0, 0, 3])
    assert torch.isnan(intrusion_rates(x, target).rate[1, 2])


def test_drop_keeps_exactly_what_does_not_intrude():
    x, target = blobs()
    mixed = Mixup(5, per_sample=True, generator=seeded(2))(x, target)
    left = ExcludeIntrusion(Mixup(5, per_sample=True, generator=seeded(2)), x, target, how="drop")(x, target)
    keep = ~intrudes(mixed.x, mixed.target_i, mixed.target_j, x, target)
    assert 0 < int(keep.sum()) < 600
    for name in ("x", "y_mix", "target_i", "target_j", "partner", "lam"):
        assert torch.equal(getattr(left, name), getattr(mixed, name)[keep])


@pytest.mark.parametrize("max_draws", [0, 1, 10])
def test_redraw_keeps_the_batch_size_and_lets_nothing_intrude(max_draws):
    x, target = blobs()
    mix = ExcludeIntrusion(Mixup(5, per_sample=True, generator=seeded(2)), x, target, max_draws=max_draws)
    mixed = mix(x, target)
    assert not intrudes(mixed.x, mixed.target_i, mixed.target_j, x, target).any()
    lam = mixed.lam[:, None]
    torch.testing.assert_close(mixed.x, lam * x + (1 - lam) * x[mixed.partner])
    torch.testing.assert_close(mixed.target_j, target[mixed.partner])
    y = lam * torch.eye(5)[mixed.target_i] + (1 - lam) * torch.eye(5)[mixed.target_j]
    torch.testing.assert_close(mixed.y_mix, y)


def test_redraw_gives_up_where_every_mix_intrudes():
    # Every lam is one half, and a sample of class 1 lies in the middle.
    x = torch.tensor([[0.0], [1.0]])
    samples_x, samples_target = torch.tensor([[0.5], [0.0], [1.0]]), torch.tensor([1, 0, 0])
    half = Mixup(2, pairing="flip", alpha=1e4)
    mixed = ExcludeIntrusion(half, samples_x, samples_target)(x, torch.tensor([0, 0]))
    assert torch.equal(mixed.x, x)
    assert mixed.partner.tolist() == [0, 1]


@pytest.mark.slow
def test_redraw_never_reads_a_number_back_from_the_device():
    x, target = blobs()
    mix = ExcludeIntrusion(Mixup(5), x, target)
    mix(x[:8], target[:8])  # the first batch is checked
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert mix(torch.rand(8, 3, dtype=torch.float64), torch.zeros(8, dtype=torch.long)).x.shape == (8, 3)


def test_several_inputs_are_measured_together():
    x, target = blobs()
    mix = ExcludeIntrusion(ColumnCutMix(5, generator=seeded()), {"a": x[:, :1], "b": x[:, 1:]}, target)
    mixed = mix({"a": x[:, :1], "b": x[:, 1:]}, target)
    joined = torch.cat([mixed.x["a"], mixed.x["b"]], 1)
    assert not intrudes(joined, mixed.target_i, mixed.target_j, x, target).any()


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="how must be 'drop' or 'redraw', got 'keep'"):
        ExcludeIntrusion(Mixup(2), LINE, LINE_TARGET, how="keep")
    with pytest.raises(ValueError, match="must have the 1 features"):
        TrainingSamples(LINE, LINE_TARGET).class_share(torch.zeros(2, 2))
