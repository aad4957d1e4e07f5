"""Labels without the parents of a mixed row: against densities that are fitted without them, row by row."""

import copy
import math

import pytest
import torch
from sklearn.tree import DecisionTreeClassifier
from torch.distributions import MultivariateNormal
from torch.utils._python_dispatch import TorchDispatchMode

from genlabel_plugins import CrossFit, FromClassifier, GenLabel, Parents, load, make_backend, save
from genlabel_plugins.densities.backends.mixed_types import encode_rows
from genlabel_plugins.densities.parents import RowPlaces

KEPT = {"shrinkage": 0.0, "reg_covar": 0.0}


def mixture(n_rows=90, n_features=3, n_classes=3, n_mixed=25, seed=0):
    """Rows, targets, mixed rows and the places of their parents."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(n_rows) % n_classes
    x = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64) + 1.5 * target[:, None]
    x[target == 1] *= 2
    i, j = (torch.randperm(n_rows, generator=generator)[:n_mixed] for _ in range(2))
    lam = torch.rand(n_mixed, 1, generator=generator, dtype=torch.float64)
    return x, target, lam * x[i] + (1 - lam) * x[j], (i, j)


def parents_of(x, target, ends):
    i, j = ends
    return Parents(x[i], target[i], x[j], target[j])


def refitted(make, x, target, x_mix, ends):
    """Log-densities of each mixed row by a density that is fitted without its parents."""
    found = []
    for row, pair in zip(x_mix, torch.stack(ends, 1), strict=True):
        kept = torch.ones(len(x), dtype=torch.bool).index_fill_(0, pair, 0)
        found.append(make().fit(x[kept], target[kept]).log_prob(row[None]))
    return torch.cat(found)


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("gm", KEPT),
        ("gm", KEPT | {"covariance_type": "tied"}),
        ("nn", {}),
        ("nn", {"n_neighbors": 4}),
    ],
)
def test_parents_leave_as_if_the_density_were_fitted_without_them(backend, options):
    x, target, x_mix, ends = mixture()
    density = make_backend(backend, **options).fit(x + 100, target)
    found = density.log_prob_without(x_mix + 100, parents_of(x + 100, target, ends))
    expected = refitted(lambda: make_backend(backend, **options), x, target, x_mix, ends)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert (density.log_prob(x_mix + 100) - expected).abs().max() > 0.01


def test_kernels_of_parents_are_dropped_at_the_bandwidth_that_is():
    x, target, x_mix, ends = mixture()
    density = make_backend("kde", bandwidth=0.5, **KEPT).fit(x, target)
    found = density.log_prob_without(x_mix, parents_of(x, target, ends))
    for b, pair in enumerate(torch.stack(ends, 1).tolist()):
        for c in range(3):
            own = x[target == c]
            rows = torch.stack([row for n, row in enumerate(x) if target[n] == c and n not in pair])
            kernels = MultivariateNormal(rows, 0.25 * torch.cov(own.T)).log_prob(x_mix[b])
            assert float(found[b, c]) == pytest.approx(float(kernels.logsumexp(0)) - math.log(len(rows)), abs=1e-9)


def test_kernels_are_dropped_in_every_tile_and_chunk(monkeypatch):
    x, target, x_mix, ends = mixture(n_rows=3000, n_mixed=40)
    density = make_backend("kde", bandwidth=0.3).fit(x, target)
    whole = density.log_prob_without(x_mix, parents_of(x, target, ends))
    monkeypatch.setattr("genlabel_plugins.densities.backends._tiles.CHUNK_ELEMENTS", 4096)
    monkeypatch.setattr("genlabel_plugins.densities.backends.kernel_density.MAX_BATCH", 16)
    torch.testing.assert_close(density.log_prob_without(x_mix, parents_of(x, target, ends)), whole)


def test_a_shrunk_covariance_leaves_to_the_first_order():
    x, target, x_mix, ends = mixture(n_rows=45, n_features=4)
    density = make_backend("gm").fit(x, target)
    assert 0 < density.down_dates.weight_[0].min() < 1  # between the own covariance and the pooled one
    found = density.log_prob_without(x_mix, parents_of(x, target, ends)).softmax(1)
    expected = refitted(lambda: make_backend("gm"), x, target, x_mix, ends).softmax(1)
    error, before = ((p - expected).abs().mean() for p in (found, density.log_prob(x_mix).softmax(1)))
    assert error < 0.2 * before


@pytest.mark.parametrize("backend", ["gm", "kde", "nn"])
def test_parents_are_found_in_single_precision_and_a_lone_row_stays(backend):
    x, target, x_mix, ends = mixture()
    x = torch.cat([x, x[:1] + 9])
    target = torch.cat([target, torch.tensor([4])])  # class 3 has no row
    density = make_backend(backend, **({"regularization": None} if backend != "nn" else {})).fit(x, target)
    wide = density.log_prob_without(x_mix, parents_of(x, target, ends))
    single = make_backend(backend, **({"regularization": None} if backend != "nn" else {})).fit(x.float(), target)
    narrow = single.log_prob_without(x_mix.float(), parents_of(x.float(), target, ends))
    torch.testing.assert_close(narrow.double(), wide, atol=1e-3, rtol=1e-4)
    assert (wide[:, 3] == -torch.inf).all()
    last = torch.full((1,), len(x) - 1)
    alone = density.log_prob_without(x[-1:], parents_of(x, target, (last, last)))
    torch.testing.assert_close(alone, density.log_prob(x[-1:]))


def test_a_row_that_was_never_seen_takes_nothing_along():
    x, target, x_mix, ends = mixture()
    for backend in ("kde", "nn"):
        density = make_backend(backend).fit(x, target)
        found = density.log_prob_without(x_mix, parents_of(x + 0.05, target, ends))
        torch.testing.assert_close(found, density.log_prob(x_mix))
    places = RowPlaces()
    places.remember(x, target, torch.arange(len(x)))
    assert places.find(x * (1 + 1e-8), target).tolist() == list(range(len(x)))  # as features computed anew


SELF_KEPT = (("gm", KEPT), ("gm", KEPT | {"covariance_type": "tied"}), ("nn", {}))


@pytest.mark.parametrize(("backend", "options"), SELF_KEPT)
def test_twins_are_two_rows_and_a_row_that_is_its_own_partner_is_one(backend, options):
    x, target, _, _ = mixture(n_rows=24, n_mixed=1)
    twins, labels = torch.cat([x, x]), torch.cat([target, target])
    near, i = x[:6] + 0.1, torch.arange(6)
    make = lambda: make_backend(backend, **options)  # noqa: E731
    found = make().fit(twins, labels).log_prob_without(near, parents_of(twins, labels, (i, i + 24)))
    torch.testing.assert_close(found, refitted(make, twins, labels, near, (i, i + 24)))
    density = make_backend("mixed_types", cardinality=[2], continuous=backend, continuous_params=options)
    codes = (torch.arange(48) // 24)[:, None]
    rows = encode_rows(twins, codes, [2])  # equal numbers beside other categories
    ends, mixed = (i, i + 24), torch.cat([near, rows[:6, 3:]], 1)
    refit = refitted(lambda: copy.deepcopy(density), rows, labels, mixed, ends)
    torch.testing.assert_close(
        copy.deepcopy(density).fit(rows, labels).log_prob_without(mixed, parents_of(rows, labels, ends)), refit
    )
    for fitted, all_rows in ((make(), x), (copy.deepcopy(density), encode_rows(x, codes[::2], [2]))):
        mixed = torch.cat([near, all_rows[:6, 3:]], 1)
        found = fitted.fit(all_rows, target).log_prob_without(mixed, Parents.in_batch(all_rows[:6], target[:6], i))
        torch.testing.assert_close(found, refitted(lambda f=fitted: copy.deepcopy(f), all_rows, target, mixed, (i, i)))


def test_places_tell_rows_apart_however_far_some_are():
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(20_000, dtype=torch.long)
    for spread in (torch.ones(5), torch.tensor([1.0, 1, 1, 1e-6, 1e6])):
        x = torch.randn(20_000, 5, generator=generator) * spread
        x[:3] *= 1e5
        places = RowPlaces()
        places.remember(x, target, target.cumsum(0) + torch.arange(20_000))
        asked = torch.cat([torch.arange(3), torch.randint(20_000, (2000,), generator=generator)])
        assert torch.equal(places.find(x[asked], target[asked]), asked)
        anew = x[asked] * (1 + 1e-7 * torch.randn(len(asked), 5, generator=generator))
        assert (places.find(anew, target[asked]) == asked).double().mean() > 0.99
        moved = x[asked] + 0.01 * spread * torch.randn(len(asked), 5, generator=generator)
        assert (places.find(moved, target[asked]) >= 0).double().mean() < 0.01
    unknown = Parents(x[:2], target[:2], x[:2], torch.tensor([-1, -1]))
    place, lost = places.leave(unknown, torch.tensor([20_000, 5]))
    assert place.tolist() == [[0, -1], [1, -1]]
    assert lost.tolist() == [[1, 0], [1, 0]]


def test_kernels_of_twins_are_two():
    x, target, _, _ = mixture(n_rows=24, n_mixed=1)
    rows, near = x.repeat(3, 1), x + 0.1
    fitted = make_backend("kde", bandwidth=0.5, **KEPT).fit(rows, target.repeat(3))
    found = fitted.log_prob_without(near, Parents(x, target, x, target)).exp()
    for n, c in enumerate(target):
        own = x[target == c].repeat(3, 1)
        kernels = MultivariateNormal(own, 0.25 * torch.cov(own.T)).log_prob(near[n]).exp()
        lost = MultivariateNormal(x[n], 0.25 * torch.cov(own.T)).log_prob(near[n]).exp()
        torch.testing.assert_close(found[n, c], (kernels.sum() - 2 * lost) / 22)


def test_an_outlier_leaves_with_all_that_it_brought():
    x, target, _, _ = mixture(n_rows=30, n_features=2, n_mixed=1)
    for far in (1e3, 1e6):
        x = torch.cat([x[:1] + far, x[1:]])
        ends = torch.zeros(29, dtype=torch.long), torch.arange(1, 30)
        near = (x[ends[0]] + x[ends[1]]) / 2
        for options, worst in ((KEPT, 1e-6), ({"regularization": None}, 1.01)):
            make = lambda o=options: make_backend("gm", **o)  # noqa: E731
            density, parents = make().fit(x, target), parents_of(x, target, ends)
            found, expected = density.log_prob_without(near, parents).softmax(1), refitted(make, x, target, near, ends)
            error, before = ((p - expected.softmax(1)).abs().mean() for p in (found, density.log_prob(near).softmax(1)))
            assert error < worst * before


def test_states_of_earlier_builds_are_read():
    x, target, x_mix, ends = mixture()
    y, parents = torch.full((len(x_mix), 3), 1 / 3, dtype=torch.float64), parents_of(x, target, ends)
    for backend in ("gm", "kde", "nn"):
        saved = GenLabel(backend).fit(x, target).state_dict()
        earlier = {name: part for name, part in saved.items() if "places" not in name and "down_dates" not in name}
        for genlabel in (GenLabel(backend, leave_parents_out=True), GenLabel(backend).fit(x + 1, target)):
            genlabel.load_state_dict(earlier)
            assert torch.equal(genlabel.posterior(x_mix), GenLabel(backend).fit(x, target).posterior(x_mix))
        with pytest.raises(ValueError, match="fit it anew"):
            GenLabel(genlabel.density, leave_parents_out=True).relabel(x_mix, y, parents=parents)


def test_parents_of_other_rows_and_of_no_classes_are_refused():
    x, target, x_mix, ends = mixture()
    parents = parents_of(x, target, ends)
    for density in (make_backend("nn").fit(x, target), CrossFit("nn", n_folds=3).fit(x, target)):
        with pytest.raises(ValueError, match="for each of the 24 rows of x, got 25 in x_i"):
            density.log_prob_without(x_mix[:24], parents)
        with pytest.raises(ValueError, match="target_j must hold class indices"):
            density.log_prob_without(x_mix, parents._replace(target_j=x[ends[1]]))
    with pytest.raises(ValueError, match=r"n_folds must lie in \[3, 50\], got 1000"):
        CrossFit("gm", n_folds=1000)
    with pytest.raises(ValueError, match="must be True or False, got 'no'"):
        GenLabel("kde", leave_parents_out="no")
    with pytest.raises(ValueError, match="no CrossFit yet, got 3 folds beside one"):
        GenLabel(CrossFit("gm", n_folds=3), cross_fit=3)


@pytest.mark.parametrize("backend", ["gm", "kde"])
def test_frequencies_learnt_part_by_part_lose_the_parents(backend):
    x, target, _, ends = mixture()
    target = torch.where(target == 1, 3, target)  # two classes without a row
    rows = encode_rows(x, (x[:, :1] > 1).long(), [2])
    mixed, parents = rows[ends[0]] * 0.6 + rows[ends[1]] * 0.4, parents_of(rows, target, ends)
    whole, parts = (make_backend("mixed_types", cardinality=[2], continuous=backend) for _ in range(2))
    expected = whole.fit(rows, target, n_classes=5).log_prob_without(mixed, parents)
    parts.partial_fit(rows[:40], target[:40], n_classes=5).partial_fit(rows[40:], target[40:])
    torch.testing.assert_close(parts.log_prob_without(mixed, parents), expected)


def test_frequencies_of_categories_lose_the_parents_too():
    x, target, _, ends = mixture()
    codes = (x[:, :2] > 1).long()
    rows = encode_rows(x, codes, [2, 2])
    mixed = rows[ends[0]] * 0.6 + rows[ends[1]] * 0.4
    make = lambda: make_backend("mixed_types", cardinality=[2, 2], continuous_params=KEPT)  # noqa: E731
    found = make().fit(rows, target).log_prob_without(mixed, parents_of(rows, target, ends))
    torch.testing.assert_close(found, refitted(make, rows, target, mixed, ends))


class Waits(TorchDispatchMode):
    """Counts what would wait for a device."""

    seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += str(func) in ("aten._local_scalar_dense.default", "aten.nonzero.default")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["gm", "kde", "nn"])
def test_nothing_waits_for_the_device_and_the_state_is_saved(backend, tmp_path):
    x, target, x_mix, ends = mixture()
    genlabel = GenLabel(backend, leave_parents_out=True).fit(x, target)
    parents, y = parents_of(x, target, ends), torch.full((len(x_mix), 3), 1 / 3, dtype=torch.float64)
    with Waits() as waits:
        label = genlabel.relabel(x_mix, y, parents=parents)
    assert not waits.seen
    save(genlabel, tmp_path / "density.safetensors")
    loaded = load(tmp_path / "density.safetensors", GenLabel)
    assert loaded.leave_parents_out
    assert torch.equal(loaded.relabel(x_mix, y, parents=parents), label)
    assert not torch.equal(GenLabel(genlabel.density).relabel(x_mix, y), label)
    with pytest.raises(ValueError, match="got no parents"):
        genlabel.relabel(x_mix, y)


def test_a_density_that_cannot_leave_rows_out_says_what_does():
    for density in ("vae", make_backend("gm", n_components=2), make_backend("gm", covariance_type="diag")):
        with pytest.raises(ValueError, match="cross_fit=5 does the same"):
            GenLabel(density, leave_parents_out=True)
    x, target, x_mix, ends = mixture()
    density = make_backend("gm", n_components=2).fit(x, target)
    with pytest.raises(ValueError, match="cannot leave single rows out"):
        density.log_prob_without(x_mix, parents_of(x, target, ends))


class Remembers:
    """A backend of a user's, which knows the rows it was fitted on, and tells them from all others."""

    def fit(self, x, target):
        self.x, self.n_classes = x, int(target.max()) + 1
        return self

    def log_prob(self, x):
        known = (x[:, None] == self.x).all(2).any(1)
        return known.to(x)[:, None].expand(-1, self.n_classes)


