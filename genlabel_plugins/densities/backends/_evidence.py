"""What rows that are left out say of a posterior: which of some densities is true of them, and at what temperature."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genlabel_plugins.densities.backends._class_estimates import ClassEstimates, raise_variances

MAX_JUDGES = 400  # rows that are left out
MIN_JUDGES = 64
MAX_ELEMENTS = 2**17  # of whitened judges, which cost more than the rest in many dimensions
LEAST_GAIN = 4.0  # nats by which the left-out rows must be likelier for another choice than the rule's to be believed
TEMPERATURES = tuple(1.3**i for i in range(14))  # below 1, certainty is that of rows that all are right
SURPRISE = 1e-5  # share of rows that may be anything: no outlier counts for more than a dozen nats
SAME = 1e-9  # difference of projections, in units of the largest, below which rows are equal
STEPS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))  # weights of the pooled covariance, of its diagonal


class Judges(NamedTuple):
    """Rows to leave out, one after another, each with the rows of its class that are equal to it.

    Attributes:
        row: Their places among the training rows, shape `(J,)`.
        group: One number for equal rows of a class, shape `(N,)`: they are left out together.
    """

    row: Tensor
    group: Tensor

    @property
    def times(self) -> Tensor:
        """How many rows are left out with each, itself included, shape `(J,)`."""
        return self.group.bincount()[self.group[self.row]]


def choose_judges(x: Tensor, target: Tensor, most: int) -> Judges:
    """At most `most` rows of classes that have others, `(N, D), (N,)`, whatever the order of the rows.

    They are sorted by a projection, in which equal rows stand side by side, and taken at equal intervals.
    """
    unit = x.abs().amax(0)
    weight = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float64).sqrt().frac().add(0.5)
    place = x.double() @ (weight / unit.where(unit > 0, 1.0).double())
    order = place.argsort()
    order = order[target[order].argsort(stable=True)]
    place, label = place[order], target[order]
    new = (place.diff() > SAME * place.abs().amax()) | (label.diff() > 0)
    group = torch.cat([new.new_zeros(1), new]).cumsum(0)  # (N,), of equal rows
    times = group.bincount()[group]
    eligible = (times < target.bincount()[label]).nonzero().squeeze(1)
    chosen = eligible[torch.linspace(0, max(len(eligible) - 1, 0), min(most, len(eligible)), device=x.device).long()]
    return Judges(order[chosen], torch.empty_like(group).index_copy_(0, order, group))


class Leaving(NamedTuple):
    r"""What rows take with them, with d the difference of a row from the mean of its class.

    Centers move by -shift d, and covariances become

    .. math:: \Sigma_c \leftarrow \text{scale}\,(\Sigma_c - \text{lost}\, d d^T)

    Attributes:
        shift: Shape `(J, K)`.
        lost: Shape `(J, K)`.
        scale: Shape `(J, K)`.
    """

    shift: Tensor
    lost: Tensor
    scale: Tensor


def leave(estimate: ClassEstimates, label: Tensor, times: Tensor, own: Tensor, pooled: Tensor) -> Leaving:
    """What rows of some classes `(J,)` take with them, each with all that are equal to it, `times` in number, `(J,)`.

    Covariances are weighted sums of the class's own, weights `(K,)`, of the pooled one, weights `(K,)`, and of a rest
    that stays; the weights stay, too.
    """
    n_classes = len(estimate.class_count)
    n_all, n_own = estimate.class_count.sum(), estimate.class_count[label]
    hit = (label[:, None] == torch.arange(n_classes, device=label.device)).double()  # (J, K)
    share, part = (times / (n_own - times))[:, None], (times / (n_all - times))[:, None]
    pooled = pooled * (1 - estimate.noise[0])
    shift = (hit * (1 - estimate.noise[1]) + estimate.noise[1] / n_classes) * share
    lost = share * (hit * own + (n_own / n_all)[:, None] * pooled)
    return Leaving(shift, lost, 1 + share * hit * own + part * pooled)


class Regularized(NamedTuple):
    """Covariances chosen by evidence.

    Attributes:
        covariance: Shape `(K, D, D)`.
        temperature: By which log-ratios are to be divided.
        own: Weight of each class's own covariance in it, shape `(K,)`.
        pooled: Weight of the pooled one, shape `(K,)`, where it was not scaled to a class; the rest are its variances.
    """

    covariance: Tensor
    temperature: float
    own: Tensor
    pooled: Tensor


def regularized(
    x: Tensor, target: Tensor, estimate: ClassEstimates, covariance: Tensor, reg_covar: float
) -> Regularized:
    r"""Covariances between the estimated, the pooled and a diagonal one, and a temperature, for the posterior's sake.

    .. math:: \Sigma_c(\lambda, \delta) = (1 - \lambda)\,\Sigma_c
              + \lambda\,\big((1 - \delta) P + \delta \operatorname{diag} P\big)

    Of a few pairs of weights the one is taken with which rows that are left out are most likely to be of their class,
    each pair at its best temperature; the estimate itself at temperature 1, unless another gains `LEAST_GAIN`. A row
    leaves the mean and covariances in closed form, by the formula of Sherman and Morrison.

    Args:
        x: Centered rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        estimate: Estimates from these rows.
        covariance: Covariances, shape `(K, D, D)`; K is 1 if tied.
        reg_covar: Added to each variance, as a share of it.

    Reference:
        Friedman, Regularized discriminant analysis, 1989.
    """
    n_classes, n_features = estimate.center.shape
    judges = choose_judges(x, target, max(MIN_JUDGES, min(MAX_JUDGES, MAX_ELEMENTS // (n_classes * n_features))))
    steps = STEPS if len(covariance) > 1 else [step for step in STEPS if step[0] == 1]
    share = 1 - estimate.pooled_weight.amax(1)  # (K,)
    weights = [((1 - a) * share, (1 - a) * (1 - share) + a * (1 - b)) for a, b in steps]
    own_choice = Regularized(covariance, 1.0, weights[0][0], weights[0][1].masked_fill(estimate.is_scaled, 0.0))
    if n_classes == 1 or not len(judges.row):
        return own_choice
    rows, label = x[judges.row].double(), target[judges.row]
    scores = []
    for (weight, towards_diagonal), (own, known) in zip(steps, weights, strict=True):
        leaving = leave(estimate, label, judges.times, own, known)
        score = left_out_scores(
            rows, label, estimate, _between(covariance, estimate, weight, towards_diagonal, reg_covar), leaving
        )
        scores.append(score)
    best, temperature = choose_by_evidence(torch.stack(scores), label)
    if best == 0:
        return own_choice._replace(temperature=temperature)
    return Regularized(_between(covariance, estimate, *steps[best], reg_covar), temperature, *weights[best])


def choose_by_evidence(scores: Tensor, target: Tensor) -> tuple[int, float]:
    """Which of G scores `(G, J, K)` of left-out rows is best for their classes `(J,)`, and at what temperature.

    Temperatures are those of `TEMPERATURES`. The first at temperature 1 is taken, unless another gains `LEAST_GAIN`.

    Example:
        >>> sure = torch.tensor([[5.0, 0.0]]).expand(40, 2)
        >>> best, temperature = choose_by_evidence(sure[None], (torch.arange(40) < 10).long())  # wrong of a quarter
        >>> best, round(temperature, 2)  # 5 / log 3 is 4.55
        (0, 4.83)
    """
    gap = scores - scores.gather(2, target.expand(len(scores), -1)[..., None])
    gap = gap.nan_to_num(torch.inf).clamp(-1e30, 1e30).float()  # zero at the true class
    gap = gap.mT.contiguous()  # (G, K, J): to sum over few classes is many times faster across rows
    doubt = SURPRISE / scores.shape[2]
    likelihood = (gap / gap.new_tensor(TEMPERATURES).view(-1, 1, 1, 1)).logsumexp(2).neg().exp()  # (T, G, J)
    evidence = (likelihood * (1 - SURPRISE) + doubt).log().double().sum(2).T  # (G, T)
    best, warmth = divmod(int(evidence.argmax()), len(TEMPERATURES))
    if not float(evidence[best, warmth] - evidence[0, 0]) > LEAST_GAIN:
        return 0, 1.0
    return best, TEMPERATURES[warmth]


def _between(
    covariance: Tensor, estimate: ClassEstimates, weight: float, towards_diagonal: float, reg_covar: float
) -> Tensor:
    """Covariances on the way to the pooled one and to its diagonal, `(K, D, D)`; K is 1 if all are the same."""
    if weight == 0:
        return covariance
    shared = estimate.pooled.lerp(estimate.pooled.diagonal().diag(), towards_diagonal)
    shared = raise_variances(shared.clone(), reg_covar)[None]
    return shared if weight == 1 else covariance.lerp(shared, weight)


def left_out_scores(
    rows: Tensor, label: Tensor, estimate: ClassEstimates, covariance: Tensor, leaving: Leaving
) -> Tensor:
    """Class log-densities, but for a constant, of rows that are left out of means and covariances, `(J, D) -> (J, K)`.

    Args:
        rows: Rows, shape `(J, D)`, float64.
        label: Their classes, shape `(J,)`.
        estimate: Means and centers.
        covariance: Covariances, shape `(K, D, D)`, or `(1, D, D)`.
        leaving: What the rows take with them.
    """
    n_classes, n_features = estimate.center.shape
    cholesky, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed.any()):
        return rows.new_full((len(rows), n_classes), torch.nan)
    inverse = torch.linalg.solve_triangular(cholesky, torch.eye(n_features).to(cholesky), upper=False)
    ends = torch.cat([rows, rows - estimate.mean[label]])  # the second, by which a mean changes
    z, u = (ends @ inverse.flatten(0, 1).T).view(len(ends), -1, n_features).chunk(2)  # (J, K, D)
    if len(covariance) == 1:
        z, u = z[:, 0], u[:, 0]
        center = estimate.center @ inverse[0].T
        square = z.square().sum(1, keepdim=True) - 2 * z @ center.T + center.square().sum(1)  # (J, K)
        cross, length = (z * u).sum(1, keepdim=True) - u @ center.T, u.square().sum(1, keepdim=True)
    else:
        z = z - (inverse @ estimate.center[:, :, None])[..., 0]
        square, cross, length = z.square().sum(2), (z * u).sum(2), u.square().sum(2)
    square, cross = square + leaving.shift * (2 * cross + leaving.shift * length), cross + leaving.shift * length
    room = (1 - leaving.lost * length).clamp(min=1e-6)  # nothing is left of a direction that only this row has
    square = (square + leaving.lost * cross.square() / room) / leaving.scale
    log_det = 2 * cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
    log_det = log_det + n_features * leaving.scale.log() + room.log()
    return torch.add(square, log_det).mul(-0.5)
