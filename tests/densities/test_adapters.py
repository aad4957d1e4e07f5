"""PerClass and FromClassifier against what they lift; accuracy and temperature against scikit-learn."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import gamma as scipy_gamma
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.distributions import Gamma, Independent, MultivariateNormal, Normal
from torch.nn.functional import cross_entropy

from genlabel_plugins import FromClassifier, GenLabel, GenLabelMix, PerClass, classifier_accuracy, make_backend
from genlabel_plugins.scoring import held_out, hits

IRIS = load_iris()
X, TARGET = torch.as_tensor(IRIS.data), torch.as_tensor(IRIS.target)


def _normal(rows):
    centered = rows - rows.mean(0)
    return MultivariateNormal(rows.mean(0), centered.T @ centered / len(rows))


def test_a_torch_distribution_is_lifted_to_the_gaussian_backend():
    lifted = PerClass(_normal).fit(X, TARGET)
    assert torch.allclose(lifted.log_prob(X), make_backend("gm", reg_covar=0.0).fit(X, TARGET).log_prob(X), atol=1e-8)


def test_a_subclass_defines_one_class():
    class Gaussian(PerClass):
        def fit_class(self, x):
            return _normal(x)

    assert torch.equal(Gaussian().fit(X, TARGET).log_prob(X), PerClass(_normal).fit(X, TARGET).log_prob(X))


@pytest.mark.parametrize("estimator", [KernelDensity(bandwidth=0.5), SklearnMixture(2, random_state=0)])
def test_a_scikit_learn_estimator_is_copied_for_each_class(estimator):
    lifted = PerClass(estimator).fit(X, TARGET)
    expected = [estimator.__class__(**estimator.get_params()).fit(X[c == TARGET]).score_samples(X) for c in range(3)]
    if "random_state" not in estimator.get_params():
        np.testing.assert_allclose(lifted.log_prob(X), np.stack(expected, 1))
    assert not hasattr(estimator, "tree_")
    assert not hasattr(estimator, "means_")
    assert (lifted.log_prob(X).argmax(1) == TARGET).double().mean() > 0.9


def test_rows_arrive_as_they_are_and_outside_the_support_density_is_zero():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 1, generator=generator, dtype=torch.float64) + 0.1
    target = torch.arange(60) % 2
    lifted = PerClass(lambda rows: Independent(Gamma(rows.mean(0) + 1, rows.new_ones(1)), 1)).fit(x, target)
    log_prob = lifted.log_prob(torch.tensor([[0.5], [-1.0], [torch.nan]], dtype=torch.float64))
    expected = scipy_gamma(float(x[target == 0].mean()) + 1).logpdf(0.5)
    np.testing.assert_allclose(log_prob[0, 0], expected)
    assert (log_prob[1] == -torch.inf).all()
    assert log_prob[2].isnan().all()


class Learnt(nn.Module):
    """A module with a parameter, one class."""

    def fit(self, x):
        self.mean = nn.Parameter(x.mean(0))
        return self

    def log_prob(self, x):
        return Normal(self.mean, 1.0).log_prob(x).sum(1)


def test_modules_become_submodules_without_gradient():
    lifted = PerClass(Learnt()).fit(X, TARGET)
    assert len(list(lifted.parameters())) == 3
    assert not any(parameter.requires_grad for parameter in lifted.parameters())
    assert not lifted.log_prob(X).requires_grad
    assert torch.allclose(list(lifted.parameters())[1], X[TARGET == 1].mean(0))


@pytest.mark.parametrize("density", [_normal, Learnt(), SklearnMixture(2)])
def test_densities_follow_dtype_state_dict_and_copy(density):
    lifted = PerClass(density).fit(X, TARGET)
    fresh = PerClass(density)
    fresh.load_state_dict(lifted.state_dict())
    assert torch.equal(fresh.log_prob(X), lifted.log_prob(X))
    assert torch.equal(copy.deepcopy(lifted).log_prob(X), lifted.log_prob(X))
    single = fresh.float().log_prob(X.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), lifted.log_prob(X), rtol=1e-2, atol=1e-2)


def test_a_density_of_single_features_is_refused_with_the_remedy():
    lifted = PerClass(lambda rows: Normal(rows.mean(0), rows.std(0))).fit(X, TARGET)
    with pytest.raises(ValueError, match=r"must have shape \(150,\), got \(150, 4\); wrap .* Independent"):
        lifted.log_prob(X)


def test_per_class_needs_a_density():
    with pytest.raises(NotImplementedError, match="PerClass must define fit_class or be given a density"):
        PerClass().fit(X, TARGET)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_relabeler_from_a_classifier_has_its_posterior(fitted):
    teacher = LogisticRegression(max_iter=1000)
    if fitted:
        teacher.fit(X, TARGET)
    genlabel = GenLabel(FromClassifier(teacher)).fit(X, TARGET)
    expected = LogisticRegression(max_iter=1000).fit(X, TARGET).predict_proba(X)
    np.testing.assert_allclose(genlabel.posterior(X), expected, atol=1e-12)
    assert hasattr(teacher, "coef_") is fitted


def test_a_fitted_classifier_serves_without_fit():
    teacher = FromClassifier(LogisticRegression(max_iter=1000).fit(X, TARGET))
    assert teacher.log_prob(X).shape == (150, 3)
    with pytest.raises(NotFittedError, match="unfitted classifier"):
        FromClassifier(LogisticRegression()).log_prob(X)
    with pytest.raises(TypeError, match="predict_proba"):
        FromClassifier(3)


@pytest.mark.parametrize("classifier", [LogisticRegression(max_iter=1000).fit(X, TARGET), nn.Linear(4, 3).double()])
def test_a_teacher_knows_its_classes_and_loads_its_state(classifier):
    teacher = FromClassifier(classifier).fit(X, TARGET, n_classes=4 if isinstance(classifier, nn.Module) else 3)
    assert teacher.n_classes == len(teacher.class_count_)
    fresh = FromClassifier(copy.deepcopy(classifier))
    fresh.load_state_dict(teacher.state_dict())
    assert torch.equal(fresh.class_count_, teacher.class_count_)
    assert torch.equal(fresh.log_prob(X), teacher.log_prob(X))
    fitted = FromClassifier(LogisticRegression(max_iter=1000).fit(X, TARGET))
    _, y = GenLabelMix(GenLabel(fitted))(X[:8], TARGET[:8])
    assert y.shape == (8, 3)


def test_half_precision_reaches_no_teacher():
    genlabel = GenLabel(FromClassifier(nn.Linear(4, 3))).bfloat16()
    features = X[:8].bfloat16()
    expected = genlabel.density.classifier(features.float()).softmax(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(genlabel.posterior(features), expected)


def test_a_state_dict_replaces_class_densities_fitted_before():
    lifted, other = PerClass(_normal).fit(X, TARGET), PerClass(_normal).fit(2 * X + 1, TARGET)
    other.load_state_dict(lifted.state_dict())
    assert torch.equal(other.log_prob(X), lifted.log_prob(X))


def test_a_class_that_the_teacher_never_saw_has_no_posterior():
    teacher = FromClassifier(LogisticRegression(max_iter=1000).fit(X[50:], TARGET[50:])).fit(X, TARGET)
    assert (teacher.log_prob(X)[:, 0] == -torch.inf).all()
    assert torch.isfinite(teacher.log_prob(X)[:, 1:]).all()


KINDS = {
    "signed": np.array([-1, 1, 3]),
    "text": np.array(["setosa", "versicolor", "virginica"]),
    "float": np.array([-1.0, 0.0, 2.0]),
    "whole floats": np.array([0.0, 1.0, 2.0]),
    "one-based": np.array([1, 2, 3]),
    "objects": np.array(["a", "b", "c"], dtype=object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_any_kind_are_counted_in_their_order(kind):
    teacher = LogisticRegression(max_iter=1000).fit(X, KINDS[kind][TARGET])
    genlabel = GenLabel(FromClassifier(teacher)).fit(X, TARGET)
    np.testing.assert_allclose(genlabel.posterior(X), teacher.predict_proba(X), atol=1e-12)
    if kind != "one-based":  # which without rows could mean a class 0 that the teacher never saw
        np.testing.assert_allclose(FromClassifier(teacher).log_prob(X).exp(), teacher.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("classes", [np.array([-1, 1]), np.array([False, True]), np.array(["no", "yes"])])
def test_a_teacher_of_two_classes_keeps_its_accuracy(classes):
    target = (TARGET == 1).long()
    teacher = LogisticRegression(max_iter=1000).fit(X, classes[target])
    best = GenLabel(FromClassifier(teacher)).fit(X, target).posterior(X).argmax(1)
    assert float((best == target).double().mean()) == pytest.approx(teacher.score(X, classes[target]))


def test_classes_that_do_not_map_are_refused_in_one_sentence():
    teacher = LogisticRegression(max_iter=1000).fit(X, np.array(["a", "b", "c"])[TARGET])
    with pytest.raises(ValueError, match=r"classes among 0\.\.3, or 4 of another kind, got .*'a'"):
        FromClassifier(teacher).fit(X, TARGET, n_classes=4)
    with pytest.raises(ValueError, match=r"classes among 0\.\.1, or 2 of another kind"):
        FromClassifier(LogisticRegression(max_iter=1000).fit(X, TARGET)).fit(X[:100], TARGET[:100])
    several = RandomForestClassifier(3).fit(X, np.stack([TARGET, TARGET], 1))
    with pytest.raises(ValueError, match="classifier must know classes"):
        FromClassifier(several).fit(X, TARGET)


class Dropping(nn.Module):
    """A torch classifier that drops out in training mode."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 3), nn.Dropout()

    def forward(self, x):
        return self.linear(self.drop(x))


