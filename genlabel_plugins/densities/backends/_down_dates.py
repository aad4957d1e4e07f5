"""Down-dates: Gaussians without two of the rows that they were estimated from, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from genlabel_plugins._state import LearntState
from genlabel_plugins.densities.backends._class_estimates import ClassEstimates, Shrinkage
from genlabel_plugins.densities.backends._whitening import whitened, with_ones
from genlabel_plugins.densities.parents import Parents, check_remembered

LEAST_ROOM = 1e-6  # of a direction that only the parents have


class DownDates(LearntState):
    r"""What rows take with them when they leave the means and covariances of Gaussian classes.

    With :math:`d_i = x_i - \mu_{c_i}` and n rows of the class, of which r leave, a mean moves by
    :math:`-\sum_i d_i / (n - r)`, and a covariance becomes

    .. math:: \frac{n}{n - r} \Big(\Sigma - \frac1n \sum_i d_i d_i^T
              - \frac{1}{n (n - r)} \big(\textstyle\sum_i d_i\big) \big(\sum_i d_i\big)^T\Big)

    The pooled covariance loses the same of all rows. What lies between the two, at weights that stay, is scaled by
    both: exact for a class's own covariance and for the pooled one, and in between to the first order in 1/n. The
    inverse follows from the formula of Woodbury, in two dimensions.

    Attributes:
        mean_: Class means, shape `(K, D)`, about the offset of the density.
        weight_: Weights of the own and of the pooled covariance, shape `(2, K)`.
        drawn_: Share by which means are drawn to their center, a scalar.
    """

    mean_: Tensor
    weight_: Tensor
    drawn_: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._declare("mean_", "weight_", "drawn_")

    def remember(
        self, mean: Tensor, weights: tuple[Tensor, Tensor], noise: tuple[float | Tensor, float | Tensor]
    ) -> None:
        """Note means `(K, D)`, the weights of both covariances, `(K,)` each, and the `noise` of `ClassEstimates`."""
        self.mean_ = mean
        self.weight_ = torch.stack([weights[0], weights[1] * (1 - noise[0])])
        self.drawn_ = mean.new_ones(()) * noise[1]

    def full(self, x: Tensor, parents: Parents, whiten: Tensor, log_norm: Tensor, count: Tensor) -> Tensor:
        """Log-densities of rows `(B, D)` without their parents, `(B, K)`, by packed whitenings."""
        d_i, d_j = self._differences(parents)
        rows = torch.cat([with_ones(x), *(torch.nn.functional.pad(d, (1, 0)) for d in (d_i, d_j))])
        z, u_i, u_j = whitened(rows, whiten, len(log_norm)).chunk(3, dim=2)  # (K, D, B)
        return self._log_prob((z, u_i, u_j), log_norm, parents, count)

    def tied(
        self, x: Tensor, parents: Parents, whiten: tuple[Tensor, Tensor], log_norm: Tensor, count: Tensor
    ) -> Tensor:
        """The same by one whitening `(D, D)` for all classes, and their centers in its units, `(D, K)`."""
        transform, center = whiten
        d_i, d_j = self._differences(parents)
        z, u_i, u_j = ((part @ transform).T[None] for part in (x, d_i, d_j))  # (1, D, B)
        log_norm = log_norm + 0.5 * center.square().sum(0)
        return self._log_prob((z - center.T[:, :, None], u_i, u_j), log_norm, parents, count)

    def _differences(self, parents: Parents) -> tuple[Tensor, Tensor]:
        check_remembered(self.mean_)
        x_i, target_i, x_j, target_j = parents
        return x_i - self.mean_[target_i], x_j - self.mean_[target_j]

    def _log_prob(
        self, units: tuple[Tensor, Tensor, Tensor], log_norm: Tensor, parents: Parents, count: Tensor
    ) -> Tensor:
        """Log-densities `(B, K)` of rows and parents in units of the classes, `(K, D, B)` or `(1, D, B)` each."""
        z, u_i, u_j = units
        count, n_features = count.to(z), z.shape[1]
        classes = torch.arange(len(count), device=z.device)[:, None]
        hit_i, hit_j = ((classes == c).to(z) for c in (parents.target_i, parents.target_j))  # (K, B)
        lost = hit_i + hit_j
        lost = lost.where(lost < count[:, None], 0.0)  # a class keeps its rows if it would lose all of them
        hit_i, hit_j = hit_i * (lost > 0), hit_j * (lost > 0)
        left, n_all = count[:, None] - lost, count.sum()
        part_i, part_j = (hit / left for hit in (hit_i, hit_j))  # (K, B)
        share_i, share_j = part_i.sum(0), part_j.sum(0)  # (B,)
        own, pooled = self.weight_[:, :, None]  # (K, 1)
        both = (hit_i * part_j).sum(0)  # (B,), of parents of one class
        drawn, spread = 1 - self.drawn_, self.drawn_ / len(count)
        shift_i, shift_j = drawn * part_i + spread * share_i, drawn * part_j + spread * share_j
        per = own / count[:, None]
        a_ii = per * hit_i * (1 + part_i) + pooled / n_all * (hit_i.sum(0) + share_i)
        a_jj = per * hit_j * (1 + part_j) + pooled / n_all * (hit_j.sum(0) + share_j)
        a_ij = per * hit_i * part_j + pooled / n_all * both
        scale = 1 + own * lost / left + pooled * lost.sum(0) / (n_all - lost.sum(0)).clamp(min=1)
        ii, jj, ij = ((u * v).sum(1) for u, v in ((u_i, u_i), (u_j, u_j), (u_i, u_j)))
        square, to_i, to_j = ((z * v).sum(1) for v in (z, u_i, u_j))
        square = square + shift_i * (2 * to_i + shift_i * ii) + shift_j * (2 * to_j + shift_j * jj)
        square = square + 2 * shift_i * shift_j * ij
        to_i, to_j = to_i + shift_i * ii + shift_j * ij, to_j + shift_i * ij + shift_j * jj
        m_ii, m_ij = 1 - (ii * a_ii + ij * a_ij), -(ii * a_ij + ij * a_jj)
        m_ji, m_jj = -(ij * a_ii + jj * a_ij), 1 - (ij * a_ij + jj * a_jj)
        room = (m_ii * m_jj - m_ij * m_ji).clamp(min=LEAST_ROOM)
        gain = (a_ii * m_jj - a_ij * m_ji) * to_i.square() + (a_jj * m_ii - a_ij * m_ij) * to_j.square()
        gain = gain + (a_ij * (m_ii + m_jj) - a_ii * m_ij - a_jj * m_ji) * to_i * to_j
        square = (square + gain / room) / scale
        log_det = n_features * scale.log() + room.log()
        return torch.add(log_norm[:, None], square + log_det, alpha=-0.5).T


def weights_of(estimate: ClassEstimates, shrinkage: Shrinkage | float, *, tied: bool) -> tuple[Tensor, Tensor]:
    """Weights of the own and of the pooled covariance in those of the classes, shape `(K,)` each.

    A share that shrinks to multiples of variances stays as it is when rows leave.
    """
    kept = 1.0 if isinstance(shrinkage, str) else 1 - shrinkage
    pooled = torch.ones_like(estimate.class_count) if tied else estimate.pooled_weight.amax(1)
    return kept * (1 - pooled), kept * pooled
