"""Intrusion per pair of classes, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from genlabel_plugins.mixing.intrusion import IntrusionRates

RARE, COMMON = 0.01, 0.1


class Pair(NamedTuple):
    """Mixed rows of two classes.

    Attributes:
        names: The two classes.
        rate: Share that lands nearest to a row of a third class.
        n_mixed: Mixed rows that were drawn.
    """

    names: tuple[str, str]
    rate: float
    n_mixed: int


def pairs_of(intrusion: IntrusionRates, class_names: Sequence[str]) -> list[Pair]:
    """Pairs of classes that met, the most intruding first.

    Example:
        >>> import torch
        >>> from genlabel_plugins import intrusion_rates
        >>> x, target = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 2])
        >>> pairs_of(intrusion_rates(x, target, n_pairs=200), ["left", "middle", "right"])[0].names
        ('left', 'right')
    """
    rate, count = intrusion.rate.tolist(), intrusion.pair_count.tolist()
    pairs = [
        Pair((first, second), rate[i][j], int(count[i][j]))
        for i, first in enumerate(class_names)
        for j, second in enumerate(class_names[i:], start=i)
        if count[i][j]
    ]
    return sorted(pairs, key=lambda pair: -pair.rate)


def intrusion_sentence(intrusion: IntrusionRates) -> str:
    """What the overall rate means."""
    overall = float(intrusion.overall)
    share = f"{100 * overall:.1f} % of mixup's rows land nearest to a row of a class that was not mixed"
    if len(intrusion.rate) == 2:
        return (
            f"{share}. With two classes these are mixed within one class, and their label is right; a row mixed from "
            "both has no third class to land on. So intrusion says little here."
        )
    if overall < RARE:
        return f"{share}: rare. Linear labels may still be wrong between two classes."
    if overall < COMMON:
        return f"{share}: some labels of mixup name classes that the row does not look like."
    return f"{share}: common. Many labels of mixup name classes that the row does not look like."
