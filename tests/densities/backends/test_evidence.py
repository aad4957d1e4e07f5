"""What rows left out say, against a slow loop that refits without them."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from genlabel_plugins import GenerativeMix, GenLabel, make_backend
from genlabel_plugins.densities.backends import kernel_density
from genlabel_plugins.densities.backends._class_estimates import class_estimates
from genlabel_plugins.densities.backends._evidence import choose_by_evidence, choose_judges, leave, left_out_scores


def blobs(sizes=(30, 40, 50), n_features=3, apart=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    mixing = torch.eye(n_features) + 0.5 * torch.randn(len(sizes), n_features, n_features, generator=generator)
    x = torch.randn(len(target), n_features, generator=generator, dtype=torch.float64)
    x = torch.einsum("nd,nde->ne", x, mixing.double()[target])
    x = x + apart * torch.randn(len(sizes), n_features, generator=generator).double()[target]
    return x - x.mean(0), target


def skewed():
    """Classes that are Gaussian by their logarithms, on which Gaussians and kernels are too certain."""
    x, target = blobs((80, 80, 80), 6, apart=0.5)
    return x.exp(), target


def estimates(x, target, tied=False):
    return class_estimates(x, target, x.new_zeros(x.shape[1]), shrinkage=0.0, tied=tied)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_rows_leave_means_and_covariances_as_if_they_had_never_been_there(tied, times):
    x, target = blobs()
    x, target = x.repeat_interleave(times, 0), target.repeat_interleave(times)
    judges = choose_judges(x, target, 20)
    assert judges.times.tolist() == [times] * 20
    whole = estimates(x, target, tied)
    own = torch.zeros(3).double() if tied else torch.ones(3).double()
    leaving = leave(whole, target[judges.row], judges.times, own, 1 - own)
    found = left_out_scores(x[judges.row], target[judges.row], whole, whole.covariance, leaving)
    for row, score in zip(judges.row, found, strict=True):
        rest = judges.group != judges.group[row]
        part = estimates(x[rest], target[rest], tied)
        change = x[row] - part.mean  # (K, D)
        covariance = part.covariance.expand(3, -1, -1)
        square = (change * torch.linalg.solve(covariance, change)).sum(1)
        torch.testing.assert_close(score, -0.5 * (square + torch.linalg.slogdet(covariance)[1]), rtol=1e-9, atol=1e-9)


def test_judges_do_not_depend_on_the_order_of_rows():
    x, target = blobs()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    chosen, shuffled = choose_judges(x, target, 25), choose_judges(x[order], target[order], 25)
    assert sorted(chosen.row.tolist()) == sorted(order[shuffled.row].tolist())


def test_a_class_of_equal_rows_has_no_judge():
    x = torch.tensor([[0.0], [0.0], [1.0], [2.0]])
    assert choose_judges(x, torch.tensor([0, 0, 1, 1]), 4).row.sort().values.tolist() == [2, 3]


def test_of_equal_evidence_the_first_is_taken_and_an_outlier_decides_nothing():
    score = torch.tensor([[8.0, 0.0]]).expand(200, 2).double()
    target = torch.zeros(200, dtype=torch.long)
    assert choose_by_evidence(torch.stack([score, score]), target) == (0, 1.0)
    far = score.clone()
    far[0] = torch.tensor([0.0, 1e6])  # one row beyond all measure costs no more than log(2e5)
    assert choose_by_evidence(torch.stack([far, score.flip(1)]), target)[0] == 0


def test_kernels_of_left_out_rows_are_dropped(monkeypatch):
    x, target = blobs((80, 100, 120))
    seen = []
    monkeypatch.setattr(kernel_density, "choose_by_evidence", lambda scores, _: seen.append(scores) or (0, 1.0))
    make_backend("kde").fit(x, target)
    judges = choose_judges(x, target, 500)
    for row, found in list(zip(judges.row.tolist(), seen[0][0], strict=True))[::10]:
        for c in range(3):
            rows = x[target == c]
            covariance = len(rows) ** (-2 / 7) * torch.cov(rows.T)
            rest = x[(target == c) & (torch.arange(len(x)) != row)]
            kernels = MultivariateNormal(rest, covariance).log_prob(x[row])
            expected = kernels.logsumexp(0) - math.log(len(rest)) + 1.5 * math.log(2 * math.pi)
            torch.testing.assert_close(found[c], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_labels_are_truer_on_rows_that_were_not_fitted(backend):
    x, target = skewed()
    seen = torch.arange(len(x)) % 2 == 0
    loss = {}
    for regularization in ("auto", None):
        genlabel = GenLabel(make_backend(backend, regularization=regularization)).fit(x[seen], target[seen])
        loss[regularization] = -float(genlabel.posterior(x[~seen]).log().gather(1, target[~seen, None]).mean())
    assert loss["auto"] < 0.8 * loss[None]


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_generative_mixing_attains_lam_at_a_temperature(backend):
    x, target = blobs((100, 100), apart=3.0)
    genlabel = GenLabel(make_backend(backend)).fit(x, target)
    genlabel.density.temperature_.fill_(3.0)
    mix = GenerativeMix(genlabel, generator=torch.Generator().manual_seed(0))
    x_mix, y = mix(x, target)
    attained = mix.mix.attained & (y.amax(1) < 1)
    assert attained.sum() > 20
    torch.testing.assert_close(genlabel.posterior(x_mix)[attained], y[attained], rtol=0, atol=1e-3)


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_the_temperature_lies_in_the_state_and_leaves_densities_normalized(backend):
    x, target = skewed()
    density = make_backend(backend).fit(x, target)
    assert density.temperature_ > 1
    fresh = make_backend(backend)
    fresh.load_state_dict(density.state_dict())
    assert torch.equal(GenLabel(fresh).posterior(x), GenLabel(density).posterior(x))
    expected = (density.log_prob(x) / density.temperature_).softmax(1)
    torch.testing.assert_close(GenLabel(density).posterior(x), expected)


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_what_is_no_regularization_is_refused(backend):
    with pytest.raises(ValueError, match="regularization must be 'auto' or None, got 'tied'"):
        make_backend(backend, regularization="tied")


@pytest.mark.parametrize(("backend", "option"), [("gm", {"shrinkage": 0.0}), ("kde", {"bandwidth": 0.5})])
def test_a_number_of_your_own_stands(backend, option):
    x, target = skewed()
    given, alone = (make_backend(backend, **option, regularization=r).fit(x, target) for r in ("auto", None))
    assert given.temperature_ == 1
    assert torch.equal(given.log_prob(x), alone.log_prob(x))
