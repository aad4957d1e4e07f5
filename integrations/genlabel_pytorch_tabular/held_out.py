"""What to log of an epoch's labels, summed on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genlabel_plugins import GenLabel
from genlabel_plugins.mixing.intrusion import TrainingSamples

MOVED = 0.01  # total variation from which a label counts as corrected
N_REFERENCE = 20_000  # rows among which a nearest one is looked for
N_SCORED = 2_000  # rows that judge the generative classifier


class Meters:
    """Sums of one epoch, and measurements that are too dear for every step.

    Args:
        device: Device of the labels.
        n_classes: Number of classes C of each target.
    """

    def __init__(self, device: torch.device, n_classes: Sequence[int]) -> None:
        self.sums = torch.zeros(3, device=device)  # labels, corrected ones, entropies
        self.drifts = [torch.zeros(n, device=device) for n in n_classes]  # (C,) each, labels less mixed labels
        self.once: dict[str, Tensor] = {}
        self.samples: TrainingSamples | None = None
        self.seen = False

    def add(self, y: Tensor, y_mix: Tensor, index: int) -> None:
        """Count corrected labels `(B, C)` of one target beside the mixed ones."""
        moved = 0.5 * (y - y_mix).abs().sum(1) > MOVED
        entropy = torch.special.entr(y).sum(1)
        self.sums += torch.stack([torch.ones_like(entropy), moved.to(entropy), entropy], 1).sum(0)
        self.drifts[index] += (y - y_mix).sum(0)
        self.seen = True

    def fitted(self, relabeler: GenLabel, rows: Tensor, target: Tensor) -> None:
        """Judge densities by rows `(N, D)` that they were fitted on, and keep some of these as a reference."""
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).to(rows.device)
        self.samples = TrainingSamples(rows[chosen[:N_REFERENCE]], target[chosen[:N_REFERENCE]])
        self.judge(relabeler, rows[chosen[:N_SCORED]], target[chosen[:N_SCORED]])

    def judge(self, relabeler: GenLabel, rows: Tensor, target: Tensor) -> None:
        """Accuracy of the generative classifier on clean rows."""
        self.once["accuracy"] = (relabeler.posterior(rows).argmax(1) == target).float().mean()

    def intrusion(self, rows: Tensor, target_i: Tensor, target_j: Tensor) -> None:
        """Share of mixed rows that intrude (Definition 1)."""
        if self.samples is not None:
            nearest = self.samples.nearest_target(rows)
            self.once["intrusion"] = ((nearest != target_i) & (nearest != target_j)).float().mean()

    def drift(self) -> float:
        """Total variation between the class shares of the labels and of the mixed ones; of the worst target."""
        rows = self.sums[0] / len(self.drifts)
        return max(float(0.5 * drift.abs().sum() / rows) for drift in self.drifts)

    def report(self) -> dict[str, Tensor]:
        """Means since the last report; empty if no label was seen."""
        if not self.seen:
            return {}
        labels, moved, entropy = self.sums
        report = {"relabelled": moved / labels, "entropy": entropy / labels, **self.once}
        for sums in (self.sums, *self.drifts):
            sums.zero_()
        self.seen = False
        return {f"genlabel_{name}": value for name, value in report.items()}
