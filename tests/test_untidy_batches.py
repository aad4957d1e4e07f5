"""What a batch may hold that is no tidy table of numbers: at every door one sentence, or the right result."""

import math

import pytest
import torch

from genlabel_plugins import (
    ColumnCutMix,
    GenerativeMix,
    GenLabel,
    GenLabelMix,
    Mixup,
    Parents,
    RatioSearch,
    Relabeling,
    RelabelTransform,
    RunningGaussian,
    classifier_accuracy,
    intrusion_rates,
    make_backend,
)

TARGET = torch.arange(40) % 2
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + 2 * TARGET[:, None]
Y = torch.full((40, 2), 0.5)
FITTED = GenLabel("gm").fit(X, TARGET)


def _joint(x, target):
    relabeling = Relabeling(2)
    relabeling.observe(x, target)
    return relabeling.label(x, Y[: len(x)], mixed=True)


def _fitted(x, target):
    relabeling = Relabeling(2, relabeler=FITTED)
    relabeling.observe(x, target)
    return relabeling.label(x, Y[: len(x)], mixed=True)


ROW_DOORS = {
    "gm": lambda x, target: make_backend("gm").fit(x, target, n_classes=2).log_prob(x),
    "kde": lambda x, target: make_backend("kde").fit(x, target, n_classes=2).log_prob(x),
    "nn": lambda x, target: make_backend("nn").fit(x, target, n_classes=2).log_prob(x),
    "running": lambda x, target: RunningGaussian(2).fit(x, target).log_prob(x),
    "joint": _joint,
    "mixup": lambda x, target: Mixup(2)(x, target).y_mix,
    "nearest_other": lambda x, target: Mixup(2, pairing="nearest_other")(x, target).y_mix,
    "column_cutmix": lambda x, target: ColumnCutMix(2)(x, target).y_mix,
    "genlabel_mix": lambda x, target: GenLabelMix(FITTED)(x, target)[1],
    "generative_mix": lambda x, target: GenerativeMix(FITTED)(x, target)[1],
}
SCORING_DOORS = {"log_prob": lambda x, _: FITTED.log_prob(x), "relabel": lambda x, _: FITTED.relabel(x, Y)}
SCORING_DOORS |= {"ratio": lambda x, target: RatioSearch(FITTED)(x, x.flip(0), target, target, 0.5).y}
SCORING_DOORS |= {"accuracy": lambda x, target: torch.tensor(classifier_accuracy(make_backend("gm"), x, target))}
SCORING_DOORS |= {"calibrate": lambda x, target: GenLabel("gm").calibrate(x, target, n_folds=3)}
SCORING_DOORS |= {"intrusion": lambda x, target: intrusion_rates(x, target, n_pairs=9).overall, "fitted": _fitted}
LEARNING = ("gm", "kde", "nn", "running", "joint", "log_prob", "relabel", "intrusion", "column_cutmix")


NO_TARGETS = [
    (TARGET.float(), "target must hold .*class indices.*, got torch.float32"),
    (TARGET > 0, "target must hold .*class indices.*, got torch.bool"),
    (TARGET[:, None], r"target must .*\(40, 1\)"),
    (TARGET[:-1], r"must have shape .*39"),
    (TARGET.to_sparse(), "target must be dense"),
    (TARGET.to("meta"), "target must hold numbers, got a meta tensor"),
    (TARGET.tolist(), "target must be a tensor, got a list"),
]


@pytest.mark.parametrize("door", sorted({*ROW_DOORS, *SCORING_DOORS} - {"ratio"}))
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, :0], r"must have at least one feature, got shape \(40, 0\)"),
        (X[:, 0], r"must have shape \(.*, \*\).*, got \(40,\)"),
        (X.to_sparse(), r"must be dense, got torch.sparse_coo: call to_dense\(\) first"),
        (X.to("meta"), r"must hold numbers, got a meta tensor of shape \(40, 3\)"),
        (X + 0j, "must be real, got torch.complex64"),
        (X.to(torch.float8_e4m3fn), "must have 16 bits or more for a floating-point number, got torch.float8_e4m3fn"),
        (X.tolist(), "must be a tensor, got a list: torch.as_tensor makes one"),
        (X.numpy(), "must be a tensor, got a ndarray"),
    ],
)
def test_rows_that_no_door_takes_cost_one_sentence(door, x, message):
    with pytest.raises(ValueError, match=rf"^(x|features) {message}"):
        (ROW_DOORS | SCORING_DOORS)[door](x, TARGET)


@pytest.mark.parametrize("door", LEARNING)
def test_truth_values_are_the_numbers_zero_and_one(door):
    x = X > 1
    call = (ROW_DOORS | SCORING_DOORS)[door]
    torch.manual_seed(0)
    seen = call(x, TARGET)
    torch.manual_seed(0)
    torch.testing.assert_close(seen, call(x.float(), TARGET))


@pytest.mark.parametrize("mix", ["mixup", "nearest_other", "genlabel_mix", "generative_mix"])
def test_truth_values_are_not_interpolated(mix):
    with pytest.raises(ValueError, match=r"x must be floating point .*got torch.bool"):
        ROW_DOORS[mix](X > 1, TARGET)


@pytest.mark.parametrize("door", [*ROW_DOORS, "fitted", "ratio"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (TARGET + 5, "target must lie in 0..1, got values from 5 to 6"),
        (TARGET - 1, "target must lie in 0..1, got values from -1 to 0"),
        *NO_TARGETS,
    ],
)
def test_targets_that_no_door_takes_cost_one_sentence(door, target, message):
    with pytest.raises(ValueError, match=message):
        (ROW_DOORS | SCORING_DOORS)[door](X, target)


