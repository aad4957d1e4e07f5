"""Mixing against slow loops and known distributions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode

from genlabel_plugins import ColumnCutMix, CutMix, DistanceAlpha, Mixup
from genlabel_plugins.mixing import MIXERS, make_mixer
from genlabel_plugins.mixing.inputs import interpolate
from genlabel_plugins.mixing.pairing import draw_beta, draw_partner

SHAPES = {"mixup": (8, 3), "cutmix": (8, 2, 5, 7), "column_cutmix": (8, 6)}


def batch(*shape, n_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return x, torch.randint(n_classes, (shape[0],), generator=generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("pairing", ["permutation", "flip", "nearest_other"])
def test_mixup_equals_a_loop_over_rows(pairing, per_sample):
    x, target = batch(7, 2, 3)
    mixed = Mixup(3, pairing=pairing, per_sample=per_sample, generator=seeded())(x, target)
    for i in range(7):
        j, lam = int(mixed.partner[i]), float(mixed.lam[i])
        torch.testing.assert_close(mixed.x[i], lam * x[i] + (1 - lam) * x[j])
        y = np.zeros(3)
        y[target[i]] += lam
        y[target[j]] += 1 - lam
        np.testing.assert_allclose(mixed.y_mix[i], y, atol=1e-7)
        assert (mixed.target_i[i], mixed.target_j[i]) == (target[i], target[j])
    assert (len(set(mixed.lam.tolist())) == 1) != per_sample


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 8.0])
def test_lam_follows_its_beta_distribution(alpha):
    x, target = batch(4000, 1)
    lam = Mixup(3, alpha=alpha, per_sample=True, generator=seeded())(x, target).lam
    assert stats.kstest(lam.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_distance_alpha_is_the_published_kernel():
    x_i, x_j = torch.randn(2, 50, 4, dtype=torch.float64, generator=seeded())
    distance = ((x_i - x_j) ** 2).sum(1).numpy()
    expected = 2.0 * np.exp(-(distance / distance.mean() - 1) / (2 * 0.8**2))
    np.testing.assert_allclose(DistanceAlpha(tau_max=2.0, tau_std=0.8)(x_i, x_j), expected)


def test_near_pairs_mix_more_strongly_under_distance_alpha():
    x = torch.cat([torch.zeros(2000, 1), torch.ones(1000, 1), torch.full((1000, 1), 3.0)])
    target = torch.arange(4000) % 2
    pairing = lambda x, target, generator: torch.arange(len(x)).roll(2000)  # noqa: E731
    lam = Mixup(2, alpha=DistanceAlpha(), pairing=pairing, generator=seeded())(x, target).lam
    for rows, square in ((slice(0, 1000), 1.0), (slice(1000, 2000), 9.0)):
        tau = np.exp(-(square / 5 - 1) / 0.5)
        assert stats.kstest(lam[rows].numpy(), stats.beta(tau, tau).cdf).pvalue > 1e-3


def test_identical_rows_have_a_distance_alpha():
    assert torch.isfinite(DistanceAlpha()(torch.zeros(3, 2), torch.zeros(3, 2))).all()


def test_nearest_other_equals_a_loop():
    x, target = batch(30, 4)
    partner = draw_partner(x, target, "nearest_other")
    for i in range(30):
        others = [j for j in range(30) if target[j] != target[i]]
        assert int(partner[i]) == min(others, key=lambda j: float((x[i] - x[j]).norm()))


def test_nearest_other_equals_a_loop_far_from_zero():
    near, target = batch(64, 4)
    x = (1e4 + near).float()
    apart = (x[:, None].double() - x.double()).norm(dim=2).masked_fill(target[:, None] == target, torch.inf)
    assert torch.equal(draw_partner(x, target, "nearest_other"), apart.argmin(1))
    moved = 1e9 + near  # times in seconds
    apart = (moved[:, None] - moved).norm(dim=2).masked_fill(target[:, None] == target, torch.inf)
    assert torch.equal(draw_partner(moved, target, "nearest_other"), apart.argmin(1))


def test_nearest_other_leaves_a_batch_of_one_class_unmixed():
    x, _ = batch(5, 4)
    mixed = Mixup(2, pairing="nearest_other")(x, torch.ones(5, dtype=torch.long))
    assert torch.equal(mixed.x, x)


def test_a_permutation_is_a_permutation_and_flip_a_mirror():
    x, target = batch(9, 2)
    assert sorted(draw_partner(x, target, "permutation").tolist()) == list(range(9))
    assert draw_partner(x, target, "flip").tolist() == list(range(9))[::-1]


@pytest.mark.parametrize("mix", MIXERS)
def test_one_row_comes_back_unmixed(mix):
    x, target = batch(1, *SHAPES[mix][1:])
    mixed = make_mixer(mix, n_classes=3)(x, target)
    assert torch.equal(mixed.x, x)
    assert torch.equal(mixed.y_mix, torch.eye(3, dtype=torch.float64)[target])


@pytest.mark.parametrize("per_sample", [False, True])
def test_cutmix_pastes_one_box_and_counts_its_pixels(per_sample):
    x, target = batch(16, 2, 9, 11)
    mixed = CutMix(3, per_sample=per_sample, generator=seeded(3))(x, target)
    for i in range(16):
        j = int(mixed.partner[i])
        if i == j:
            continue
        pasted = (mixed.x[i] != x[i]).all(0)
        assert torch.equal(mixed.x[i], torch.where(pasted, x[j], x[i]))
        assert float(mixed.lam[i]) == pytest.approx(1 - pasted.sum().item() / 99)
        height, width = pasted.any(1).sum(), pasted.any(0).sum()
        assert height * width == pasted.sum()  # a full rectangle
        torch.testing.assert_close(
            mixed.y_mix[i, target[i]], mixed.lam[i] + (1 - mixed.lam[i]) * (target[i] == target[j])
        )


def test_cutmix_away_from_the_border_cuts_the_share_that_was_drawn():
    x = torch.zeros(1, 1, 1000, 1000)
    mixer = CutMix(1, alpha=DistanceAlpha(1e4, 1.0), generator=seeded())  # every lam is one half
    kept = [float(mixer(x, torch.tensor([0])).lam[0]) for _ in range(40)]
    assert min(kept) == pytest.approx(0.5, abs=0.02)  # a box inside; one that the border clips leaves more


@pytest.mark.parametrize("per_sample", [False, True])
def test_column_cutmix_swaps_columns_and_counts_them(per_sample):
    x, target = batch(12, 7)
    mixed = ColumnCutMix(3, per_sample=per_sample, generator=seeded())(x, target)
    from_row, from_partner = mixed.x == x, mixed.x == x[mixed.partner]
    assert (from_row | from_partner).all()
    own = mixed.partner == torch.arange(12)
    torch.testing.assert_close(mixed.lam[~own], from_row.double().mean(1)[~own])


def test_column_cutmix_keeps_the_share_that_was_drawn_up_to_half_a_column():
    x, target = batch(1000, 10)
    lam = ColumnCutMix(3, per_sample=True, generator=seeded())(x, target).lam
    drawn = Mixup(3, per_sample=True, generator=seeded())(x, target).lam
    assert (lam - drawn).abs().max() <= 0.05 + 1e-6
    mixed = ColumnCutMix(3, per_sample=True, generator=seeded())(torch.arange(1000)[:, None].expand(-1, 10), target)
    own = (mixed.x == torch.arange(1000)[:, None]).double().mean(0)
    torch.testing.assert_close(own, torch.full_like(own, 0.5), atol=0.06, rtol=0)  # no column is favoured


@pytest.mark.parametrize("mix", MIXERS)
def test_inputs_of_a_mapping_share_partners_and_lam(mix):
    x, target = batch(*SHAPES[mix])
    mixed = make_mixer(mix, n_classes=3, generator=seeded())({"a": x, "b": x + 1}, target)
    if mix == "column_cutmix":  # columns of both inputs are counted together
        kept = torch.cat([mixed.x["a"] == x, mixed.x["b"] == x + 1], 1).double().mean(1)
        moved = mixed.partner != torch.arange(len(x))
        torch.testing.assert_close(kept[moved], mixed.lam[moved])
    else:
        torch.testing.assert_close(mixed.x["a"] + 1, mixed.x["b"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mixed_in_float32_and_rounded_once(dtype):
    x, target = batch(64, 5)
    x = x.to(dtype)
    mixed = Mixup(3, per_sample=True, generator=seeded())(x, target)
    lam = mixed.lam.double()[:, None]
    exact = lam * x.double() + (1 - lam) * x[mixed.partner].double()
    assert mixed.x.dtype == dtype
    assert mixed.y_mix.dtype == torch.float32
    ulp = torch.finfo(dtype).eps * exact.abs().clamp(min=1e-3)
    assert ((mixed.x.double() - exact).abs() <= 0.51 * ulp + 1e-6).all()


def test_bytes_are_mixed_in_float32_and_rounded():
    x = torch.randint(256, (32, 3, 4, 4), dtype=torch.uint8, generator=seeded())
    mixed = Mixup(2, per_sample=True, generator=seeded())(x, torch.zeros(32, dtype=torch.long))
    lam = mixed.lam.view(-1, 1, 1, 1)
    assert mixed.x.dtype == torch.uint8
    exact = lam * x.float() + (1 - lam) * x[mixed.partner].float()
    assert ((mixed.x.float() - exact).abs() <= 0.5 + 1e-4).all()


def test_codes_are_swapped_but_never_interpolated():
    codes, target = torch.randint(9, (8, 4), generator=seeded()), torch.arange(8) % 2
    assert ColumnCutMix(2)(codes, target).x.dtype == torch.long
    with pytest.raises(ValueError, match="floating point or uint8"):
        Mixup(2)(codes, target)


def test_interpolation_is_exact_at_both_ends():
    x_i, x_j = torch.randn(2, 6, 3, generator=seeded()) * torch.tensor([1e-3, 1.0, 1e6])
    assert torch.equal(interpolate(x_i, x_j, torch.ones(6)), x_i)
    assert torch.equal(interpolate(x_i, x_j, torch.zeros(6)), x_j)


@pytest.mark.parametrize("mix", MIXERS)
def test_a_generator_decides_and_leaves_the_global_one_alone(mix):
    x, target = batch(*SHAPES[mix])
    state = torch.random.get_rng_state()
    one, other = (make_mixer(mix, n_classes=3, per_sample=True, generator=seeded(5))(x, target) for _ in range(2))
    assert torch.equal(one.x, other.x)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        third = make_mixer(mix, n_classes=3, per_sample=True)(x, target)
    assert not torch.equal(one.x, third.x)


def test_gradients_flow_to_the_inputs():
    x, target = batch(6, 4)
    x.requires_grad_()
    Mixup(3, generator=seeded())(x, target).x.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))  # a permutation shares all weight


@pytest.mark.parametrize("pairing", ["permutation", "flip", "nearest_other"])
@pytest.mark.parametrize("mix", MIXERS)
def test_mixing_never_reads_a_number_back_from_the_device(mix, pairing):
    # A fake tensor has no numbers: .item(), bool() or a boolean index would raise.
    mixer = make_mixer(mix, n_classes=3, per_sample=True, pairing=pairing)
    mixer(torch.rand(SHAPES[mix]), torch.zeros(8, dtype=torch.long))  # the targets of the first batch are checked
    with FakeTensorMode():
        x, target = torch.rand(SHAPES[mix]), torch.zeros(8, dtype=torch.long)
        mixed = mixer(x, target)
        assert mixed.x.shape == x.shape
        assert mixed.is_mixed.shape == target.shape


@pytest.mark.parametrize("mix", MIXERS)
def test_targets_out_of_range_are_named(mix):
    for target in (torch.arange(8), torch.arange(8) - 1):
        with pytest.raises(ValueError, match=r"target must lie in 0\.\.6, got values from"):
            make_mixer(mix, n_classes=7)(torch.rand(SHAPES[mix]), target)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 6), st.integers(1, 5), st.sampled_from(["mixup", "column_cutmix"]), st.booleans()
)
def test_labels_sum_to_one_and_inputs_stay_between_their_parents(n_rows, n_features, n_classes, mix, per_sample):
    x, target = batch(n_rows, n_features, n_classes=n_classes)
    mixed = make_mixer(mix, n_classes=n_classes, per_sample=per_sample)(x, target)
    torch.testing.assert_close(mixed.y_mix.sum(1), torch.ones(n_rows, dtype=torch.float64))
    low, high = torch.minimum(x, x[mixed.partner]), torch.maximum(x, x[mixed.partner])
    assert ((mixed.x >= low - 1e-12) & (mixed.x <= high + 1e-12)).all()


def test_draw_beta_has_no_nan_for_a_tiny_alpha():
    assert torch.isfinite(draw_beta(torch.full((10_000,), 0.01), seeded())).all()


@pytest.mark.parametrize("alpha", [1e-3, 1e-4, 1e-6])
def test_draw_beta_is_nearly_a_coin_for_a_tiny_alpha(alpha):
    n = 50_000
    drawn = draw_beta(torch.full((n,), alpha, dtype=torch.float64), seeded())
    for share in (0.1, 0.5, 0.9):
        expected = stats.beta.cdf(share, alpha, alpha)
        assert float((drawn <= share).double().mean()) == pytest.approx(expected, abs=4 * (0.25 / n) ** 0.5)
    between = float(((drawn > 0.1) & (drawn < 0.9)).double().mean())
    expected = stats.beta.cdf(0.9, alpha, alpha) - stats.beta.cdf(0.1, alpha, alpha)
    assert between == pytest.approx(expected, abs=4 * (expected / n) ** 0.5 + 1 / n)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixup(2, alpha=0.0), "alpha must be a positive number"),
        (lambda: Mixup(0), "n_classes must be at least 1"),
        (lambda: Mixup(2, pairing="random")(torch.zeros(2, 1), torch.tensor([0, 1])), "pairing must be one of"),
        (lambda: Mixup(2)(torch.zeros(3, 1), torch.tensor([0, 1])), "x must have shape"),
        (lambda: Mixup(2)(torch.zeros(2, 1), torch.tensor([0.0, 1.0])), "target must hold class indices"),
        (lambda: Mixup(2)(torch.zeros(0, 1), torch.zeros(0).long()), "at least one row"),
        (lambda: CutMix(2)(torch.zeros(2, 4), torch.tensor([0, 1])), "images"),
        (lambda: DistanceAlpha(tau_std=0.0), "must be positive"),
        (lambda: make_mixer("mix-up"), "mix must be one of"),
    ],
)
def test_errors_name_the_value_and_the_choices(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_go_with_a_name():
    with pytest.raises(TypeError, match="parameters go with"):
        make_mixer(Mixup(2), alpha=1.0)


def test_an_object_shows_its_options():
    assert repr(Mixup(2, alpha=DistanceAlpha())).startswith("Mixup(n_classes=2, alpha=DistanceAlpha(tau_max=1.0")
