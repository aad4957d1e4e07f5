"""The frame of densities with a network: its units, and what its author is told."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from genlabel_plugins import NetworkDensity

TARGET = torch.arange(400) % 2
X = torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X = (X @ torch.tensor([[3.0, 0.0], [1.0, 0.2]], dtype=torch.float64)) + 50 * TARGET[:, None]


class Standard(nn.Module):
    """A standard normal density, whose answer is of the shape that is asked for."""

    def __init__(self, answer):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))
        self.answer = answer

    def forward(self, z, label):
        return self.answer(Normal(self.zero, 1.0).log_prob(z))


class Frame(NetworkDensity):
    def __init__(self, answer, **options):
        super().__init__(**options)
        self.answer = answer

    def _network(self):
        return Standard(self.answer)


def test_units_are_those_of_each_class():
    log_prob = Frame(lambda each: each.sum(1), max_epochs=1).fit(X, TARGET).log_prob(X)
    for c in range(2):
        rows = X[c == TARGET]
        expected = MultivariateNormal(rows.mean(0), rows.T.cov()).log_prob(rows)
        torch.testing.assert_close(log_prob[c == TARGET, c], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda each: each, "\\(320, 2\\)"),
        (lambda each: each.sum(1, keepdim=True), "\\(320, 1\\)"),
        (lambda each: each.sum(), "\\(\\)"),
        (lambda each: (each.sum(1), each), "tuple"),
    ],
)
def test_a_network_without_one_number_a_row_is_refused(answer, got):
    with pytest.raises(ValueError, match=f"one log-density per row, \\(320,\\), got {got}"):
        Frame(answer, max_epochs=1).fit(X, TARGET)
