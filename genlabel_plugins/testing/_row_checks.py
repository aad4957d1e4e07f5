"""What a backend makes of difficult rows: far, doubled, constant, few, not finite, in any unit and any order."""

from __future__ import annotations

import torch

from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.testing._assertions import (
    LABEL_TOLERANCE,
    Make,
    assert_equivariant,
    assert_finite,
    assert_fits,
    assert_raises,
    assert_same_label,
    blobs,
    skip_unless,
)


def check_finite_far_from_the_data(make: Make) -> None:
    """A million standard deviations away, log-densities are finite: a softmax of them is a label."""
    x, target = blobs()
    for dtype in (torch.float32, torch.float64):
        density = make().fit(x.to(dtype), target)
        far = torch.cat([x[:5] * 1e6, -x[:5] * 1e6, x[:5] * 1e3]).to(dtype)
        assert_finite(density.log_prob(far), f"far from the data in {dtype}")


def check_duplicated_rows(make: Make) -> None:
    """Rows may come many times, and a class may hold one row many times."""
    x, target = blobs()
    x = x.repeat(3, 1)
    x[target.repeat(3) == 2] = x[2].clone()
    assert_fits(make, x, target.repeat(3))


def check_constant_columns(make: Make) -> None:
    """A feature may be constant, far from zero too."""
    x, target = blobs()
    for value in (0.0, 1e6 / 3):
        constant = torch.full((len(x), 1), value).to(x)
        for dtype in (torch.float32, torch.float64):
            assert_fits(make, torch.cat([x, constant], 1).to(dtype), target)


def check_fewer_rows_than_features(make: Make) -> None:
    """A class may have no more rows than there are features."""
    x, target = blobs(n_features=8)
    assert_fits(make, x[:12], target[:12])


def check_class_of_one_row(make: Make) -> None:
    """A class may have a single row."""
    x, target = blobs()
    rows = (target != 1) | (torch.arange(len(x)) == 1)
    assert_fits(make, x[rows], target[rows])


def check_empty_class(make: Make) -> None:
    """A class without a row has density zero, and the others are what they were without it."""
    x, target = blobs()
    moved = torch.tensor([0, 2, 4])[target]
    density = make().fit(x, moved, n_classes=6)
    log_prob = density.log_prob(x)
    assert bool((log_prob[:, [1, 3, 5]] == -torch.inf).all()), "a class without a row must have -inf"
    assert_equivariant(density, log_prob[:, [0, 2, 4]], make().fit(x, target).log_prob(x))


def check_fit_refuses_what_is_not_finite(make: Make) -> None:
    """NaN or infinity in a training row is a clear error, and so are classes out of range."""
    x, target = blobs()
    for value in (torch.nan, torch.inf):
        broken = x.clone()
        broken[7, 0] = value
        assert_raises(ValueError, make().fit, broken, target)
    assert_raises(ValueError, make().fit, x, target - 1)
    assert_raises(ValueError, make().fit, x, target, n_classes=2)


def check_row_without_a_density_keeps_its_label(make: Make) -> None:
    """A mixed row with NaN or infinity keeps `y_mix`; it spoils no other row and is counted."""
    x, target = blobs()
    genlabel = GenLabel(make()).fit(x, target)
    y_mix = torch.eye(3).to(x).roll(1, 0)[target]
    broken = x[:9].clone()
    broken[2, 0], broken[4, 1], broken[6, 0] = torch.nan, torch.inf, -torch.inf
    y = genlabel.relabel(broken, y_mix[:9])
    rows = [2, 4, 6]
    assert torch.equal(y[rows], y_mix[rows]), "rows with NaN or infinity must keep y_mix"
    assert int(genlabel.n_fallback_) == 3, f"n_fallback_ must be 3, got {int(genlabel.n_fallback_)}"
    others = [0, 1, 3, 5, 7, 8]
    assert torch.allclose(y[others], genlabel.relabel(x[:9], y_mix[:9])[others], atol=LABEL_TOLERANCE)
    assert torch.allclose(y.sum(1), torch.ones_like(y[:, 0])), "labels must sum to one"


def check_scales_and_offsets(make: Make) -> None:
    """Units do not matter: labels are those of the rows before they were scaled or shifted, and finite always."""
    x, target = blobs()
    expected = make().fit(x, target).log_prob(x)
    for scale, offset in ((1e-8, 0.0), (1e8, 0.0), (1.0, 1e6)):
        where = f"of rows times {scale} plus {offset}"
        density = make().fit(x * scale + offset, target)
        assert_finite(density.log_prob(x * scale + offset), where)
        if density.exact:
            assert_same_label(density.log_prob(x * scale + offset), expected, where)
        single = (x * scale + offset).float()
        assert_finite(make().fit(single, target).log_prob(single), where + " in float32")
    mixed_units = x * torch.tensor([1e-8, 1e8]).to(x)
    assert_finite(make().fit(mixed_units, target).log_prob(mixed_units), "of features in units 1e16 apart")


def check_one_two_and_a_thousand_classes(make: Make) -> None:
    """The number of classes does not matter."""
    generator = torch.Generator().manual_seed(0)
    for n_classes in (1, 2, 1000):
        target = torch.arange(n_classes).repeat(4 if n_classes < 4 else 2)
        x = torch.randn(len(target), 2, generator=generator) + target[:, None]
        log_prob = make().fit(x, target).log_prob(x[:4])
        assert log_prob.shape == (4, n_classes), f"shape must be (4, {n_classes}), got {tuple(log_prob.shape)}"
        assert_finite(log_prob, f"of {n_classes} classes")


def check_class_permutation(make: Make) -> None:
    """Renaming the classes permutes the columns."""
    x, target = blobs()
    permutation = torch.tensor([2, 0, 1])
    renamed = make().fit(x, permutation[target])
    assert_equivariant(renamed, renamed.log_prob(x)[:, permutation], make().fit(x, target).log_prob(x))


def check_row_order(make: Make) -> None:
    """The order of the training rows does not matter."""
    x, target = blobs()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    shuffled = make().fit(x[order], target[order])
    assert_equivariant(shuffled, shuffled.log_prob(x), make().fit(x, target).log_prob(x))


def check_integrates_to_one(make: Make) -> None:
    """A density that claims to be normalized integrates to one, in one and two dimensions."""
    skip_unless(make, "normalized")
    for n_features, n_points in ((1, 4001), (2, 401)):
        x, target = blobs(n_features=n_features)
        axis = torch.linspace(-20, 20, n_points).to(x)
        grid = torch.cartesian_prod(*[axis] * n_features).view(-1, n_features)
        log_volume = n_features * (axis[1] - axis[0]).log()
        mass = (make().fit(x, target).log_prob(grid).logsumexp(0) + log_volume).exp()
        assert torch.allclose(mass, torch.ones_like(mass), atol=0.02), f"mass in {n_features} dimensions: {mass}"
