"""GenLabelLoss in a plain loop, against Algorithm 3 written out."""

import copy
import gc
import warnings

import pytest
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn import functional as F

from genlabel_plugins import (
    ExcludeIntrusion,
    GenLabel,
    GenLabelLoss,
    GenLabelMix,
    HeadFeatures,
    LabeledMix,
    Mixup,
    Relabeling,
    RunningGaussian,
    make_backend,
)

X, TARGET = (torch.as_tensor(values) for values in load_wine(return_X_y=True))
X = ((X - X.mean(0)) / X.std(0)).float()


class Recorder(nn.Module):
    def forward(self, output, y):
        self.y = y
        return F.cross_entropy(output, y)


def network(norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        middle = nn.BatchNorm1d(16) if norm else nn.Identity()
        return nn.Sequential(nn.Linear(13, 16), middle, nn.Tanh(), nn.Linear(16, 3))


def mixing(keep_clean=False, seed=1):
    mixer = Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(seed))
    return LabeledMix(mixer, keep_clean=keep_clean)


def loss_of(model, mix, gamma=0.7, base=None, **options):
    return GenLabelLoss(base or Recorder(), mix, HeadFeatures(model, "3"), Relabeling(3, gamma=gamma, **options))


def by_hand(model, gamma=0.7, seed=1):
    """Mixed inputs, linear labels and labels of Algorithm 3 after one batch."""
    mixed = Mixup(3, per_sample=True, generator=torch.Generator().manual_seed(seed))(X, TARGET)
    running = RunningGaussian(3)
    with torch.no_grad():
        running.update(model[:3](X), TARGET)
        y_gen = GenLabel(running, top_k=2).posterior(model[:3](mixed.x))
    y = gamma * y_gen + (1 - gamma) * mixed.y_mix
    return mixed, torch.where(mixed.is_mixed[:, None], y, mixed.y_mix)


@pytest.mark.parametrize("keep_clean", [False, True])
def test_labels_are_those_of_algorithm_3(keep_clean):
    model = network()
    mix = mixing(keep_clean)
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    loss = criterion(model(x_mix), y_lin)
    mixed, y = by_hand(model)
    hard = F.one_hot(TARGET, 3).float()
    expected = torch.cat([hard, y]) if keep_clean else y
    torch.testing.assert_close(criterion.base.y, expected)
    torch.testing.assert_close(loss, F.cross_entropy(model(x_mix), expected))
    assert torch.equal(criterion.base.y[len(expected) - len(y) :][~mixed.is_mixed], mixed.y_mix[~mixed.is_mixed])
    share = float(mixed.is_mixed.float().mean()) / (2 if keep_clean else 1)
    assert criterion.report()["relabeled"] == pytest.approx(share)


def test_gamma_zero_leaves_labels_as_they_are():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix, gamma=0.0)
    x_mix, y = mix(X, TARGET)
    criterion(model(x_mix), y)
    assert criterion.base.y is y
    assert not criterion.relabeling.ready


@pytest.mark.parametrize("keep_clean", [False, True])
def test_a_batch_may_be_cut_into_micro_batches(keep_clean):
    model, mix = network(), mixing(keep_clean)
    criterion = loss_of(model, mix, stats_every=100)
    x_mix, y_lin = mix(X, TARGET)
    if keep_clean:
        criterion.observe(X, TARGET)
        criterion.relabeling.step = 1  # the statistics of the first part would be of its rows only
    labels = []
    for x_part, y_part in zip(x_mix.split(50), y_lin.split(50), strict=True):
        criterion(model(x_part), y_part)
        labels.append(criterion.base.y)
    torch.testing.assert_close(torch.cat(labels)[-len(X) :], by_hand(model)[1])


def test_labels_may_be_cast_on_their_way():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    criterion(model(x_mix), y_lin.double())
    torch.testing.assert_close(criterion.base.y.float(), by_hand(model)[1])
    x_mix, y_lin = mix(X, TARGET)
    criterion(model(x_mix), y_lin.to(torch.bfloat16))  # what the mixer knows is not lost by rounding
    last = criterion.base.y
    assert last.dtype == torch.float32
    torch.testing.assert_close(last.sum(1), torch.ones(len(X)))


