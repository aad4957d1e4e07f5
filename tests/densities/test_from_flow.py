"""Flows of four libraries, torch's distributions and scikit-learn's estimators, each as an object in one line."""

import copy
import warnings

import normflows
import pytest
import torch
import zuko
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.transforms import MaskedAffineAutoregressiveTransform
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

from genlabel_plugins import FromFlow, PerClass, make_backend

pyro = pytest.importorskip("pyro.distributions")
C, D = 3, 2


def normal():
    return pyro.Normal(torch.zeros(D), torch.ones(D)).to_event(1)


FLOWS = {
    "zuko": lambda: FromFlow(zuko.flows.MAF(D, transforms=1, hidden_features=(8,))),
    "normflows": lambda: FromFlow(
        normflows.NormalizingFlow(
            normflows.distributions.DiagGaussian(D), [normflows.flows.MaskedAffineAutoregressive(D, 8)]
        )
    ),
    "nflows": lambda: FromFlow(Flow(MaskedAffineAutoregressiveTransform(D, 8), StandardNormal([D]))),
    "pyro": lambda: FromFlow(
        pyro.TransformedDistribution(normal(), [pyro.transforms.affine_autoregressive(D, hidden_dims=[8])])
    ),
    "zuko, conditional": lambda: FromFlow(
        zuko.flows.NSF(D, C, transforms=1, bins=4, hidden_features=(8,)), conditional=True
    ),
    "normflows, conditional": lambda: FromFlow(
        normflows.ConditionalNormalizingFlow(
            normflows.distributions.DiagGaussian(D),
            [normflows.flows.MaskedAffineAutoregressive(D, 8, context_features=C)],
        ),
        conditional=True,
    ),
    "nflows, conditional": lambda: FromFlow(
        Flow(MaskedAffineAutoregressiveTransform(D, 8, context_features=C), StandardNormal([D])), conditional=True
    ),
    "pyro, conditional": lambda: FromFlow(
        pyro.ConditionalTransformedDistribution(
            normal(), [pyro.transforms.conditional_affine_autoregressive(D, C, hidden_dims=[8])]
        ),
        conditional=True,
    ),
}


def blobs(n=90, n_features=D):
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n) % C
    return torch.randn(n, n_features, generator=generator, dtype=torch.float64) + 3.0 * target[:, None], target


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_a_density_of_every_class(name):
    x, target = blobs()
    x, target = torch.cat([x, x[:3] + 9]), torch.cat([target, torch.full((3,), C - 1)])  # rows away from their class
    with torch.random.fork_rng():
        torch.manual_seed(0)
        density = FLOWS[name]()
    learnt = getattr(density.flow, "parameters", list)  # distributions of pyro are no modules
    given = [parameter.detach().clone() for parameter in learnt()]
    density.max_epochs = 2
    density.fit(x, target)
    assert all(torch.equal(a, b) for a, b in zip(given, learnt(), strict=True))
    log_prob = density.log_prob(x)
    assert log_prob.dtype == torch.float64
    assert not log_prob.requires_grad
    assert (log_prob.argmax(1) == target).double().mean() > 0.85
    assert not any(parameter.requires_grad for parameter in density.parameters())
    again = copy.deepcopy(density)
    fresh = copy.deepcopy(density).fit(x + 1, target)
    fresh.load_state_dict(density.state_dict())
    assert torch.equal(again.log_prob(x), log_prob)
    assert torch.allclose(fresh.log_prob(x), log_prob)


def test_layers_that_start_from_the_first_rows_see_more_than_one():
    # One row of a class is held out, and would be scored first: normflows' ActNorm would take nan for its scale.
    x, target = blobs(n=90)
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(D), [normflows.flows.ActNorm(D)])
    density = FromFlow(flow, max_epochs=1, validation_fraction=0.05).fit(x, target)
    assert (density.log_prob(x).argmax(1) == target).double().mean() > 0.85
    for parts in density.network_.flows:
        scale = parts.held[0].flows[0].s.exp()  # rows come in units of their class
        assert torch.allclose(scale, torch.ones_like(scale), atol=0.2)


@pytest.mark.slow
def test_a_flow_learns_what_a_gaussian_cannot():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(600, D, generator=generator)
    bent = torch.stack([u[:, 0], u[:, 0] ** 2 + 0.3 * u[:, 1]], 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = zuko.flows.NSF(D, transforms=2, bins=6, hidden_features=(16,))
    target = torch.zeros(len(bent), dtype=torch.long)
    density = FromFlow(flow, max_epochs=30, learning_rate=5e-3).fit(bent[:400], target[:400])
    gaussian = make_backend("gm").fit(bent[:400], target[:400])
    gain = (density.log_prob(bent[400:]) - gaussian.log_prob(bent[400:])).mean()
    assert gain > 0.3


def test_what_is_no_flow_is_refused():
    with pytest.raises(TypeError, match="flow must have log_prob or condition, or make a distribution"):
        FromFlow(3)
    with pytest.raises(ValueError, match=r"flow must have parameters to train, got Normal.*: PerClass lifts"):
        FromFlow(Normal(0.0, 1.0))

    class Single(torch.nn.Linear):
        def log_prob(self, z):
            return self(z)

    single = FromFlow(Single(D, D))
    with pytest.raises(ValueError, match="a density of whole rows: got log_prob of shape"):
        single.fit(*blobs())


DISTRIBUTIONS = {
    "Laplace": lambda x: Independent(Laplace(x.median(0).values, x.std(0)), 1),
    "StudentT": lambda x: Independent(StudentT(4.0, x.mean(0), x.std(0)), 1),
    "MultivariateNormal": lambda x: MultivariateNormal(x.mean(0), x.T.cov()),
    "mixture": lambda x: MixtureSameFamily(
        Categorical(torch.ones(2).to(x)), Independent(Normal(torch.stack([x.mean(0), x[0]]), x.std(0)), 1)
    ),
    "pyro": lambda x: pyro.Laplace(x.median(0).values, x.std(0)).to_event(1),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_of_torch_or_pyro_is_a_density_of_one_class(name):
    x, target = blobs()
    log_prob = PerClass(DISTRIBUTIONS[name]).fit(x, target).log_prob(x)
    for c in range(C):
        assert torch.allclose(log_prob[:, c], DISTRIBUTIONS[name](x[target == c]).log_prob(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator", [BayesianGaussianMixture(random_state=0), GaussianMixture(), KernelDensity(bandwidth=0.05)], ids=str
)
@pytest.mark.parametrize("n_rows", [6, 60, 400])
def test_an_estimator_whose_density_is_not_normalized_is_said_not_to_be(estimator, n_rows):
    x, target = blobs(3 * n_rows, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        density = PerClass(estimator).fit(x, target)
    grid = torch.linspace(-15, 25, 400_001, dtype=torch.float64)[:, None] if n_rows < 400 else x.new_zeros(1, 1)
    said = [str(each.message) for each in caught if "integrates to" in str(each.message)]
    if isinstance(estimator, BayesianGaussianMixture) and n_rows < 400:
        mass = float(torch.trapezoid(density.log_prob(grid)[:, 0].exp(), grid[:, 0]))
        assert said
        assert f"class 0 by BayesianGaussianMixture integrates to {mass:.2f}" in said[0]
    else:
        assert not said


def test_a_claim_that_is_not_made_is_not_checked():
    class Score(PerClass):
        normalized = False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Score(BayesianGaussianMixture(random_state=0)).fit(*blobs(18, 1))
