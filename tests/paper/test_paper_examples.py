"""Examples 1 to 3 and the theorem against closed forms; tests/test_theory.py derives them."""

import math

import pytest
import torch
from torch.nn import functional as F

from genlabel_plugins import LogisticLabel
from genlabel_plugins.paper.examples import CORNERS, example_1, example_2, example_3, margin, theorem, vanilla_2


@pytest.mark.parametrize(("outer", "expected"), [(2.0, 3 / 8), (1.0, 7 / 16), (0.0, 1 / 2)])
def test_example_1(outer, expected):
    assert example_1(outer=outer) == pytest.approx(expected, abs=2e-4)


def test_example_2():
    assert margin(torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]).double()) == pytest.approx(5.0)  # largest
    assert margin(example_2()) == pytest.approx(4.70, abs=0.005)
    assert margin(example_2(LogisticLabel(1 / 40))) == pytest.approx(5.0, abs=0.005)
    weight = vanilla_2(8.0)
    assert float(weight.norm()) == pytest.approx(8.0)
    assert F.cross_entropy(CORNERS @ weight.T, torch.arange(3)) == pytest.approx(1e-15, rel=0.9)
    v = float((weight[1, 1] - weight[1, 0]) * 5)  # far out the margin is 5 (1 - log(3) / (2 v))
    assert margin(weight) == pytest.approx(5 * (1 - math.log(3) / (2 * v)), abs=0.005)


@pytest.mark.parametrize("norm", [30.0, 300.0])
def test_example_3_vanilla_meets_its_closed_form(norm):
    phi = math.pi * example_3(norm, "vanilla")  # the minimum of 6 e^(-R cos) + e^(-R sin)
    assert norm * (math.cos(phi) - math.sin(phi)) == pytest.approx(math.log(6 * math.tan(phi)), abs=1e-3)


def test_example_3_mixup_and_genlabel():
    assert example_3(30.0, "mixup") == pytest.approx(0.321, abs=0.001)
    assert example_3(300.0, "mixup") == pytest.approx(0.3249, abs=5e-4)  # its limit
    assert example_3(30.0, "GenLabel") == pytest.approx(0.247, abs=0.001)
    assert abs(example_3(300.0, "GenLabel", bandwidth=0.03) - 1 / 4) < 0.001


def test_the_theorem_where_it_holds_and_where_it_does_not():
    mixup, genlabel, adversarial = theorem((1.0, 0.0), 0.3, 0.24, n_rows=20_000)
    assert mixup > genlabel > adversarial
    _, genlabel, standard = theorem((10.0, 0.0), 1.0, 0.0, n_rows=20_000)
    assert genlabel < standard
