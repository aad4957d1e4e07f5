"""A density of one's own, from registration to training, in plain PyTorch.

The backend is a Laplace density: robust to outliers, one class at a time. It is held to the contract of all
backends, then corrects the labels of mixup on scikit-learn's wine data.
"""

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace
from torch.nn.functional import cross_entropy

from genlabel_plugins import GenLabel, PerClass, classifier_accuracy, make_backend, register_backend
from genlabel_plugins.testing import check_relabeler

EPOCHS, SEEDS = 200, 5


@register_backend("laplace")
class LaplaceDensity(PerClass):
    """Independent Laplace features about the median of a class."""

    def __init__(self, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor  # of a feature's spread, relative to the largest: a class may be constant

    def fit_class(self, x: Tensor) -> Distribution:  # (N_c, D)
        median = x.median(0).values
        spread = (x - median).abs().mean(0)
        unit = spread.max().clamp(min=1e-12 * (1 + float(x.abs().max())))
        return Independent(Laplace(median, spread.clamp(min=float(self.floor * unit))), 1)


def train(genlabel: GenLabel | None, x: Tensor, target: Tensor, generator: torch.Generator) -> nn.Module:
    """Mixup of the whole training set each step; its labels corrected by `genlabel`, if any."""
    network = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    y = torch.eye(3)[target]
    for _ in range(EPOCHS):
        partner = torch.randperm(len(x), generator=generator)
        lam = torch.rand(len(x), 1, generator=generator)
        x_mix, y_mix = torch.lerp(x[partner], x, lam), torch.lerp(y[partner], y, lam)
        if genlabel is not None:
            y_mix = genlabel.relabel(x_mix, y_mix)
        loss = cross_entropy(network(x_mix), y_mix)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def main() -> None:
    check_relabeler("laplace")
    data = load_wine()
    scaled = (data.data - data.data.mean(0)) / data.data.std(0)
    parts = train_test_split(
        torch.as_tensor(scaled).float(), torch.as_tensor(data.target), test_size=0.5, random_state=0
    )
    x, x_test, target, target_test = parts
    held_out = classifier_accuracy(make_backend("laplace"), x, target)
    print(f"the densities alone classify {held_out:.1%} of held-out training rows")
    genlabel = GenLabel("laplace", gamma=0.5).fit(x, target)
    for name, relabeler in (("mixup", None), ("GenLabel", genlabel)):
        accuracy = torch.zeros(SEEDS)
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            network = train(relabeler, x, target, torch.Generator().manual_seed(seed))
            accuracy[seed] = (network(x_test).argmax(1) == target_test).float().mean()
        print(f"{name:>8}: test accuracy {accuracy.mean():.1%} over {SEEDS} seeds, std {accuracy.std():.1%}")


if __name__ == "__main__":
    main()
