"""Generative mixing: the point between two samples at which their classes are as likely as lam says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._checks import check_number, check_target, check_tensor
from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import accumulator
from genlabel_plugins.densities._segments import LogRatio, closest_position, tempered
from genlabel_plugins.mixing.inputs import Inputs, one_hot
from genlabel_plugins.mixing.mixers import Mixer
from genlabel_plugins.relabeler import GenLabel, n_classes_of

Codec = Callable[[Tensor, Tensor], Tensor]


class GenerativeMixed(NamedTuple):
    """Samples mixed by their densities.

    Attributes:
        x_mix: Mixed inputs, shape `(B, *)`.
        y: Labels, shape `(B, C)`; rows sum to one.
        attained: Where the ratio of the two densities is lam, shape `(B,)`.
    """

    x_mix: Tensor
    y: Tensor
    attained: Tensor


class RatioSearch:
    r"""Mix two samples where the ratio of their class densities is lam.

    .. math:: x_\text{mix} = x_j + t\,(x_i - x_j), \qquad
              \frac{p_{c_i}(x_\text{mix})}{p_{c_i}(x_\text{mix}) + p_{c_j}(x_\text{mix})} = \lambda, \qquad
              y = \lambda\, e_{c_i} + (1 - \lambda)\, e_{c_j}

    Of several such points the one nearest to linear mixing, t = lam, is taken. Where no point between the
    samples has that ratio, the one that comes closest is taken and labeled with the ratio that holds there.
    The ratio of the finished point is measured, so a label is never better than its point. Where both
    densities vanish all along, the result is the sample nearer to t = lam, with its own label. Two samples
    of one class are mixed linearly.

    Args:
        relabeler: Fitted density or relabeler; its `log_prob` is the only thing used, and its `segment`,
            where it has one, to propose the point at less cost.
        n_intervals: Grid intervals in which a root is looked for, where there is no closed form.
        n_steps: Evaluations that narrow it down.
        n_fine: Grid intervals in which lam is looked for where the first search misses it; 0 turns that off, for
            densities of which each evaluation is dear.
        tolerance: Largest difference between lam and a ratio that attains it.
        encode: Callable from inputs and classes to codes, `(B, *), (B,) -> (B, L)`; the path then runs between
            codes. `GANInversion.invert` and `VAE.encode` are such callables.
        decode: Callable from codes and classes to inputs, `(P, L), (P,) -> (P, *)`, such as `GANInversion.generate`
            and `VAE.decode`; one that knows no classes ignores them. On the path the inputs decoded for both
            classes fade into each other, so that it ends on the manifold of either class.

    Raises:
        ValueError: If only one of `encode` and `decode` is given, or a number of intervals is odd.

    Example:
        >>> from genlabel_plugins import make_backend
        >>> x, target = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> search = RatioSearch(make_backend("gm", reg_covar=0.0).fit(x, target))
        >>> search(x[:1], x[3:], target[:1], target[3:], torch.tensor([0.5]))
        GenerativeMixed(x_mix=tensor([[0.]]), y=tensor([[0.5000, 0.5000]]), attained=tensor([True]))

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.2.
    """

    def __init__(
        self,
        relabeler: Any,
        *,
        n_intervals: int = 6,
        n_steps: int = 6,
        n_fine: int = 64,
        tolerance: float = 1e-4,
        encode: Codec | None = None,
        decode: Codec | None = None,
    ) -> None:
        if (encode is None) != (decode is None):
            missing = "encode" if encode is None else "decode"
            raise ValueError(f"encode and decode go together, got None for {missing}")
        for name, number, kind in (("n_intervals", n_intervals, "a"), ("n_fine", n_fine, "0 or a")):
            check_number(name, number, float("-inf"), whole=True)
            if number % 2 or number < (name == "n_intervals"):
                raise ValueError(f"{name} must be {kind} positive even number, got {number}")
        check_number("n_steps", n_steps, 0, whole=True)
        check_number("tolerance", tolerance, 0)
        self.relabeler = relabeler
        self.n_intervals = n_intervals
        self.n_steps = n_steps
        self.n_fine = n_fine
        self.tolerance = tolerance
        self.encode = encode
        self.decode = decode
        self._checked = False  # classes are, in the first call: a check waits for the device

    def __call__(self, x_i: Tensor, x_j: Tensor, c_i: Tensor, c_j: Tensor, lam: Tensor | float) -> GenerativeMixed:
        """Mix pairs of samples.

        Args:
            x_i: First samples, shape `(B, *)`.
            x_j: Second samples, shape `(B, *)`.
            c_i: Classes of the first, shape `(B,)`.
            c_j: Classes of the second, shape `(B,)`.
            lam: Ratio to attain, in [0, 1]; a float, or shape `(B,)`.
        """
        check_tensor("x_i", x_i)
        check_tensor("x_j", x_j)
        if x_i.dtype != x_j.dtype or x_i.shape != x_j.shape:
            raise ValueError(
                f"x_i and x_j must have one dtype and shape, got {x_i.dtype} {tuple(x_i.shape)} and "
                f"{x_j.dtype} {tuple(x_j.shape)}"
            )
        n_classes = n_classes_of(self.relabeler)
        for target in (c_i, c_j):
            check_target(target, None if self._checked else n_classes, len(x_i))
        self._checked = True
        partner = torch.arange(len(x_i), 2 * len(x_i), device=x_i.device)
        lam = torch.as_tensor(lam, device=x_i.device).expand(len(x_i))
        x_mix, share, attained = self.mix(torch.cat([x_i, x_j]), torch.cat([c_i, c_j]).long(), partner, lam)
        y = torch.lerp(one_hot(c_j, n_classes, share), one_hot(c_i, n_classes, share), share[:, None])
        return GenerativeMixed(x_mix, y, attained)

    def mix(self, x: Tensor, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix the first B rows of a batch with their partners; what rows share is computed once.

        The position is found without gradient; mixed features keep theirs.

        Args:
            x: Inputs, shape `(N, *)`.
            target: Classes, shape `(N,)`.
            partner: Row that each of the first B is mixed with, shape `(B,)`.
            lam: Ratio to attain, shape `(B,)`.

        Returns:
            Mixed inputs `(B, *)`, the share of the row's own class that holds there `(B,)`, and where it is
            lam `(B,)`.

        Raises:
            ValueError: If the inputs are integers, between which there is no point to find.
        """
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point to be mixed by densities, got {x.dtype}")
        lam = lam.to(torch.promote_types(x.dtype, torch.float32))
        target = target.long()
        pair = torch.stack([target[: len(partner)], target.take(partner)])  # (2, B)
        with full_precision(x):
            path = self._path(x, target, pair, partner)
            with torch.no_grad():
                t = self._position(path, x, pair, partner, lam)
            x_mix = path(t[:, None])
            # The ratio that the densities measure at the finished point, whatever the search believed.
            log_prob = self.relabeler.log_prob(x_mix.detach()).gather(1, pair.T)
            ratio = torch.sigmoid(log_prob[:, 0] - log_prob[:, 1]).to(lam.dtype)
        attained = (ratio - lam).abs() <= self.tolerance
        # Where both densities vanish no ratio holds: the point is a sample, and its label its own.
        return x_mix, torch.where(attained, lam, torch.where(torch.isnan(ratio), lam.round(), ratio)), attained

    def _position(self, path: Path, x: Tensor, pair: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        """Positions of the mixed inputs on their paths, shape `(B,)`."""
        density = self.relabeler.density if isinstance(self.relabeler, GenLabel) else self.relabeler
        segment: Any = getattr(density, "segment", None)
        log_ratio: LogRatio | None = None
        if segment is not None and self.decode is None:
            log_ratio = segment(x, pair, partner)
        temperature = getattr(density, "temperature_", None)
        if log_ratio is not None and temperature is not None and density is not self.relabeler:
            log_ratio = tempered(log_ratio, temperature)  # as the relabeler's own log_prob is
        wide = lam.to(accumulator(lam))
        goal = torch.logit(wide, eps=torch.finfo(lam.dtype).eps)
        return closest_position(
            log_ratio or MeasuredLogRatio(self.relabeler, path),
            goal,
            wide,
            n_intervals=self.n_intervals,
            n_steps=self.n_steps,
            n_fine=self.n_fine,
            tolerance=self.tolerance,
        )

    def _path(self, x: Tensor, target: Tensor, pair: Tensor, partner: Tensor) -> Path:
        """Paths between partners (at 0) and rows (at 1)."""
        codes = x if self.encode is None else self.encode(x, target)
        codes = codes.to(torch.promote_types(codes.dtype, torch.float32))
        return Path(codes.index_select(0, partner), codes[: len(partner)], pair, self.decode, x[:0])


class Path(NamedTuple):
    """Inputs between partners (at 0) and rows (at 1): straight between codes, `start` to `stop`, `(B, *)`, decoded."""

    start: Tensor
    stop: Tensor
    pair: Tensor
    decode: Codec | None
    like: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        """Inputs at positions, `(B, S) -> (B*S, *)`."""
        start, stop = self.start[:, None], self.stop[:, None]  # (B, 1, *)
        points = torch.lerp(start, stop, _per_row(t.to(start.dtype), start)).flatten(0, 1)
        if self.decode is None:
            return points.to(self.like.dtype)
        as_i, as_j = (
            self.decode(points, c.repeat_interleave(t.shape[1])).reshape(-1, *self.like.shape[1:]).to(self.like)
            for c in self.pair
        )
        return torch.lerp(as_j, as_i, _per_row(t.flatten().to(self.like.dtype), self.like))

    def take(self, rows: Tensor) -> Path:
        """Some of the paths, indices `(R,)`."""
        return self._replace(start=self.start[rows], stop=self.stop[rows], pair=self.pair[:, rows])


class MeasuredLogRatio(NamedTuple):
    """Log-ratio of two class densities along paths, by the `log_prob` of all classes."""

    relabeler: Any
    path: Path

    def __call__(self, t: Tensor, /) -> Tensor:
        """Log-ratios at positions, `(B, S) -> (B, S)`."""
        log_prob: Tensor = self.relabeler.log_prob(self.path(t)).unflatten(0, t.shape)  # (B, S, C)
        log_prob = log_prob.gather(2, self.path.pair.T[:, None].expand(*t.shape, 2))
        return log_prob[..., 0] - log_prob[..., 1]

    def take(self, rows: Tensor) -> MeasuredLogRatio:
        """The log-ratio along some of the paths, indices `(R,)`."""
        return MeasuredLogRatio(self.relabeler, self.path.take(rows))


class GenerativeMixup(Mixer):
    """Mixer whose `lam` is the ratio that two class densities have at the mixed input; see `RatioSearch`.

    Args:
        search: Finds the mixed point of two samples.
        n_classes: Number of classes C; by default that of the densities.
        **options: `alpha`, `pairing`, `per_sample` (here True by default) and `generator`, as for any mixer.

    Attributes:
        attained: Where the last batch attained the `lam` drawn for it, shape `(B,)`.
    """

    attained: Tensor

    def __init__(self, search: RatioSearch, *, n_classes: int | None = None, **options: Any) -> None:
        options.setdefault("per_sample", True)
        super().__init__(n_classes or n_classes_of(search.relabeler), **options)
        self.search = search

    def combine(self, x: Inputs, target: Tensor, partner: Tensor, lam: Tensor) -> tuple[Inputs, Tensor]:
        """Mix where the densities say lam, and return what they say there."""
        if not isinstance(x, Tensor):
            raise TypeError(f"generative mixing needs one tensor that the densities know, got {type(x).__name__}")
        x_mix, share, self.attained = self.search.mix(x, target, partner, lam)
        return x_mix, share


def _per_row(values: Tensor, x: Tensor) -> Tensor:
    """Values `(B,)`, or `(B, S)`, with the trailing dimensions that broadcast over `x`."""
    return values.reshape(*values.shape, *[1] * (x.ndim - values.ndim))
