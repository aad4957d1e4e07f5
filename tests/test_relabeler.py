"""The posterior, the blend and their options, against closed forms."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from genlabel_plugins import GenLabel, Relabeler, Relabeling, RunningGaussian, blend, class_posterior, make_backend


class Fixed:
    """A backend without torch state whose log-densities are given."""

    def __init__(self, log_prob):
        self.given = log_prob

    def fit(self, x, target):
        return self

    def log_prob(self, x):
        return self.given


def _blobs(n_classes=3, n_rows=90, dtype=torch.float64):
    target = torch.arange(n_rows) % n_classes
    noise = torch.randn(n_rows, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (noise + 3 * target[:, None]).to(dtype), target


def test_posterior_of_two_mirrored_gaussians_is_one_half_between_them():
    x = torch.tensor([[-1.2], [-0.8], [0.8], [1.2]], dtype=torch.float64)
    genlabel = GenLabel("gm").fit(x, torch.tensor([0, 0, 1, 1]))
    middle = genlabel.posterior(torch.zeros(1, 1, dtype=torch.float64))
    assert torch.allclose(middle, torch.full_like(middle, 0.5))


def test_posterior_is_equation_1_with_scipy_densities():
    x, target = _blobs()
    genlabel = GenLabel(make_backend("gm", reg_covar=0.0)).fit(x, target)
    rows = x.numpy()
    density = np.stack(
        [
            multivariate_normal(c.mean(0), np.cov(c.T, bias=True)).pdf(rows)
            for c in (rows[target == k] for k in range(3))
        ],
        1,
    )
    np.testing.assert_allclose(genlabel.posterior(x), density / density.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_relabel_blends_posterior_and_label(gamma):
    x, target = _blobs()
    y_mix = torch.eye(3).double().roll(1, 0)[target]
    genlabel = GenLabel("gm", gamma=gamma).fit(x, target)
    expected = gamma * genlabel.posterior(x) + (1 - gamma) * y_mix
    assert torch.allclose(genlabel.relabel(x, y_mix), expected, atol=1e-12)


def test_gamma_zero_returns_the_label_itself():
    x, target = _blobs()
    y_mix = torch.rand(90, 3)
    assert GenLabel("gm", gamma=0.0).fit(x, target).relabel(x, y_mix) is y_mix
    assert torch.equal(GenLabel("gm").fit(x, target).relabel(x, y_mix, gamma=torch.zeros(90)), y_mix)


def test_gamma_per_row_is_row_by_row_gamma():
    x, target = _blobs()
    y_mix = torch.full((90, 3), 1 / 3, dtype=torch.float64)
    gamma = torch.linspace(0, 1, 90, dtype=torch.float64)
    genlabel = GenLabel("gm", gamma=gamma).fit(x, target)
    one_by_one = torch.cat([genlabel.relabel(x[i : i + 1], y_mix[:1], gamma=float(gamma[i])) for i in range(90)])
    assert torch.allclose(genlabel.relabel(x, y_mix), one_by_one, atol=1e-12)


@pytest.mark.parametrize("backend", ["gm", "kde", "nn"])
def test_threads_share_a_fitted_relabeler(backend):
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    genlabel, y_mix = GenLabel(backend).fit(x, torch.arange(400) % 2), torch.full((50, 2), 0.5)
    expected = [genlabel.relabel(part, y_mix) for part in x.split(50)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for label, y in zip(
                pool.map(lambda part: genlabel.relabel(part, y_mix), x.split(50)), expected, strict=True
            ):
                assert torch.equal(label, y)


def test_a_tensor_of_gammas_outside_the_range_is_refused_or_clamped():
    x, target = _blobs()
    y_mix = torch.eye(3, dtype=torch.float64).roll(1, 0)[target]
    gamma = torch.linspace(-2, 3, 90, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got values from -2 to 3"):
        GenLabel("gm", gamma=gamma)
    genlabel = GenLabel("gm").fit(x, target)
    gamma[7] = torch.nan
    clamped = gamma.nan_to_num(0.0).clamp(0, 1)
    expected = clamped[:, None] * genlabel.posterior(x) + (1 - clamped[:, None]) * y_mix
    torch.testing.assert_close(genlabel.relabel(x, y_mix, gamma=gamma), expected)
    genlabel.gamma = gamma  # nor does an assignment get round it
    torch.testing.assert_close(genlabel.relabel(x, y_mix), expected)
    relabeling = Relabeling(3, relabeler=genlabel)
    torch.testing.assert_close(relabeling.label(x, y_mix, mixed=True), expected)
    with pytest.raises(ValueError, match=r"gamma must be one number or have shape \(5,\), got \(90,\)"):
        genlabel.relabel(x[:5], y_mix[:5])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.long, torch.float32),
    ],
)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_label_dtype_follows_y_mix_but_never_half(given, expected, gamma):
    x, target = _blobs(dtype=torch.float32)
    y = GenLabel("gm", gamma=gamma).fit(x, target).relabel(x, torch.eye(3)[target].to(given))
    assert y.dtype == expected
    assert torch.allclose(y.sum(1), torch.ones_like(y[:, 0]))


def test_rows_without_evidence_keep_their_label_and_are_counted():
    log_prob = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf], [torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, 0]])
    y_mix = torch.tensor([[0.9, 0.1]]).repeat(5, 1)
    genlabel = GenLabel(Fixed(log_prob), gamma=1.0)
    y = genlabel.relabel(torch.zeros(5, 1), y_mix)
    assert torch.equal(y, torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.0, 1.0]]))
    assert genlabel.n_fallback_ == 3
    genlabel.relabel(torch.zeros(5, 1), y_mix)
    assert genlabel.n_fallback_ == 6
    assert genlabel.fit(torch.zeros(5, 1), torch.zeros(5)).n_fallback_ == 0


def test_posterior_without_evidence_is_the_prior():
    given = torch.full((1, 3), -torch.inf)
    assert torch.allclose(GenLabel(Fixed(given)).posterior(given), torch.full((1, 3), 1 / 3))
    weighted = GenLabel(Fixed(given), priors=[1, 1, 2]).posterior(given)
    assert torch.allclose(weighted, torch.tensor([[0.25, 0.25, 0.5]]))


def test_empirical_priors_are_the_class_shares():
    x, target = _blobs()
    keep = (target > 0) | (torch.arange(90) < 30)  # 10 rows of class 0, 30 of the others
    share = torch.tensor([10.0, 30.0, 30.0]) / 70
    empirical = GenLabel("gm", priors="empirical").fit(x[keep], target[keep])
    given = GenLabel("gm", priors=share.tolist()).fit(x[keep], target[keep])
    assert torch.allclose(empirical.posterior(x), given.posterior(x), atol=1e-7)


def test_empirical_priors_with_an_empty_class_give_it_nothing():
    x, target = _blobs()
    genlabel = GenLabel("gm", priors="empirical").fit(x, target, n_classes=4)
    y = genlabel.posterior(x)
    assert (y[:, 3] == 0).all()
    assert torch.allclose(y.sum(1), torch.ones(90, dtype=torch.float64))


def test_empirical_priors_need_counts():
    with pytest.raises(ValueError, match="needs the class_count_"):
        GenLabel(Fixed(torch.zeros(1, 2)), priors="empirical").posterior(torch.zeros(1, 1))


def test_half_precision_leaves_priors_alone():
    genlabel = GenLabel(Fixed(torch.zeros(1, 2)), priors=[0.3, 0.7]).bfloat16()
    assert torch.allclose(genlabel.posterior(torch.zeros(1, 1)), torch.tensor([[0.3, 0.7]]), atol=1e-7)


def test_a_prior_of_zero_rules_a_class_out():
    y = GenLabel(Fixed(torch.zeros(1, 3)), priors=[1, 0, 1]).posterior(torch.zeros(1, 1))
    assert torch.equal(y, torch.tensor([[0.5, 0.0, 0.5]]))


def test_top_k_keeps_the_most_likely_classes():
    log_prob = torch.tensor([[3.0, 1.0, 2.0, -5.0]])
    y = class_posterior(log_prob, top_k=2)
    e = float(np.exp(-1.0))
    assert torch.allclose(y, torch.tensor([[1.0, 0.0, e, 0.0]]) / (1 + e))
    assert torch.equal(class_posterior(log_prob, top_k=9), class_posterior(log_prob))
    rounding = 4 * torch.finfo(log_prob.dtype).eps
    assert torch.allclose(class_posterior(log_prob), log_prob.softmax(1), rtol=rounding, atol=0)


def test_temperature_divides_the_log_posterior():
    log_prob = torch.tensor([[3.0, 1.0, 2.0]])
    log_prior = torch.tensor([0.2, 0.3, 0.5]).log()
    expected = ((log_prob + log_prior) / 4).softmax(1)
    assert torch.allclose(class_posterior(log_prob, log_prior, temperature=4.0), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"gamma": float("nan")}, "gamma must lie"),
        ({"top_k": 0}, "top_k must be None or at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"priors": "empiric"}, "'uniform', 'empirical' or one number per class, got 'empiric'"),
        ({"priors": [0.5, -0.5]}, "non-negative"),
        ({"priors": [0.0, 0.0]}, "non-negative"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GenLabel("gm", **options)


def test_relabel_names_wrong_shapes_priors_and_gamma():
    x, target = _blobs()
    genlabel = GenLabel("gm").fit(x, target)
    with pytest.raises(ValueError, match=r"y_mix must have shape \(90, 3\).*got \(90, 4\)"):
        genlabel.relabel(x, torch.zeros(90, 4))
    with pytest.raises(ValueError, match="gamma must lie"):
        genlabel.relabel(x, torch.zeros(90, 3), gamma=2.0)
    with pytest.raises(ValueError, match="priors must be 3 numbers, one per class, got 2"):
        GenLabel("gm", priors=[0.5, 0.5]).fit(x, target).posterior(x)


def test_blend_is_exact_at_both_ends():
    y_mix, y_gen = torch.rand(7, 3, dtype=torch.float64), torch.rand(7, 3, dtype=torch.float64)
    assert torch.equal(blend(y_mix, y_gen, 0.0), y_mix)
    assert torch.equal(blend(y_mix, y_gen, 1.0), y_gen)
    assert torch.equal(blend(y_mix, y_gen, torch.tensor(1.0)), y_gen)


def test_relabelers_are_recognized():
    assert isinstance(GenLabel("gm"), Relabeler)
    assert not isinstance(RunningGaussian(2), Relabeler)


def test_any_density_with_the_two_methods_serves():
    x, target = _blobs()
    genlabel = GenLabel(RunningGaussian(3)).fit(x, target)
    assert (genlabel.posterior(x).argmax(1) == target).double().mean() > 0.9


def test_no_autocast_and_no_gradient_in_a_label():
    x, target = _blobs(dtype=torch.float32)
    genlabel = GenLabel("gm").fit(x, target)
    y_mix = torch.full((90, 3), 1 / 3)
    plain = genlabel.relabel(x, y_mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(genlabel.relabel(x.clone().requires_grad_(), y_mix), plain)


def test_labels_of_the_nine_gaussians_agree_with_the_true_regions():
    """Nine classes on a grid: a mixed point belongs to the class of the nearest mean, which mixup cannot know."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.tensor([-10.0, 0.0, 10.0], dtype=torch.float64)
    mean = torch.cartesian_prod(axis, axis)
    target = torch.arange(9).repeat(500)
    noise = torch.randn(4500, 2, generator=generator, dtype=torch.float64)
    x = mean[target] + noise * 0.1**0.5  # covariance 0.1 I
    partner = torch.randperm(4500, generator=generator)
    lam = torch.rand(4500, 1, generator=generator, dtype=torch.float64)
    eye = torch.eye(9, dtype=torch.float64)
    x_mix = lam * x + (1 - lam) * x[partner]
    y_mix = lam * eye[target] + (1 - lam) * eye[target[partner]]
    region = torch.cdist(x_mix, mean).argmin(1)
    y = GenLabel("gm").fit(x, target).relabel(x_mix, y_mix)
    agreement = (y.argmax(1) == region).double().mean()
    agreement_of_mixup = (y_mix.argmax(1) == region).double().mean()
    assert agreement > 0.95
    assert agreement_of_mixup < 0.8
