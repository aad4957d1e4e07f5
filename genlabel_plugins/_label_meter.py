"""What happens to labels: sums kept on the device, read out by a report, and a warning when labels degenerate."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

CHECK_EVERY = 500  # batches between two looks at the sums, each of which waits for the device
ROWS_PER_CLASS = 50  # that such a look wants to see: chance moves their class shares by a tenth
LEAST_ACCURACY = 0.7  # of the densities on clean rows, where their labels are sure


class LabelMeter(nn.Module):
    """Running sums over labeled rows, without a device sync but for `report` and one batch in `CHECK_EVERY`.

    Args:
        n_classes: Number of classes C.
        max_entropy: Entropy of `y_gen`, in nats, when it cannot tell classes apart; None to look for nothing.
    """

    # (4C + 1,): over relabeled rows, y_gen, y_lin, their distance and the entropy of y_gen, by class, and one
    sums_: Tensor
    clean_sums_: Tensor  # (2,): clean rows, those whose own class is the most likely one

    def __init__(self, n_classes: int, max_entropy: float | None = None) -> None:
        super().__init__()
        self.max_entropy = max_entropy
        self.warned = False
        self.batches = 0
        self.rows = 0.0  # mixed or not
        self.register_buffer("sums_", torch.zeros(4 * n_classes + 1), persistent=False)
        self.register_buffer("clean_sums_", torch.zeros(2), persistent=False)

    def add_clean(self, score: Tensor, target: Tensor) -> None:
        """Count clean rows by their class scores `(B, C)` and class indices `(B,)`."""
        right = (score.argmax(1) == target).to(self.clean_sums_)
        self.clean_sums_ += torch.stack([torch.ones_like(right), right]).sum(1)

    def add(self, y_gen: Tensor, y_lin: Tensor, mixed: Tensor) -> None:
        """Count a batch of labels `(B, C)` and the mask `(B,)` of its mixed rows."""
        weight = mixed.to(y_lin)  # (B,)
        measures = [y_gen, y_lin, (y_gen - y_lin).abs_(), torch.special.entr(y_gen), weight[:, None]]
        self.sums_.add_(weight @ torch.cat(measures, 1))  # one product and one sum: each call costs microseconds
        counts = self.__dict__  # not by nn.Module's __setattr__, which takes as long as a small operation
        counts["rows"] += len(y_lin)
        counts["batches"] += 1
        if self.batches % CHECK_EVERY == 0:
            self.check()
            self._scale(0.5)  # a run that never asks for a report still sees a late collapse

    def report(self) -> dict[str, Any]:
        """Means over the rows since the last report."""
        self.check()
        sums, relabeled = self._sums()
        counted = max(relabeled, 1)
        distance, entropy = sums[2:].sum(1).tolist()
        report = {
            "relabeled": relabeled / max(self.rows, 1),
            "distance": 0.5 * distance / counted,
            "entropy": entropy / counted,
            "class_share": (sums[0] / counted).tolist(),
            "clean_accuracy": self._clean_accuracy(),
        }
        self._scale(0)
        return report

    def check(self) -> None:
        """Warn once if labels degenerate, as in joint training with gamma near 1.

        `y_gen` forgets classes, or cannot tell them apart, or is sure although the densities misclassify clean rows.
        """
        if self.max_entropy is None or self.warned:
            return
        sums, relabeled = self._sums()
        if relabeled < ROWS_PER_CLASS * sums.shape[1]:
            return
        y_gen, y_lin, _, by_class = sums / relabeled
        drift = 0.5 * (y_gen - y_lin).abs().sum().item()
        entropy = by_class.sum().item()
        accuracy = self._clean_accuracy()
        wrong = self.batches >= CHECK_EVERY and accuracy < LEAST_ACCURACY and entropy <= 0.2 * self.max_entropy
        self.warned = wrong or drift > 0.3 or entropy > 0.97 * self.max_entropy > 0
        if self.warned:
            warnings.warn(
                f"GenLabel's labels degenerate (class shares off by {drift:.2f}, entropy {entropy:.2f} nats, accuracy "
                f"on clean rows {accuracy:.2f}): lower gamma, lengthen the warm-up, or set keep_clean",
                stacklevel=2,
            )

    def forget(self) -> None:
        """Start anew, and warn anew."""
        self._scale(0)
        self.batches, self.warned = 0, False

    def _sums(self) -> tuple[Tensor, float]:
        """Sums by class, `(4, C)`, and the number of relabeled rows."""
        return self.sums_[:-1].view(4, -1), self.sums_[-1].item()

    def _clean_accuracy(self) -> float:
        rows, right = self.clean_sums_.tolist()
        return right / rows if rows else math.nan

    def _scale(self, factor: float) -> None:
        self.rows *= factor
        for sums in (self.sums_, self.clean_sums_):
            sums.mul_(factor)


def largest_entropy(n_classes: int, top_k: int | None) -> float:
    """Entropy of a label that is even over the classes it keeps.

    Example:
        >>> round(largest_entropy(10, 2), 4)
        0.6931
    """
    return math.log(min(top_k or n_classes, n_classes))
