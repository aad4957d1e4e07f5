import copy
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from scipy.stats import multivariate_normal

from genlabel_plugins import load, make_backend, save
from genlabel_plugins.densities.backends import _flow_normflows, _flow_zuko
from genlabel_plugins.densities.backends.normalizing_flow import NormalizingFlow

ENGINES = {"normflows": _flow_normflows.InvertibleNetwork, "zuko": _flow_zuko.InvertibleNetwork}
FLOWS = ["nsf", "maf", "realnvp"]
SMALL = {"n_layers": 2, "hidden_features": 16, "max_epochs": 8, "learning_rate": 1e-2}

pytestmark = pytest.mark.filterwarnings("ignore:.*rows per feature")


def banana(n_rows, seed):
    """Rows of x1 ~ N(0, 1), x2 | x1 ~ N(x1^2, 0.3^2), and their log-density."""
    noise = torch.randn(n_rows, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = torch.stack([noise[:, 0], noise[:, 0].square() + 0.3 * noise[:, 1]], 1)
    return x, -0.5 * noise.square().sum(1) - math.log(2 * math.pi * 0.3)


def two_classes(n_rows=200, n_features=2, dtype=torch.float64):
    x = torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.arange(n_rows) % 2
    x[target == 1, 0] = x[target == 1, 0].abs() + 1
    return x.to(dtype), target


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("n_context", [0, 2])
def test_networks_start_as_the_identity_and_know_their_jacobian(engine, flow, n_features, n_context):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ENGINES[engine](flow, n_features, n_context, 3, 8).double()
        z = torch.randn(4, n_features, dtype=torch.float64)
        context = torch.eye(2, dtype=torch.float64).repeat(2, 1) if n_context else None
        noise, log_det = network(z, context)
        torch.testing.assert_close(log_det, torch.zeros(4, dtype=torch.float64), atol=1e-6, rtol=0)
        torch.testing.assert_close(noise.square().sum(1), z.square().sum(1), atol=1e-5, rtol=0)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    _, log_det = network(z, context)
    assert log_det.abs().max() > 0.1
    for i in range(4):
        row_context = None if context is None else context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda row, c=row_context: network(row[None], c)[0][0], z[i])
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "flow"), [("normflows", "nsf"), ("zuko", "nsf"), ("zuko", "maf")])
def test_comes_close_to_a_known_density(engine, flow):
    x, _ = banana(600, 0)
    unseen, truth = banana(2000, 1)
    density = NormalizingFlow(
        engine=engine, flow=flow, n_layers=2, hidden_features=32, max_epochs=60, learning_rate=4e-3
    )
    log_prob = density.fit(x, x.new_zeros(600).long()).log_prob(unseen)[:, 0]
    gap = float((truth - log_prob).mean())
    gaussian = multivariate_normal(x.mean(0), x.T.cov()).logpdf(unseen).mean()
    assert -0.02 < gap < 0.25
    assert float(log_prob.mean()) > gaussian + 0.4


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("engine", ENGINES)
def test_integrates_to_one(engine, flow, conditional):
    for n_features in (1, 2):
        x, target = two_classes(n_features=n_features)
        density = NormalizingFlow(engine=engine, flow=flow, conditional=conditional, **SMALL).fit(x, target)
        axis = torch.linspace(-9, 9, 1801 if n_features == 1 else 121, dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * n_features).view(-1, n_features)
        total = density.log_prob(grid).exp().sum(0) * (axis[1] - axis[0]) ** n_features
        torch.testing.assert_close(total, torch.ones_like(total), atol=0.02, rtol=0)


def test_untrained_is_the_gaussian_of_each_class():
    x, target = two_classes(n_features=3)
    density = NormalizingFlow(max_epochs=0).fit(x, target)
    for c in (0, 1):
        rows = x[target == c]
        covariance = rows.T.cov()
        covariance += 1e-4 * covariance.diagonal().diag()
        expected = multivariate_normal(rows.mean(0), covariance).logpdf(x)
        torch.testing.assert_close(density.log_prob(x)[:, c], torch.as_tensor(expected), atol=1e-6, rtol=0)