def test_a_torch_teacher_stays_in_eval_mode():
    network = Dropping()
    genlabel = GenLabel(FromClassifier(network)).train()
    x = X.float()
    first = genlabel.log_prob(x)
    assert not network.training
    assert not first.requires_grad
    assert torch.equal(genlabel.log_prob(x), first)
    assert torch.allclose(first, network.linear(x).log_softmax(1))
    x += 1  # changed in place: another batch
    assert not torch.equal(genlabel.log_prob(x), first)
    with torch.inference_mode():
        genlabel.log_prob(x * 1)
    assert pickle.loads(pickle.dumps(genlabel)).log_prob(x).shape == (150, 3)
    assert copy.deepcopy(genlabel).log_prob(x).shape == (150, 3)


def test_rows_with_nan_keep_their_label_under_a_scikit_learn_teacher():
    genlabel = GenLabel(FromClassifier(LogisticRegression(max_iter=1000))).fit(X, TARGET)
    x = X[:3].clone()
    x[1] = torch.nan
    y_mix = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    assert torch.equal(genlabel.relabel(x, y_mix)[1], y_mix[1])
    assert genlabel.n_fallback_ == 1


def _distinct_iris():
    """Iris without the one row that it has twice."""
    rows = np.unique(np.unique(IRIS.data, axis=0, return_index=True)[1])
    return X[rows], TARGET[rows]


