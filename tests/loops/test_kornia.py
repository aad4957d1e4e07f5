"""kornia's own mixing under RelabelTransform: images that name their rows say how much of each is seen."""

import pytest
import torch
from torchvision.transforms import v2

from genlabel_plugins import GenLabel, RelabelTransform

K = pytest.importorskip("kornia.augmentation")

pytestmark = pytest.mark.filterwarnings("ignore:RandomCutMixV2 currently:DeprecationWarning", "ignore:.*no more rows")
N, C = 12, 3
KEYS = {"data_keys": ["input", "class"]}


@pytest.fixture
def rows():
    """Images of one value, which names their row, and their classes; densities that tell the classes apart."""
    target = torch.arange(N) % C
    return torch.arange(float(N)).view(-1, 1, 1, 1).expand(N, 1, 8, 10).contiguous(), target


def linear(x, target):
    """A relabeler that leaves the labels linear."""
    return GenLabel("gm", gamma=0.0).fit(torch.randn(len(x), 80), target)


def counted(x_mix, target):
    """Share of the pixels of each class, (N, C), in images of whole numbers."""
    seen = target[x_mix.flatten(1).long()]
    return torch.nn.functional.one_hot(seen, C).float().mean(1)


@pytest.mark.parametrize("n_cuts", [1, 3])
@pytest.mark.parametrize("correct", [True, False])
def test_the_label_of_kornias_cutmix_is_the_share_of_pixels(rows, n_cuts, correct):
    x, target = rows
    transform = RelabelTransform(
        K.RandomCutMixV2(num_mix=n_cuts, use_correct_lambda=correct, **KEYS), linear(x, target)
    )
    with torch.random.fork_rng():
        torch.manual_seed(n_cuts)
        for _ in range(5):
            x_mix, y = transform(x, target)
            assert torch.allclose(y, counted(x_mix, target), atol=1e-6)


def test_the_label_of_kornias_mixup_is_that_of_its_own_loss(rows):
    x, target = rows
    mixup = K.RandomMixUpV2(**KEYS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x_mix, y = RelabelTransform(mixup, linear(x, target))(x, target)
    lam, partner = mixup._params["mixup_lambdas"], mixup._params["mixup_pairs"]
    assert torch.allclose(x_mix[:, 0, 0, 0], (1 - lam) * torch.arange(float(N)) + lam * partner, atol=1e-5)
    one_hot = torch.eye(C)
    assert torch.allclose(y, (1 - lam)[:, None] * one_hot[target] + lam[:, None] * one_hot[target[partner]])


class Even:
    """A relabeler that knows nothing."""

    n_classes = C

    def relabel(self, x, y_mix):
        return torch.full_like(y_mix, 1 / C)


@pytest.mark.parametrize("make", [K.RandomMixUpV2, K.RandomCutMixV2])
def test_rows_that_kornia_leaves_alone_keep_their_label_and_mixtures_within_a_class_do_not(rows, make):
    x, target = rows
    assert torch.equal(RelabelTransform(make(p=0.0, **KEYS), Even())(x, target)[1], torch.eye(C)[target])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x_mix, y = RelabelTransform(make(**KEYS), Even())(x, target)
    pixels = x_mix.flatten(1)
    mixed = (pixels != pixels[:, :1]).any(1) if make is K.RandomCutMixV2 else (pixels[:, 0] != torch.arange(N))
    assert mixed.any()
    assert not mixed.all()
    assert torch.equal(y[mixed], torch.full_like(y[mixed], 1 / C))
    assert torch.equal(y[~mixed], counted(x_mix[~mixed], target))


def test_kornia_within_a_choice_is_read_by_what_ran(rows):
    x, target = rows
    choice = v2.RandomChoice([K.RandomCutMixV2(num_mix=2, **KEYS), K.RandomCutMixV2(use_correct_lambda=True, **KEYS)])
    transform = RelabelTransform(choice, linear(x, target))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(6):
            x_mix, y = transform(x, target)
            assert torch.allclose(y, counted(x_mix, target), atol=1e-6)


def test_classes_out_of_range_are_refused(rows):
    x, target = rows
    transform = RelabelTransform(K.RandomMixUpV2(**KEYS), linear(x, target))
    with pytest.raises(ValueError, match=r"target must lie in 0\.\.2, got values from 5 to 7"):
        transform(x, target + 5)
