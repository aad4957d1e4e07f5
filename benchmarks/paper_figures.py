"""Draw mixed points and the class they are given, after the paper's figures 4b, 4c, 7b and 7c.

    python benchmarks/paper_figures.py

Writes docs/figures/two_circle_mixing.png and docs/figures/nine_gaussians_mixing.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_circles
from torch import Tensor

from genlabel_plugins import Density, GenerativeMixup, GenLabel, Mixup, RatioSearch, make_backend

COLORS = ListedColormap(plt.get_cmap("Set1").colors)
N_MIXED = 2500


def two_circle(n_rows: int = 1000) -> tuple[Tensor, Tensor]:
    """Two pairs of circles at -1.2 and 1.2, the inner class of one being the outer class of the other."""
    parts = []
    for center, swap in ((-1.2, False), (1.2, True)):
        x, target = make_circles(n_rows // 2, factor=0.5, noise=0.01, random_state=int(swap))
        parts.append((torch.tensor(x) + torch.tensor([center, 0.0]), torch.tensor(target) ^ swap))
    x, target = (torch.cat(part) for part in zip(*parts, strict=True))
    return x, target.long()


def nine_gaussians(n_per_class: int = 200) -> tuple[Tensor, Tensor]:
    """Nine Gaussian classes with means {-10, 0, 10}^2 and covariance 0.1 I."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.tensor([-10.0, 0.0, 10.0], dtype=torch.float64)
    mean = torch.cartesian_prod(axis, axis)
    target = torch.arange(9).repeat_interleave(n_per_class)
    noise = torch.randn(len(target), 2, generator=generator, dtype=torch.float64)
    return mean[target] + 0.1**0.5 * noise, target


def draw(x: Tensor, target: Tensor, density: Density, path: Path) -> None:
    """Three panels: mixup with its linear label, the same points with GenLabel's, and generative mixing."""
    density.fit(x, target)
    n_classes = density.n_classes
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(x), (N_MIXED,), generator=generator)
    mixed = Mixup(n_classes, per_sample=True, generator=generator)(x[rows], target[rows])
    other = mixed.target_i != mixed.target_j
    y_gen = GenLabel(density, gamma=1.0).relabel(mixed.x, mixed.y_mix)
    pairs = GenerativeMixup(RatioSearch(density), generator=torch.Generator().manual_seed(0))
    generative = pairs(x[rows], target[rows])
    other_too = generative.target_i != generative.target_j
    width, height = x.amax(0) - x.amin(0)
    size = 13, 0.8 + 4.1 * float(height / width)
    figure, axes = plt.subplots(1, 3, figsize=size, sharex=True, sharey=True, layout="constrained")
    panel(axes[0], mixed.x[other], mixed.y_mix[other], x, target, title="mixup, linear label")
    panel(axes[1], mixed.x[other], y_gen[other], x, target, title="mixup, GenLabel")
    held = other_too & pairs.attained
    panel(axes[2], generative.x[held], generative.y_mix[held], x, target, title="generative mixing")
    share = pairs.attained[other_too].double().mean()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    print(f"{path}: {share:.1%} of pairs of two classes attain their lam")


def panel(axes: Axes, x_mix: Tensor, y: Tensor, x: Tensor, target: Tensor, *, title: str) -> None:
    """Mixed points colored by their most likely class, training rows behind them."""
    scale = {"cmap": COLORS, "vmin": 0, "vmax": len(COLORS.colors) - 1, "linewidths": 0}
    axes.scatter(*x.T, c=target, s=14, alpha=0.15, **scale)
    axes.scatter(*x_mix.T, c=y.argmax(1), s=5, **scale)
    axes.set(title=title, xticks=[], yticks=[], aspect="equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    draw(*two_circle(), make_backend("kde", bandwidth=0.1), out / "two_circle_mixing.png")
    draw(*nine_gaussians(), make_backend("gm"), out / "nine_gaussians_mixing.png")


if __name__ == "__main__":
    main()