@pytest.mark.parametrize("door", ["accuracy", "calibrate", "intrusion"])
@pytest.mark.parametrize(
    ("target", "message"), [(TARGET - 1, r"target must lie in 0..\d, got values from -1"), *NO_TARGETS]
)
def test_targets_that_no_score_takes_cost_one_sentence(door, target, message):
    with pytest.raises(ValueError, match=message):
        SCORING_DOORS[door](X, target)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"target_i": TARGET.tolist()}, "target_i must be a tensor, got a list"),
        ({"target_j": TARGET.to("meta")}, "target_j must hold numbers, got a meta tensor"),
        ({"x_j": X.to_sparse()}, "x must be dense"),
        ({"target_i": TARGET[:-1]}, "parents must be given for each of the 40 rows of x, got 39 in target_i"),
    ],
)
def test_parents_are_as_many_tensors_as_rows(part, message):
    parents = Parents(X, TARGET, X, TARGET)._replace(**part)
    with pytest.raises(ValueError, match=message):
        make_backend("kde").fit(X, TARGET).log_prob_without(X, parents)


@pytest.mark.parametrize("door", [*ROW_DOORS, "fitted", "intrusion", "accuracy", "ratio"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_class_indices_of_any_width_are_taken(door, dtype):
    call = (ROW_DOORS | SCORING_DOORS)[door]
    torch.manual_seed(0)
    seen = call(X, TARGET.to(dtype))
    torch.manual_seed(0)
    torch.testing.assert_close(seen, call(X, TARGET))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("joint", [False, True])
def test_rows_that_are_not_finite_keep_their_label_and_spoil_no_other(joint, dtype, value):
    relabeling = Relabeling(2, relabeler=None if joint else GenLabel("gm").fit(X, TARGET))
    spoilt = X.clone().to(dtype)
    spoilt[3, 1] = torch.tensor(value).to(dtype)  # 1e5 overflows in half precision
    relabeling.observe(X.to(dtype), TARGET)
    clean = relabeling.label(X.to(dtype), Y, mixed=True)
    relabeling.observe(spoilt, TARGET)
    again = relabeling.label(X.to(dtype), Y, mixed=True)
    label = relabeling.label(spoilt, Y, mixed=True)
    others = torch.arange(40) != 3
    torch.testing.assert_close(label[others], again[others])
    torch.testing.assert_close(again, clean, atol=0.02, rtol=0)  # the statistics moved by one row
    torch.testing.assert_close(label.sum(1), torch.ones(40))
    if not torch.isfinite(spoilt[3]).all():
        assert torch.equal(label[3], Y[3])
        assert relabeling.report()["fallback_rows"] == 1


def test_pairs_of_rows_are_tensors():
    with pytest.raises(ValueError, match="x_i must be a tensor, got a list"):
        RatioSearch(FITTED)(X.tolist(), X, TARGET, TARGET, 0.5)


def test_a_batch_without_rows_gives_no_label():
    for relabeling in (Relabeling(2), Relabeling(2, relabeler=FITTED)):
        relabeling.observe(X, TARGET)
        relabeling.observe(X[:0], TARGET[:0])
        assert relabeling.label(X[:0], Y[:0]).shape == (0, 2)
        assert torch.isfinite(relabeling.label(X, Y)).all()
    with pytest.raises(ValueError, match="x must hold at least one row, got none"):
        Mixup(2)(X[:0], TARGET[:0])


def test_a_backend_that_raises_in_the_middle_leaves_all_as_it_was():
    class Brittle:
        broken = False

        def fit(self, x, target):
            return self

        def log_prob(self, x):
            if self.broken:
                raise OSError("the server is away")
            return FITTED.log_prob(x)

    backend = Brittle()
    relabeling = Relabeling(2, relabeler=GenLabel(backend), warmup_steps=4)
    relabeling.label(X, Y)
    step, sums = relabeling.step, relabeling.meter.sums_.clone()
    backend.broken = True
    for _ in range(3):
        with pytest.raises(OSError, match="the server is away"):
            relabeling.label(X, Y)
        with pytest.raises(OSError, match="the server is away"):
            relabeling.observe(X, TARGET)
    backend.broken = False
    assert relabeling.step == step
    assert torch.equal(relabeling.meter.sums_, sums)
    expected = Relabeling(2, relabeler=FITTED, warmup_steps=4)
    expected.label(X, Y)
    assert torch.equal(relabeling.label(X, Y), expected.label(X, Y))
    assert relabeling.report()["relabeled"] == expected.report()["relabeled"]


def _unmixed(x, target):
    return RelabelTransform(lambda x, target: (x, target), FITTED)(x, target)


@pytest.mark.parametrize(
    ("target", "message"), [(TARGET + 5, "target must lie in 0..1"), *NO_TARGETS[1:2], *NO_TARGETS[5:6]]
)
def test_class_indices_that_a_transform_hands_on_are_checked(target, message):
    with pytest.raises(ValueError, match=message):
        _unmixed(X, target)


def test_whole_numbers_that_are_labels_are_taken():
    hard = torch.nn.functional.one_hot(TARGET, 2)
    torch.testing.assert_close(_unmixed(X, hard)[1], hard.float())


def test_inputs_that_a_label_policy_does_not_take_cost_one_sentence():
    for x in (X.tolist(), X.numpy(), None):
        with pytest.raises(ValueError, match="x must be a tensor, got a"):
            _unmixed(x, Y)