def test_small_classes_stay_gaussian_and_do_not_disturb_the_others():
    x, target = two_classes()
    extra = torch.tensor([[50.0, 50.0], [60.0, 60.0], [61.0, 60.0]], dtype=torch.float64)
    density = NormalizingFlow(**SMALL).fit(torch.cat([x, extra]), torch.cat([target, torch.tensor([2, 3, 3])]))
    assert density.trained_.tolist() == [0, 1]
    log_prob = density.log_prob(torch.cat([x, extra]))
    assert torch.isfinite(log_prob).all()
    assert log_prob[-3:].argmax(1).tolist() == [2, 3, 3]
    few = NormalizingFlow(engine="zuko").fit(x[:10], target[:10])
    assert not len(few.networks_)
    assert torch.isfinite(few.log_prob(x)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("engine", ENGINES)
def test_falls_off_in_every_direction(engine, flow, dtype):
    x, target = two_classes(dtype=dtype)
    density = NormalizingFlow(engine=engine, flow=flow, **SMALL).fit(x, target)
    angle = torch.linspace(0, 2 * math.pi, 25, dtype=dtype)
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    rays = torch.stack([density.log_prob(direction * length) for length in (20.0, 100.0, 1e4, 1e6, 1e8)])
    assert torch.isfinite(rays).all()
    assert (rays.diff(dim=0) < 0).all()


def test_order_of_classes_does_not_matter_to_one_flow_per_class():
    x, target = two_classes()
    density = NormalizingFlow(conditional=False, **SMALL).fit(x, target)
    swapped = NormalizingFlow(conditional=False, **SMALL).fit(x, 1 - target)
    torch.testing.assert_close(swapped.log_prob(x).flip(1), density.log_prob(x))


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_state_travels(engine, conditional, tmp_path):
    x, target = two_classes(dtype=torch.float32)
    options = {"engine": engine, "conditional": conditional, **SMALL}
    density = NormalizingFlow(**options).fit(x, target, n_classes=4)
    expected = density.log_prob(x)
    state = torch.get_rng_state()
    fresh = NormalizingFlow(**options)
    fresh.load_state_dict(density.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    save(density, tmp_path / "flow.safetensors")
    loaded = load(tmp_path / "flow.safetensors", NormalizingFlow)
    for twin in (fresh, loaded, copy.deepcopy(density), pickle.loads(pickle.dumps(density))):
        assert torch.equal(twin.log_prob(x), expected)
    torch.testing.assert_close(density.double().log_prob(x.double()).float(), expected, atol=1e-4, rtol=1e-4)


def test_a_batch_larger_than_a_chunk_gives_the_same(monkeypatch):
    x, target = two_classes()
    density = NormalizingFlow(**SMALL).fit(x, target)
    expected = density.log_prob(x)
    monkeypatch.setattr("genlabel_plugins.densities.network_density.CHUNK_ROWS", 14)
    torch.testing.assert_close(density.log_prob(x), expected)


def test_an_interrupt_ends_all_classes(monkeypatch):
    def interrupted(epochs, description, verbose):
        for epoch in epochs:
            if epoch == 3:
                raise KeyboardInterrupt
            yield epoch

    monkeypatch.setattr("genlabel_plugins.densities._training.progress", interrupted)
    x, target = two_classes()
    with pytest.warns(UserWarning, match="normflows nsf was interrupted in epoch 2"):
        density = NormalizingFlow(conditional=False, **SMALL).fit(x, target)
    assert torch.isfinite(density.log_prob(x)).all()
    first, second = density.report_
    assert (first.n_epochs, first.interrupted) == (2, True)
    assert second.n_epochs == 0


def test_warns_when_rows_are_few():
    x, target = two_classes(n_features=5)
    with pytest.warns(UserWarning, match="2 of 2 classes have fewer than 50 rows per feature"):
        NormalizingFlow(max_epochs=0).fit(x, target)
    x, target = two_classes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NormalizingFlow(max_epochs=0).fit(x, target)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"flow": "glow"}, "flow must be one of .*'nsf'.* got 'glow'"),
        ({"engine": "nflows"}, "engine must be one of .*'zuko'.* got 'nflows'"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie between 0 and 1, got 1.0"),
    ],
)
def test_refuses_options_out_of_range(option, message):
    with pytest.raises(ValueError, match=message):
        make_backend("flow", **option)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_engine_costs_one_sentence(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.delitem(sys.modules, f"genlabel_plugins.densities.backends._flow_{engine}")
    with pytest.raises(ModuleNotFoundError, match=rf"needs {engine}: pip install 'genlabel-plugins\[flows\]'"):
        NormalizingFlow(engine=engine).fit(*two_classes())


@pytest.mark.slow
def test_engines_load_on_demand():
    code = (
        "import sys, genlabel_plugins; genlabel_plugins.make_backend('flow'); "
        "assert not {'normflows', 'zuko'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