def _held_out_log_joint(x, target):
    """Slow loop over the folds with scikit-learn's mixtures of one Gaussian."""
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(0)))
    score = np.zeros((len(x), 3))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, target):
        for c in range(3):
            rows = x[train][target[train] == c]
            score[test, c] = SklearnMixture(reg_covar=0.0).fit(rows).score_samples(x[test])
    return score


def test_held_out_accuracy_equals_a_slow_loop():
    x, target = _distinct_iris()
    expected = (_held_out_log_joint(x, target).argmax(1) == target.numpy()).mean()
    density = make_backend("gm", reg_covar=0.0)
    assert classifier_accuracy(density, x, target) == pytest.approx(expected)
    assert classifier_accuracy(GenLabel(density), x, target) == pytest.approx(expected)


def test_held_out_accuracy_does_not_believe_a_density_that_remembers_its_rows():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    target = torch.arange(200) % 2  # pure chance
    density = make_backend("nn").fit(x, target)
    assert classifier_accuracy(density, x, target, n_folds=None) == 1
    assert classifier_accuracy(density, x, target) < 0.65


def test_twins_are_left_out_together():
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).repeat(5, 1)
    target = (torch.arange(60) % 2).repeat(5)  # pure noise, every row five times
    for backend in ("kde", "nn"):
        assert classifier_accuracy(make_backend(backend), x, target) < 0.7
        assert GenLabel(backend).fit(x, target).calibrate(x, target).temperature > 1
    other = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    accuracy = classifier_accuracy(make_backend("gm"), x, target)
    assert classifier_accuracy(make_backend("gm"), x[other], target[other]) == pytest.approx(accuracy)
    assert [len(labels) for _, labels in held_out(make_backend("gm"), x, target, 5, None)] == [60] * 5