@pytest.mark.parametrize("n_folds", [3, 5])
def test_no_copy_that_scores_a_row_saw_its_parents(n_folds):
    x, target, _, (i, j) = mixture()
    x = torch.cat([x, x])  # twins are dealt to one fold
    target = torch.cat([target, target])
    fitted = CrossFit(Remembers(), n_folds=n_folds).fit(x, target)
    assert fitted.log_prob(x).all()
    for ends in ((i, j), (j, i)):
        for rows in (x[i], x[j]):
            assert not fitted.log_prob_without(rows, parents_of(x, target, ends)).any()
    strangers = parents_of(x + 0.1, target, (i, j))
    assert fitted.log_prob_without(x[i], strangers).all()  # nobody's parents: all rows may speak
    counts = torch.tensor([len(copy.x) for copy in fitted.copies]) / len(x)
    assert counts.min() > 1 - 2 / n_folds - 0.1
    assert counts.max() < 1 - 1 / n_folds + 0.1


def test_a_teacher_is_cross_fitted_by_name_of_the_option_and_goes_through_a_state_dict():
    x, target, x_mix, ends = mixture()
    noise = torch.arange(len(x)) * 7 % 3 % 2
    y, parents = torch.full((len(x_mix), 2), 0.5, dtype=torch.float64), parents_of(x, noise, ends)
    teacher = GenLabel(FromClassifier(DecisionTreeClassifier(random_state=0)), gamma=1.0, cross_fit=4).fit(x, noise)
    at_ends = teacher.relabel(x[ends[0]], y, parents=parents).argmax(1)
    assert (teacher.posterior(x[ends[0]]).argmax(1) == noise[ends[0]]).all()  # it remembers
    assert (at_ends == noise[ends[0]]).double().mean() < 0.8
    gm = GenLabel("gm", cross_fit=3).fit(x, target)
    y = torch.full((len(x_mix), 3), 1 / 3, dtype=torch.float64)
    other = GenLabel("gm", cross_fit=3)
    other.load_state_dict(gm.state_dict())
    parents = parents_of(x, target, ends)
    assert torch.equal(other.relabel(x_mix, y, parents=parents), gm.relabel(x_mix, y, parents=parents))
    with pytest.raises(ValueError, match="pass it unfitted"):
        CrossFit(FromClassifier(DecisionTreeClassifier().fit(x, target)))
    with pytest.raises(ValueError, match="cross_fit must be at least 3"):
        GenLabel("gm", cross_fit=2)


def test_copies_know_every_class():
    x, target, x_mix, ends = mixture(n_rows=40)
    target = torch.where(torch.arange(40) < 2, 3, target)  # two rows, fewer than folds
    fitted = CrossFit("gm", n_folds=3).fit(x, target, n_classes=5)
    assert fitted.n_classes == 5
    found = fitted.log_prob_without(x_mix, parents_of(x, target, ends))
    assert found.shape == (len(x_mix), 5)
    assert found[:, :4].isfinite().all()


def test_rows_learnt_in_parts_are_found_again():
    x, target, x_mix, ends = mixture()
    parents = parents_of(x, target, ends)
    for backend, options in (("gm", {"regularization": None}), ("kde", {})):
        whole = make_backend(backend, **options).fit(x, target)
        parts = make_backend(backend, **options)
        for rows in torch.arange(len(x)).split(40):
            parts.partial_fit(x[rows], target[rows])
        parts.check_fitted()
        expected = whole.log_prob_without(x_mix, parents)
        torch.testing.assert_close(parts.log_prob_without(x_mix, parents), expected, atol=1e-6, rtol=1e-6)