def test_a_batch_mixed_ahead_is_labeled_by_its_own_labels():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    mix(X.flip(0), TARGET.flip(0))
    criterion(model(x_mix), y_lin)
    mixed, y = by_hand(model)
    seen = mixed.is_mixed & (mixed.target_i != mixed.target_j)  # a mixture within a class shows one class
    torch.testing.assert_close(criterion.base.y, torch.where(seen[:, None], y, mixed.y_mix))


def test_somebody_else_may_mix():
    model = network()
    criterion = loss_of(model, None)
    x_mix, y_lin = mixing()(X, TARGET)
    with pytest.raises(ValueError, match=r"call observe\(x, target\)"):
        criterion(model(x_mix), y_lin)
    criterion.observe(X, TARGET)
    criterion(model(x_mix), y_lin)
    mixed, y = by_hand(model)
    seen = mixed.target_i != mixed.target_j
    torch.testing.assert_close(criterion.base.y[seen], y[seen])


def test_algorithm_2_takes_a_relabeler_of_features():
    model, mix = network(), mixing()
    features = HeadFeatures(model, "3")
    relabeler = GenLabel(make_backend("gm", covariance_type="tied"), gamma=0.6).fit(features(X), TARGET)
    criterion = GenLabelLoss(Recorder(), mix, features, Relabeling(3, relabeler=relabeler))
    x_mix, y_lin = mix(X, TARGET)
    criterion(model(x_mix), y_lin)
    mixed, _ = by_hand(model)
    expected = 0.6 * relabeler.posterior(features(mixed.x)) + 0.4 * mixed.y_mix
    torch.testing.assert_close(criterion.base.y[mixed.is_mixed], expected[mixed.is_mixed], atol=1e-6, rtol=0)


def test_the_clean_pass_leaves_no_trace_in_the_model():
    model = network(norm=True)
    mix = mixing()
    criterion = loss_of(model, mix)
    before = copy.deepcopy(model.state_dict())
    criterion.observe(X, TARGET)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_class_indices_and_evaluation_pass_through():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    criterion(model(X), TARGET)
    assert criterion.base.y is TARGET
    criterion.eval()
    criterion(model(x_mix), y_lin)
    assert criterion.base.y is y_lin
    assert criterion.report()["relabeled"] == 0


def test_two_forwards_before_a_loss_warn_and_none_is_an_error():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    output = model(x_mix)
    model(X)
    with pytest.warns(UserWarning, match="several training forwards"):
        criterion(output, y_lin)
    with pytest.raises(ValueError, match="178 rows from the attached model in training mode, got none"):
        criterion(output, y_lin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(model(x_mix), y_lin)


def test_the_state_is_that_of_the_statistics_alone():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix, warmup_steps=3)
    x_mix, y_lin = mix(X, TARGET)
    criterion(model(x_mix), y_lin)
    assert not list(criterion.parameters())
    resumed = loss_of(model, mixing(), warmup_steps=3)
    resumed.load_state_dict(criterion.state_dict())
    assert resumed.relabeling.step == 1
    assert torch.equal(resumed.relabeling.relabeler.density.mean_, criterion.relabeling.relabeler.density.mean_)


@pytest.mark.slow
def test_hooks_go_with_the_features():
    model = network()
    for _ in range(20):
        criterion = loss_of(model, mixing())
    assert len(model[3]._forward_pre_hooks) == 1
    del criterion
    gc.collect()
    assert not model[3]._forward_pre_hooks


