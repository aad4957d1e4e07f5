"""Robust accuracy: what is left of it under attacks, and whether the attacks work."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genlabel_plugins.paper.data import Rows
from genlabel_plugins.paper.networks import Fitted

RADIUS = 0.1  # of the range of the training inputs


class Standardized(nn.Module):
    """A network that reads rows in the units of the table."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.network = fitted.network
        self.mean, self.scale = fitted.mean.float(), fitted.scale.float()

    def forward(self, x: Tensor) -> Tensor:
        """Logits, `(B, D) -> (B, C)`."""
        output: Tensor = self.network((x - self.mean) / self.scale)
        return output


def boundary_distances(
    model: nn.Module, x: Tensor, y: Tensor, bounds: tuple[float, float], *, steps: int, seed: int
) -> Tensor:
    """Distance to the nearest adversarial row that foolbox's boundary attack finds, `(B, D), (B,) -> (B,)`.

    Zero for a row that is classified wrongly, infinity where no start of the attack was found.
    """
    from foolbox.attacks.blended_noise import LinearSearchBlendedUniformNoiseAttack  # noqa: PLC0415
    from foolbox.attacks.boundary_attack import BoundaryAttack  # noqa: PLC0415
    from foolbox.criteria import Misclassification  # noqa: PLC0415
    from foolbox.models.pytorch import PyTorchModel  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002 - foolbox draws from it
        try:
            wrapped = PyTorchModel(model.eval(), bounds=bounds, device="cpu")
            hit = model(x).argmax(1) == y
            distance = torch.zeros(len(x))
            start = LinearSearchBlendedUniformNoiseAttack(steps=100, directions=1000)
            _, starts, found = start(wrapped, x[hit], y[hit], epsilons=None)
            distance[hit] = torch.where(found, 0.0, torch.inf)
            rows = hit.nonzero()[:, 0][found]
            if len(rows):
                attack = BoundaryAttack(steps=steps)
                near = attack.run(wrapped, x[rows], Misclassification(y[rows]), starting_points=starts[found])
                near = getattr(near, "raw", near)
                distance[rows] = (near - x[rows]).norm(dim=1)
        finally:
            np.random.set_state(state)  # noqa: NPY002
    return distance


def robust_accuracy(fitted: Fitted, rows: Rows, *, steps: int, seed: int, n_rows: int | None = None) -> dict[str, Any]:
    """Accuracy under the boundary attack, radius 0.1 (max - min) of the training inputs, and the checks of the attack.

    `fewer_steps` is the robust accuracy with a tenth of the steps: more steps must never raise it, or gradients or
    decisions are masked. `worst_of_two` takes the nearer of two attacks of different seeds.
    """
    low, high = (float(np.float32(bound)) for bound in (rows.x.min(), rows.x.max()))  # as the rows are rounded
    x = torch.tensor(rows.x_test[:n_rows], dtype=torch.float32).clamp(low, high)  # the attack needs rows in its bounds
    y = torch.from_numpy(rows.y_test[:n_rows])
    model, radius = Standardized(fitted), RADIUS * (high - low)
    few, many, again = (
        boundary_distances(model, x, y, (low, high), steps=n, seed=s)
        for n, s in ((max(1, steps // 10), seed), (steps, seed), (steps, seed + 1))
    )
    return {
        "clean": float((model(x).argmax(1) == y).double().mean()),
        "fewer_steps": _robust(few, radius),
        "robust": _robust(many, radius),
        "worst_of_two": _robust(torch.minimum(many, again), radius),
    }


def _robust(distance: Tensor, radius: float) -> float:
    return float((distance > radius).double().mean())
