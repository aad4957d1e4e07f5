"""The paper's Examples 1 to 3 and the ordering of its theorem, against numbers worked out apart from the library.

Training that has a minimizer is carried to it by quasi-Newton steps on the expected loss, a Gauss-Legendre sum over
lam.
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from torch import nn
from torch.nn import functional as F

from genlabel_plugins import GenLabel, LogisticLabel, Mixed, Mixup, PosteriorLabel, linear_label

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(300))


def all_pairs(x, target, n_classes):
    """Every ordered pair at every node of lam, and the weight of each mixed row in the expected loss."""
    i, j, node = (t.flatten() for t in torch.meshgrid(*map(torch.arange, (len(x), len(x), len(NODES))), indexing="ij"))
    lam = (NODES[node] + 1) / 2
    eye, share = torch.eye(n_classes, dtype=torch.float64), lam[:, None]
    y_mix = share * eye[target[i]] + (1 - share) * eye[target[j]]
    x_mix = share * x[i] + (1 - share) * x[j]
    mixed = Mixed(x=x_mix, y_mix=y_mix, target_i=target[i], target_j=target[j], partner=j, lam=lam, row=i)
    return mixed, (WEIGHTS / 2 / len(x) ** 2).repeat(len(x) ** 2)


# Example 1: classes 0, 1, 0 at -1, 0, 1; f(x) = min(|x| / (2 theta), 1) is the share of class 0, its margin
# min(theta, 1 - theta). With s = 2 theta <= 1, a pair with the middle costs (1 - s)^2 / 3 and the outer pair s / 3;
# over four ordered pairs of the first kind and w of the second, the minimum lies at s = 1 - w / 8.


@pytest.mark.parametrize(
    ("pairing", "outer_pairs", "margin"),
    [("ordered", 2, 3 / 8), ("once", 1, 7 / 16), ("other class", 0, 1 / 2)],
)
def test_example_1_intrusion_shrinks_the_margin(pairing, outer_pairs, margin):
    assert (1 - outer_pairs / 8) / 2 == margin
    x, target = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1, 0])
    mixed, weight = all_pairs(x, target, 2)
    i = torch.arange(3).repeat_interleave(3 * len(NODES))  # the row; mixed.partner is the other
    if pairing == "once":
        weight = weight * ~((i == 2) & (mixed.partner == 0))
    if pairing == "other class":
        weight = weight * (mixed.target_i != mixed.target_j)

    def loss(theta):
        prediction = (mixed.x.abs().squeeze(1) / (2 * theta)).clamp(max=1)
        return float(weight @ (prediction - linear_label(mixed)[:, 0]).square())

    theta = minimize_scalar(loss, bounds=(0.2, 0.8), method="bounded").x
    assert min(theta, 1 - theta) == pytest.approx(margin, abs=1e-3)


def test_example_1_in_batches_of_mixup():
    # A long batch of copies pairs them as all ordered pairs do; partners of another class leave intrusion out.
    x = torch.tensor([[-1.0], [0.0], [1.0]]).repeat(20_000, 1)
    target = torch.tensor([0, 1, 0]).repeat(20_000)
    other = lambda x, target, generator: torch.where(  # noqa: E731
        target == 0, 1, torch.randint(2, target.shape, generator=generator) * 2
    )
    for pairing, margin in (("permutation", 3 / 8), (other, 1 / 2)):
        mixed = Mixup(2, per_sample=True, pairing=pairing, generator=torch.Generator().manual_seed(0))(x, target)
        grid = torch.linspace(0.3, 0.7, 81)
        loss = [((mixed.x[:, 0].abs() / (2 * t)).clamp(max=1) - mixed.y_mix[:, 0]).square().mean() for t in grid]
        theta = float(grid[int(torch.stack(loss).argmin())])
        assert min(theta, 1 - theta) == pytest.approx(margin, abs=0.015)


# Example 2: three points, three classes, softmax regression without bias. The max-margin classifier has margin d = 5.

D = 5.0
CORNERS = torch.tensor([[-D, -D], [-D, D], [D, -D]], dtype=torch.float64)


def corner_margin(weight):
    """Smallest distance of a point to the boundary between its class and another."""
    return min(
        float((weight[i] - weight[c]) @ CORNERS[i] / (weight[i] - weight[c]).norm())
        for i in range(3)
        for c in range(3)
        if c != i
    )


def softmax_regression(x, y, row_weight):
    def loss_and_gradient(flat):
        weight = torch.tensor(flat.reshape(3, 2), requires_grad=True)
        loss = -row_weight @ (y * torch.log_softmax(x @ weight.T, 1)).sum(1)
        loss.backward()
        return loss.item(), weight.grad.numpy().ravel()

    return torch.from_numpy(minimize(loss_and_gradient, np.zeros(6), jac=True, options={"gtol": 1e-9}).x.reshape(3, 2))


@pytest.mark.parametrize(("label", "margin"), [(linear_label, 4.70), (LogisticLabel(1 / (8 * D)), 5.00)])
def test_example_2_logistic_labels_reach_the_margin_that_linear_ones_miss(label, margin):
    mixed, weight = all_pairs(CORNERS, torch.arange(3), 3)
    assert corner_margin(softmax_regression(mixed.x, label(mixed), weight)) == pytest.approx(margin, abs=0.005)


def test_example_2_vanilla_training_nears_the_margin_only_as_its_loss_leaves_double_precision():
    # The loss has no minimizer. By symmetry the weights are W = ((-p, -p), ((p-q)/2, (p+q)/2), ((p+q)/2, (p-q)/2)), and
    # the best of norm R minimizes log(1 + 2 e^-u) + 2 log(1 + e^-v + e^-2v), u = 3pd, v = qd. Far out u - v -> log 3,
    # so the margin d v sqrt(2 / (u^2 + v^2)) is d (1 - log(3) / (2 v)) to first order.
    def best(norm):
        def split(angle):
            return norm * math.cos(angle) / math.sqrt(3), norm * math.sin(angle)

        def log_loss(angle):
            p, q = split(angle)
            return math.log(
                math.log1p(2 * math.exp(-3 * p * D)) + 2 * math.log1p(math.exp(-q * D) + math.exp(-2 * q * D))
            )

        p, q = split(minimize_scalar(log_loss, bounds=(0.1, 1.4), method="bounded", options={"xatol": 1e-12}).x)
        weight = torch.tensor([[-p, -p], [(p - q) / 2, (p + q) / 2], [(p + q) / 2, (p - q) / 2]], dtype=torch.float64)
        assert float(weight.norm()) == pytest.approx(norm)
        return weight

    vanilla = best(8.0)
    assert F.cross_entropy(CORNERS @ vanilla.T, torch.arange(3)) == pytest.approx(1e-15, rel=0.9)
    assert corner_margin(vanilla) == pytest.approx(4.92, abs=0.005)
    v = float((vanilla[1, 1] - vanilla[1, 0]) * D)
    assert corner_margin(vanilla) == pytest.approx(D * (1 - math.log(3) / (2 * v)), abs=0.005)
    margins = [corner_margin(best(norm)) for norm in (2.0, 8.0, 32.0, 128.0)]
    assert margins == sorted(margins)
    assert margins[-1] == pytest.approx(D, abs=0.01)


# Example 3: (1, 0) and (0, 1) are positive, five copies of (-1, 0) negative; logistic regression with weights
# R (cos phi, sin phi). The max-margin direction is phi = pi / 4.

POINTS = torch.tensor([[1.0, 0.0], [0.0, 1.0]] + [[-1.0, 0.0]] * 5, dtype=torch.float64)
SIGN = torch.tensor([1, 1, 0, 0, 0, 0, 0])


class Kernels(nn.Module):
    """Kernel density whose bandwidth is a length, the same for both classes: five equal rows have no covariance."""

    def __init__(self, bandwidth):
        super().__init__()
        self.bandwidth = bandwidth

    def fit(self, x, target):
        self.rows = [x[target == c] for c in range(2)]
        return self

    def log_prob(self, x):
        kernel = [-torch.cdist(x, rows).square() / (2 * self.bandwidth**2) for rows in self.rows]
        return torch.stack([k.logsumexp(1) - math.log(k.shape[1]) for k in kernel], 1)


def best_direction(x, y, weight, norm):
    """Direction of least expected loss, in units of pi."""

    def loss(phi):
        logit = norm * (x @ torch.tensor([math.cos(phi), math.sin(phi)], dtype=torch.float64))
        # F.softplus drops what a logit beyond 20 leaves, which is all that vanilla training has left here.
        return float(weight @ (torch.logaddexp(logit, torch.zeros_like(logit)) - y * logit))

    grid = np.linspace(0.1, 1.5, 60)
    start = grid[np.argmin([loss(phi) for phi in grid])]
    found = minimize_scalar(loss, bounds=(start - 0.03, start + 0.03), method="bounded", options={"xatol": 1e-9})
    return found.x / math.pi


def example_3(bandwidth=None, norm=30.0):
    mixed, weight = all_pairs(POINTS, SIGN, 2)
    label = (
        linear_label if bandwidth is None else PosteriorLabel(GenLabel(Kernels(bandwidth), gamma=1.0).fit(POINTS, SIGN))
    )
    return best_direction(mixed.x, label(mixed)[:, 1], weight, norm)


def test_example_3_directions():
    # Vanilla: 6 e^(-R cos) + e^(-R sin) is least where R (cos phi - sin phi) = log(6 tan phi), 0.237 at R = 30.
    vanilla = best_direction(POINTS, SIGN.double(), torch.full((7,), 1 / 7, dtype=torch.float64), 30.0)
    phi = vanilla * math.pi
    assert 30 * (math.cos(phi) - math.sin(phi)) == pytest.approx(math.log(6 * math.tan(phi)), abs=1e-3)
    assert vanilla == pytest.approx(0.237, abs=0.001)
    assert example_3() == pytest.approx(0.321, abs=0.001)
    assert example_3(bandwidth=0.1) == pytest.approx(0.247, abs=0.001)


def test_example_3_genlabel_tends_to_the_margin_and_mixup_does_not():
    # At R -> infinity the loss of mixup is R (c / 12 + (s^3 + c^3) / (6 (s + c)^2)), c = cos phi, s = sin phi.
    def limit(phi):
        c, s = math.cos(phi), math.sin(phi)
        return c / 12 + (s**3 + c**3) / (6 * (s + c) ** 2)

    tends_to = minimize_scalar(limit, bounds=(0.5, 1.5), method="bounded", options={"xatol": 1e-9}).x / math.pi
    assert tends_to == pytest.approx(0.3249, abs=1e-4)
    assert example_3(norm=300.0) == pytest.approx(tends_to, abs=5e-4)
    distances = [
        abs(example_3(bandwidth=h, norm=norm) - 1 / 4) for h, norm in ((0.1, 30.0), (0.05, 100.0), (0.03, 300.0))
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.001


# The theorem: mixup loss >= GenLabel loss >= adversarial loss, for N(-m, s^2 I) and N(m, s^2 I), |m| = 1, logistic
# regression without bias, pairs of one class labeled by it.
#
# Mixup >= GenLabel. Cross-entropy is linear in the label, so the difference of the losses is E[(y_gen - lam) theta.x]/2
# over pairs of different classes: across m it is zero by symmetry, along m it is kappa(s) theta.m with kappa > 0. The
# inequality is exact, needs no Taylor expansion, and holds if and only if theta.m >= 0.
#
# GenLabel >= adversarial. For a small theta along m, to first order, it holds up to the radius (1/2 - g(s)) |m|, where
# g(s) |m|^2 = E[(y_gen - 1/2) x.m]. Well-separated classes (s = 0.3) keep it at every norm. Overlapping ones (s = 1)
# lose it at large norms, where the GenLabel loss falls below the standard loss: there no radius satisfies it.

LAM, LAM_WEIGHT = ((NODES + 1) / 2).numpy(), (WEIGHTS / 2).numpy()
Z, Z_WEIGHT = np.polynomial.hermite_e.hermegauss(80)
Z_WEIGHT = Z_WEIGHT / Z_WEIGHT.sum()


def gaussian_pull(spread):
    """E[(y_gen - 1/2) x] along m over pairs of different classes, by quadrature."""
    x = (2 * LAM - 1)[:, None] + spread * np.hypot(LAM, 1 - LAM)[:, None] * Z
    return float(LAM_WEIGHT @ ((expit(2 * x / spread**2) - 0.5) * x) @ Z_WEIGHT)


def gaussian_losses(theta, spread, radius=0.0, n=400_000):
    """Monte Carlo losses (mixup, GenLabel, adversarial) of logistic regression in two dimensions."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n) % 2
    mean = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    x = mean[target] + spread * torch.randn(n, 2, dtype=torch.float64, generator=generator)
    genlabel = GenLabel("gm", gamma=1.0).fit(x, target)
    mixed = Mixup(2, per_sample=True, generator=generator)(x, target)
    same = (mixed.target_i == mixed.target_j)[:, None]
    y_gen = torch.where(same, mixed.y_mix, PosteriorLabel(genlabel)(mixed))
    theta = torch.tensor(theta, dtype=torch.float64)

    def loss(rows, y):
        return float((F.softplus(rows @ theta) - y[:, 1] * (rows @ theta)).mean())

    attacked = x - radius * (2 * target[:, None] - 1) * theta / theta.norm()  # the worst case of a linear model
    return loss(mixed.x, mixed.y_mix), loss(mixed.x, y_gen), loss(attacked, F.one_hot(target, 2))


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("theta", [(2.0, 0.0), (1.0, -2.0), (0.0, 1.5), (-1.0, 1.0)])
def test_mixup_exceeds_genlabel_exactly_where_the_weights_point_the_right_way(theta, spread):
    mixup, genlabel, _ = gaussian_losses(theta, spread)
    kappa = (gaussian_pull(spread) - 1 / 6) / 2  # E[(lam - 1/2) (2 lam - 1)] is one sixth
    assert kappa > 0
    # Half of all pairs are of different classes; five standard errors of the mean over 400,000 rows.
    error = 5 * np.hypot(*theta) * max(spread, 1) * 0.3 / math.sqrt(400_000)
    assert mixup - genlabel == pytest.approx(kappa * theta[0], abs=error + 1e-4)


@pytest.mark.parametrize("norm", [0.1, 1.0, 5.0, 30.0])
def test_genlabel_exceeds_the_adversarial_loss_of_separated_classes(norm):
    radius = 0.5 - gaussian_pull(0.3)
    assert radius == pytest.approx(0.24, abs=0.001)
    mixup, genlabel, adversarial = gaussian_losses((norm, 0.0), 0.3, radius)
    assert mixup > genlabel > adversarial


def test_genlabel_falls_below_the_standard_loss_of_overlapping_classes_at_large_norms():
    _, genlabel, standard = gaussian_losses((10.0, 0.0), 1.0)
    assert genlabel < standard
    _, genlabel, adversarial = gaussian_losses((0.1, 0.0), 1.0, radius=0.15)  # at small norms it holds
    assert genlabel > adversarial


def test_genlabel_falls_below_the_standard_loss_where_the_weights_point_the_wrong_way():
    _, genlabel, standard = gaussian_losses((-0.5, 0.0), 0.3)
    assert genlabel < standard