@pytest.mark.slow
def test_a_compiled_model_trains():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix, base=nn.CrossEntropyLoss())
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        x_mix, y_lin = mix(X, TARGET)
        loss = criterion(compiled(x_mix), y_lin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch._dynamo.reset()
    assert (model(X).argmax(1) == TARGET).float().mean() > 0.95
    assert criterion.report()["clean_accuracy"] > 0.9


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_a_model_with_hooks_is_exported_or_says_how_to_be_rid_of_them():
    model = network()
    features = HeadFeatures(model, "3")
    expected = model.eval()(X[:4])
    assert torch.equal(torch.export.export(model, (X[:4],)).module()(X[:4]), expected)
    with pytest.raises(AttributeError, match=r"take the hooks off first, by detach\(\).*remove\(\)"):
        torch.jit.script(model)
    features.remove()
    assert torch.equal(torch.jit.script(model)(X[:4]), expected)


def test_errors_name_the_remedy():
    model = network()
    with pytest.raises(ValueError, match="must name a module of the model, got '9'"):
        HeadFeatures(model, "9")
    with pytest.raises(ValueError, match=r"loss of soft labels.*got NLLLoss"):
        loss_of(model, mixing(), base=nn.NLLLoss())
    with pytest.raises(ValueError, match=r"base must be a module, such as .*, got <function cross_entropy"):
        loss_of(model, mixing(), base=F.cross_entropy)
    mix = GenLabelMix(GenLabel("gm").fit(X, TARGET))
    with pytest.raises(ValueError, match="with linear labels, got GenLabelMix"):
        loss_of(model, mix)


def test_a_step_of_its_own_size_does_not_end_the_updates():
    model, mix = network(), mixing(keep_clean=True)
    criterion = loss_of(model, mix, stats_every=2)
    seen = []
    for size in (2 * len(X), len(X), len(X), len(X)):  # one micro-batch, then two a batch: clean rows, mixed ones
        x_mix, y_lin = mix(X, TARGET)
        for x_part, y_part in zip(x_mix.split(size), y_lin.split(size), strict=True):
            criterion(model(x_part), y_part)
        seen.append(int(criterion.relabeling.relabeler.density.class_count_.sum()) // len(X))
    assert seen == [1, 1, 2, 3]


def test_the_loss_of_a_batch_may_be_evaluated_several_times():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    labels = []
    for _ in range(3):  # as LBFGS and sharpness-aware minimization do
        criterion(model(x_mix), y_lin)
        labels.append(criterion.base.y)
    torch.testing.assert_close(labels[0], by_hand(model)[1])
    assert torch.equal(labels[1], labels[0])
    assert torch.equal(labels[2], labels[0])


def test_clean_rows_may_be_observed_between_forward_and_loss():
    model, mix = network(), mixing()
    criterion = loss_of(model, mix, stats_every=100)
    criterion.observe(X, TARGET)
    x_mix, y_lin = mix(X, TARGET)
    output = model(x_mix)
    criterion.features(X)
    criterion(output, y_lin)
    torch.testing.assert_close(criterion.base.y, by_hand(model)[1])


@pytest.mark.parametrize("keep_clean", [False, True])
def test_a_mixer_may_drop_rows(keep_clean):
    model = network()
    mixer = ExcludeIntrusion(mixing().mix, X, TARGET, how="drop")
    mix = LabeledMix(mixer, keep_clean=keep_clean)
    criterion = loss_of(model, mix)
    x_mix, y_lin = mix(X, TARGET)
    n_kept = len(x_mix) - keep_clean * len(X)
    assert 0 < n_kept < len(X)
    criterion(model(x_mix), y_lin)
    mixed, y = by_hand(model)
    kept = mixer.samples.intrusion(mixed.x, mixed.target_i, mixed.target_j) < 1
    torch.testing.assert_close(criterion.base.y[-n_kept:], y[kept])


def test_clean_rows_follow_the_model_to_its_device(monkeypatch):
    model, mix = network(), mixing()
    criterion = loss_of(model, mix)
    mix(X, TARGET)  # on the CPU, as a collate function of the training process does
    monkeypatch.setattr(criterion, "observe", lambda x, target: seen.extend([x.device.type, target.device.type]))
    seen = []
    criterion._observe(mix.batch, None, torch.zeros(len(X), 16, device="meta"), mix.batch.y)
    assert seen == ["meta", "meta"]


def test_a_head_called_by_name_is_refused():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(13, 3)

        def forward(self, x):
            return self.head(input=x)

    with pytest.raises(ValueError, match="Linear must get its input in first place, not by name"):
        HeadFeatures(Named(), "head")(X)