def test_folds_may_lack_the_last_class_and_the_largest_class_bounds_their_number():
    x = torch.cat([X[:50], X[100:101]])
    target = torch.tensor([0] * 50 + [2])
    scored = list(held_out(make_backend("gm"), x, target, 5, None))
    assert [score.shape[1] for score, _ in scored] == [3] * 5
    assert classifier_accuracy(make_backend("gm"), x, target) == pytest.approx(50 / 51)
    assert len(list(held_out(make_backend("gm"), X[:3], TARGET[:3], 5, None))) == 3
    with pytest.raises(ValueError, match="n_folds=5 needs a class of two distinct rows, got none in 6 rows"):
        classifier_accuracy(make_backend("gm"), X[:1].expand(6, -1), TARGET[:6])

    class Ignorant(nn.Module):
        def fit(self, x, target):
            return self

        def log_prob(self, x):
            return x[:, :2]

    with pytest.raises(ValueError, match="a fold holds no row of the last of 3 classes"):
        classifier_accuracy(Ignorant(), x, target)


def test_a_row_without_a_finite_density_is_missed():
    score = torch.tensor([[-torch.inf, -torch.inf], [torch.nan, torch.nan], [0.0, torch.nan], [1.0, 2.0]])
    assert hits(score, torch.tensor([0, 0, 0, 1])).tolist() == [False, False, True, True]


def test_scoring_as_it_is_leaves_the_fit_alone_and_needs_one():
    density = make_backend("gm").fit(X[::2], TARGET[::2])
    before = density.log_prob(X)
    classifier_accuracy(density, X, TARGET)
    assert torch.equal(density.log_prob(X), before)
    expected = (before[1::2].argmax(1) == TARGET[1::2]).double().mean()
    assert classifier_accuracy(density, X[1::2], TARGET[1::2], n_folds=None) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="n_folds must be None or at least 2, got 1"):
        classifier_accuracy(density, X, TARGET, n_folds=1)


def test_temperature_minimizes_the_held_out_log_loss():
    x, target = _distinct_iris()
    genlabel = GenLabel(make_backend("gm", reg_covar=0.0)).fit(x, target).calibrate(x, target)
    score = torch.as_tensor(_held_out_log_joint(x, target))
    choices = torch.logspace(-1, 2, 2000)
    losses = torch.tensor([cross_entropy(score / t, target) for t in choices])
    assert genlabel.temperature == pytest.approx(float(choices[losses.argmin()]), rel=5e-3)


def test_calibration_softens_an_overconfident_density():
    x = X.float()[:, :2] + torch.randn(150, 2, generator=torch.Generator().manual_seed(0)) * 0.5
    genlabel = GenLabel(make_backend("kde", bandwidth=0.05)).fit(x, TARGET)
    assert genlabel.calibrate(x, TARGET).temperature > 2


def test_calibration_without_a_finite_density_is_refused():
    genlabel = GenLabel("gm").fit(X[:100], TARGET[:100], n_classes=3)
    with pytest.raises(ValueError, match="calibration needs rows whose class has a finite density"):
        genlabel.calibrate(X[100:], TARGET[100:], n_folds=None)
