"""What all densities share: checks, centering, empty classes, precision, state."""

import copy
import pickle

import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from genlabel_plugins import Density, FromClassifier, GenLabel, make_backend


class NearestMean(Density):
    """A unit Gaussian about each class mean, which records what it was given."""

    def __init__(self):
        super().__init__()
        self._declare("mean_")

    def _fit(self, x, target, generator):
        self.seen = x, target
        self.mean_ = torch.stack([x[target == c].mean(0) for c in range(int(target.max()) + 1)])

    def _log_prob(self, x):
        return -0.5 * torch.cdist(x, self.mean_).square()


X = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 3.0]])
TARGET = torch.tensor([1, 1, 4])


def test_rows_arrive_centered_and_targets_compact():
    density = NearestMean().fit(X, TARGET, n_classes=6)
    x, target = density.seen
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-6)
    assert target.tolist() == [0, 0, 1]
    assert density.present_.tolist() == [1, 4]
    assert density.class_count_.tolist() == [0, 2, 0, 0, 1, 0]
    assert density.n_classes == 6


def test_columns_of_empty_classes_are_minus_infinity():
    log_prob = NearestMean().fit(X, TARGET, n_classes=6).log_prob(X)
    assert log_prob.shape == (3, 6)
    assert (log_prob[:, [0, 2, 3, 5]] == -torch.inf).all()
    assert log_prob[2, 4] == 0


def test_images_are_flattened():
    x = torch.randn(6, 3, 2, 2)
    density = NearestMean().fit(x, torch.arange(6) % 2)
    assert torch.equal(density.log_prob(x), density.log_prob(x.flatten(1)))


def test_subclass_must_define_both_methods():
    with pytest.raises(NotImplementedError, match="_fit"):
        Density().fit(X, TARGET)


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (torch.zeros(3), TARGET, r"x must have shape \(B, \*\).*got \(3,\)"),
        (X, TARGET[:2], r"target must have shape \(3,\).*got \(2,\)"),
        (X, TARGET.double(), "integer class indices, got torch.float64"),
        (X, TARGET > 1, "integer class indices, got torch.bool"),
        (X[:0], TARGET[:0], "at least one row"),
        (X / 0, TARGET, "finite, got NaN or infinity in 3 rows, first in row 0"),
        (X, TARGET - 2, "target must lie in 0..2, got values from -1 to 2"),
        (X + 1j, TARGET, "x must be real, got torch.complex64"),
    ],
)
def test_fit_names_what_is_wrong(x, target, message):
    with pytest.raises(ValueError, match=message):
        NearestMean().fit(x, target)


def test_fit_names_both_numbers_of_classes():
    with pytest.raises(ValueError, match=r"target must lie in 0\.\.2, got values from 1 to 4"):
        NearestMean().fit(X, TARGET, n_classes=3)


def test_log_prob_before_fit_and_of_other_features():
    with pytest.raises(NotFittedError, match="NearestMean is not fitted"):
        NearestMean().log_prob(X)
    with pytest.raises(ValueError, match="2 features seen in fit, got 3"):
        NearestMean().fit(X, TARGET).log_prob(torch.zeros(1, 3))


def test_half_a_fit_is_no_fit():
    density = make_backend("gm", shrinkage=0.0, reg_covar=0.0)
    with pytest.raises(ValueError, match="singular"):
        density.fit(X[:, :1].repeat(1, 2), TARGET)
    with pytest.raises(NotFittedError):
        density.log_prob(X)


def test_integer_rows_fit_as_float32():
    density = NearestMean().fit(X.long(), TARGET)
    assert density.offset_.dtype == torch.float32
    assert density.log_prob(X.to(torch.uint8)).dtype == torch.float32


@pytest.mark.parametrize("backend", ["gm", "kde", "nn", "flow", "vae", "gan", "mixed_types", "classifier"])
def test_integers_are_not_narrowed_before_they_are_centered(backend):
    options = {"max_epochs": 1} if backend in ("flow", "vae", "gan") else {}
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(200) % 2
    small = 100 * torch.randn(200, 2, generator=generator) + 600 * target[:, None]
    x = small.long() + 10**12  # seconds, say; float32 tells them apart in steps of 65,536
    teacher = make_pipeline(StandardScaler(), LogisticRegression())
    density = FromClassifier(teacher) if backend == "classifier" else make_backend(backend, **options)
    posterior = GenLabel(density).fit(x, target).posterior(x)
    expected = GenLabel(copy.deepcopy(density)).fit((x - 10**12).double(), target).posterior((x - 10**12).double())
    assert posterior.dtype == torch.float64
    assert (posterior.argmax(1) == target).double().mean() > 0.99
    if backend != "gan":  # whose training is an orbit
        assert (posterior - expected).abs().max() < 1e-3


def test_a_model_in_half_precision_leaves_its_density_in_full():
    model = nn.Sequential(NearestMean().fit(X, TARGET), nn.Linear(2, 2)).half()
    assert model[1].weight.dtype == torch.float16
    assert model[0].mean_.dtype == torch.float32
    assert model.double()[0].mean_.dtype == torch.float64


def test_state_dict_replaces_state_of_another_shape():
    fitted = NearestMean().fit(X, TARGET)
    other = NearestMean().fit(torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 4)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.log_prob(X), fitted.log_prob(X))


@pytest.mark.parametrize(
    ("name", "options"), [("gm", {}), ("gm", {"covariance_type": "tied"}), ("kde", {}), ("flow", {"max_epochs": 1})]
)
@pytest.mark.filterwarnings("ignore:.*classes have fewer than")
def test_covariances_that_no_memory_holds_are_refused_before_it_is_taken(name, options):
    x, target = torch.randn(64, 100_000), torch.arange(64)
    with pytest.raises(ValueError, match=r"100000 features they take [\d,]+ GB, more than the [\d,]+ GB"):
        make_backend(name, **options).fit(x, target)


def test_variances_alone_are_learnt_of_many_features():
    x, target = torch.randn(8, 100_000), torch.arange(8) % 2
    assert torch.isfinite(make_backend("gm", covariance_type="diag").fit(x, target).log_prob(x)).all()


def test_fitted_density_pickles():
    density = make_backend("gm").fit(X, TARGET)
    assert torch.equal(pickle.loads(pickle.dumps(density)).log_prob(X), density.log_prob(X))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_densities_survive_an_offset(offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator) + offset
    density = make_backend("gm", reg_covar=0.0).fit(x, torch.zeros(400, dtype=torch.long))
    rows = x.double().numpy()
    expected = multivariate_normal(rows.mean(0), (rows - rows.mean(0)).T @ (rows - rows.mean(0)) / 400).logpdf(rows)
    assert (density.log_prob(x).squeeze(1).double() - torch.as_tensor(expected)).abs().max() < 2e-4
