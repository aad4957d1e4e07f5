"""Artificial sets of the paper, drawn as its scripts say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_circles, make_moons

Drawn = tuple[NDArray[np.float64], NDArray[np.int64]]


def moon(seed: int, n_rows: int = 1000) -> Drawn:
    """Two half circles with Laplace noise of scale 0.1."""
    x, y = make_moons(n_rows, random_state=seed)
    return x + np.random.default_rng(seed).laplace(0.0, 0.1, x.shape), y.astype(np.int64)


def circle(seed: int, n_rows: int = 1000) -> Drawn:
    """One circle in another, noise 0.02."""
    x, y = make_circles(n_rows, factor=0.5, noise=0.02, random_state=seed)
    return x, y.astype(np.int64)


def two_circle(seed: int, n_rows: int = 1000) -> Drawn:
    """Two pairs of circles at -1.2 and 1.2, the inner class of one being the outer class of the other; noise 0.01."""
    parts = []
    for center, swap in ((-1.2, 0), (1.2, 1)):
        x, y = make_circles(n_rows // 2, factor=0.5, noise=0.01, random_state=2 * seed + swap)
        parts.append((x + np.array([center, 0.0]), y ^ swap))
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    return x, y.astype(np.int64)


CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))


def cube(seed: int, n_per_class: int = 20) -> Drawn:
    """Eight classes, uniform in the unit cubes about the corners of a cube: they touch, but do not overlap."""
    y = np.repeat(np.arange(8), n_per_class)
    return CORNERS[y] + np.random.default_rng(seed).uniform(-1, 1, (len(y), 3)), y


def nine_gaussians(seed: int, n_per_class: int = 5000) -> Drawn:
    """Nine Gaussian classes with means {-10, 0, 10}^2 and covariance 0.1 I."""
    means = np.array(list(product((-10.0, 0.0, 10.0), repeat=2)))
    y = np.repeat(np.arange(9), n_per_class)
    return means[y] + 0.1**0.5 * np.random.default_rng(seed).standard_normal((len(y), 2)), y


SYNTHETIC: dict[str, Callable[[int], Drawn]] = {
    "Moon": moon,
    "Four-circle": two_circle,
    "3D cube": cube,
    "9-class Gaussian": nine_gaussians,
}
