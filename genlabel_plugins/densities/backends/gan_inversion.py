"""`gan`: densities that fall off with the distance from a class-conditional generator's manifold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from genlabel_plugins._checks import check_number, check_positive, check_sizes, check_switch
from genlabel_plugins._precision import full_precision
from genlabel_plugins._state import accumulator, as_rows
from genlabel_plugins.densities._quasi_newton import minimize
from genlabel_plugins.densities._training import private_rng
from genlabel_plugins.densities.backends._gan_training import (
    Conditional,
    make_encoder,
    make_generator,
    train_encoder,
    train_gan,
)
from genlabel_plugins.densities.backends._quasi_random import normal_draws
from genlabel_plugins.densities.density import Density

CHUNK_PAIRS = 1024  # pairs of a row and a class inverted at once; more would not leave activations in the cache


class GANInversion(Density):
    r"""Density :math:`p_c(x) \propto \exp(-d(x, M_c) / s_c)` about the manifold of a class-conditional generator.

    .. math:: M_c = \{G(w, c)\}, \qquad d(x, M_c) = \min_w \lVert x - G(w, c) \rVert

    The generator is inverted for all pairs of a row and a class in one batch: the best of `w = 0`, `n_restarts`
    random `w` and an encoder's guess is refined by `n_steps` quasi-Newton steps. The random `w` are drawn in `fit`,
    so that a density is a fixed function. The manifold of a generator trained here is bounded; that of a given
    one is the image of all `w`.

    Args:
        generator_network: Callable or module from latents `(P, L)` and classes `(P,)` to rows `(P, *)` in the units
            of the data, differentiable in the latents, for which it expects standard normal draws; `fit` takes a
            copy. By default one is trained, with an encoder beside it.
        latent_dim: Number of latents L: the dimension of the manifold, smaller than that of the data.
        scale: Distance `s_c` at which a density has fallen by e: a number, or `"class"` for the mean distance of
            the training rows of each class; by default one, as in the paper.
        n_restarts: Random `w` to choose the start from.
        n_steps: Refinement steps.
        amortized: Train an encoder whose guess is one more start. Then few steps and no restarts may do.
        image_shape: Channels, height and width if rows are images: networks are then convolutional.
        hidden_features: Widths of the hidden layers; for images, channels from the coarsest resolution on, each
            resolution half of the next.
        max_epochs: Passes over the training rows, for the generator and again for the encoder.
        batch_size: Rows a step.
        learning_rate: Step size of Adam.
        verbose: Show progress bars.

    Raises:
        ValueError: On an option out of range, or a generator whose rows have another size than the data.

    Example:
        >>> def circle(w, c):  # of radius 1 for class 0, 2 for class 1
        ...     return (c[:, None] + 1) * torch.cat([w.cos(), w.sin()], 1)
        >>> gan = GANInversion(circle, latent_dim=1, amortized=False)
        >>> gan = gan.fit(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        >>> gan.distance(torch.tensor([[3.0, 4.0]]))
        tensor([[4.0000, 3.0000]])

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, section 7.1;
        Creswell and Bharath, Inverting the generator of a generative adversarial network, 2018.
    """

    normalized = False  # known up to a constant
    exact = False
    declines = frozenset({"far_class"})  # one network draws all classes, in units of all rows
    compilable = False  # inversion differentiates the generator

    unit_: Tensor  # (D,), unit of each feature for the networks, zero if it is constant
    spread_: Tensor  # (), root mean square distance of a training row from the mean
    start_: Tensor  # (R, L), latents to start from
    scale_: Tensor  # (C,)
    generator_network: Conditional | None
    generator_: Conditional
    encoder_: nn.Module

    def __init__(
        self,
        generator_network: Conditional | None = None,
        *,
        latent_dim: int = 1,
        scale: float | Literal["class"] | None = None,
        n_restarts: int = 1024,
        n_steps: int = 10,
        amortized: bool = True,
        image_shape: Sequence[int] | None = None,
        hidden_features: Sequence[int] = (128, 128),
        max_epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        if scale not in (None, "class"):
            check_positive("scale", scale, other="None or 'class'")
        check_number("latent_dim", latent_dim, 1, whole=True)
        counts = {"n_restarts": n_restarts, "n_steps": n_steps, "max_epochs": max_epochs}
        for name, number in counts.items():
            check_number(name, number, 0, whole=True)
        check_number("batch_size", batch_size, 1, whole=True)
        check_positive("learning_rate", learning_rate)
        check_sizes("hidden_features", hidden_features)
        check_switch("amortized", amortized)
        check_switch("verbose", verbose)
        if generator_network is not None and not callable(generator_network):
            raise ValueError(f"generator_network must be callable as G(w, c), got {generator_network!r}")
        if image_shape is not None:
            check_sizes("image_shape", image_shape)
            if len(image_shape) != 3:
                raise ValueError(f"image_shape must be (channels, height, width), got {tuple(image_shape)}")
        vars(self)["generator_network"] = generator_network  # no submodule: it stays the caller's
        self.latent_dim = latent_dim
        self.scale = scale
        self.n_restarts = n_restarts
        self.n_steps = n_steps
        self.amortized = amortized
        self.image_shape = image_shape
        self.hidden_features = hidden_features
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.verbose = verbose
        self._declare("unit_", "spread_", "start_", "scale_")

    def generate(self, w: Tensor, c: Tensor) -> Tensor:
        """Rows of the manifold, `(P, L), (P,) -> (P, *)`; differentiable in `w`."""
        self.check_fitted()
        if self.generator_network is not None:
            return self.generator_(w, c)
        x = self.offset_ + self._centered(w, self._compact(c))
        return x if self.image_shape is None else x.unflatten(1, tuple(self.image_shape))

    def invert(self, x: Tensor, c: Tensor) -> Tensor:
        """Latents of the points on the manifolds of classes `c` nearest to `x`, `(B, *), (B,) -> (B, L)`."""
        self.check_fitted()
        with torch.no_grad(), full_precision(x):
            return self._project((as_rows(x) - self.offset_).to(self.offset_.dtype), self._compact(c))[0]

    def distance(self, x: Tensor) -> Tensor:
        """Distances from the manifolds of all classes, `(B, *) -> (B, C)`; infinite for a class without rows."""
        return -self.log_prob(x) * self.scale_

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the networks of a fitted density train no more."""
        return super().train(False)

    def _fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        if self.image_shape is not None and math.prod(self.image_shape) != x.shape[1]:
            pixels = math.prod(self.image_shape)
            raise ValueError(f"image_shape {tuple(self.image_shape)} has {pixels} pixels, got rows of {x.shape[1]}")
        wide = accumulator(x)  # squares of far and of tiny rows would leave float32
        deviation = x.to(wide).square().mean(0).sqrt()  # (D,)
        # A deviation within the rounding of the offset is none.
        deviation = deviation * (deviation > 2 * torch.finfo(x.dtype).eps * self.offset_.abs())
        deviation, spread = deviation.to(x.dtype), torch.linalg.vector_norm(deviation).to(x.dtype)
        self.spread_ = torch.where(spread > 0, spread, 1.0)
        if self.image_shape is not None:  # one unit for all pixels, of which some hardly vary
            deviation = (spread / len(deviation) ** 0.5).expand_as(deviation).clone()
        self.unit_ = deviation
        self.start_ = self._draw_starts(generator).to(x)
        self.scale_ = x.new_ones(len(self.class_count_))
        with private_rng(generator):
            self._build()
            self._check_generator()
            self._train(x, target, generator)
        if self.scale is not None:
            self.scale_ = self._class_scale(x, target)

    def _build(self) -> None:
        if self.offset_ is None:
            return
        if self.generator_network is not None:
            self.generator_ = deepcopy(self.generator_network)
        else:
            layout = (self.image_shape, self.hidden_features, len(self.present_))
            self.generator_ = make_generator(self.latent_dim, len(self.offset_), *layout)
        if self.amortized:
            self.encoder_ = self._make_encoder(self.latent_dim)
        self.to(self.offset_).eval().requires_grad_(False)

    def _make_encoder(self, n_outputs: int) -> nn.Module:
        layout = (self.image_shape, self.hidden_features, len(self.present_))
        return make_encoder(len(self.offset_), n_outputs, *layout).to(self.offset_)

    def _train(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        options: dict[str, Any] = {
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "random": generator,
            "verbose": self.verbose,
        }
        interrupted = False
        if self.generator_network is None:
            critic = self._make_encoder(1)
            encoder = self.encoder_ if self.amortized else self._make_encoder(self.latent_dim)
            networks = self.get_submodule("generator_"), critic, encoder
            interrupted = train_gan(*networks, self._standardized(x), target, **options)
        if self.amortized and not interrupted:  # one Ctrl-C ends the whole fit
            train_encoder(
                self.encoder_,
                x,
                target,
                project=lambda x, c: self._residual(self._guess(x, c), x, c),
                sample=lambda c: self._centered(x.new_empty(len(c), self.latent_dim).normal_(), c),
                n_classes=len(self.present_),
                **options,
            )

    def _draw_starts(self, generator: torch.Generator) -> Tensor:
        """Zero and `n_restarts` normal latents of low discrepancy, every other one twice as wide to reach the tails."""
        start = normal_draws(self.n_restarts + 1, self.latent_dim, generator)
        start[1::2] *= 2
        start[0] = 0
        return start

    def _check_generator(self) -> None:
        w = self.start_[:1].expand(2, -1)  # two rows: the generator must keep the batch dimension
        made = self.generator_(w, self.present_[:1].expand(2))
        if made.shape[0] != 2 or made[0].numel() != len(self.offset_):
            raise ValueError(
                f"generator_network must return (P, *) with the {len(self.offset_)} features of x, got shape "
                f"{tuple(made.shape)} for two latents"
            )

    def _class_scale(self, x: Tensor, target: Tensor) -> Tensor:
        if self.scale != "class":
            return torch.full_like(self.scale_, self.scale)  # type: ignore[arg-type]
        total = torch.zeros_like(self.scale_).index_add_(0, self.present_[target], self._project(x, target)[1])
        # A class of one row, or on its manifold, is not infinitely sharp.
        return (total / self.class_count_.clamp(min=1)).clamp(min=1e-3 * self.spread_)

    def _log_prob(self, x: Tensor) -> Tensor:
        n_classes = len(self.present_)
        classes = torch.arange(n_classes, device=x.device)
        square, start = self._starts(x, classes)  # (B, K)
        row = torch.arange(len(x), device=x.device).repeat_interleave(n_classes)
        c = classes.repeat(len(x))
        _, distance = self._refine(x, row, c, square.flatten(), start.flatten())
        return -distance.view(-1, n_classes) / self.scale_[self.present_]

    def _project(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and distance of the nearest point of each row's class, `(B, D), (B,) -> (B, L), (B,)`."""
        classes, column = c.unique(return_inverse=True)
        square, start = (found.gather(1, column[:, None]).squeeze(1) for found in self._starts(x, classes))
        return self._refine(x, torch.arange(len(x), device=x.device), c, square, start)

    def _starts(self, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance (in units of the spread) and index of each pair's best start, `(B, D), (K,) -> (B, K)`."""
        n_starts = len(self.start_)
        x = x / self.spread_
        best = []
        for c in classes.split(max(1, 4 * CHUNK_PAIRS // n_starts)):
            made = self._centered(self.start_.repeat(len(c), 1), c.repeat_interleave(n_starts)) / self.spread_
            bias = made.square().sum(1)
            nearest = []
            for rows in x.split(CHUNK_PAIRS):
                score = torch.addmm(bias, rows, made.T, alpha=-2).view(len(rows), len(c), n_starts)
                nearest.append(score.min(-1))
            best.append(tuple(torch.cat(parts) for parts in zip(*nearest, strict=True)))  # (B, K') twice
        square, start = (torch.cat(parts, 1) for parts in zip(*best, strict=True))
        return square + x.square().sum(1, keepdim=True), start

    def _refine(self, x: Tensor, row: Tensor, c: Tensor, square: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Latents `(P, L)` and distance `(P,)` of pairs of `x[row]` and class `c`, from the better of two starts."""
        w, distance = [], []
        with torch.inference_mode(False):  # under which nothing could be differentiated
            for pair in torch.arange(len(row), device=x.device).split(CHUNK_PAIRS):
                found = self._refine_chunk(x[row[pair]], c[pair], square[pair], self.start_[start[pair]])
                w.append(found[0])
                distance.append(found[1])
        return torch.cat(w), torch.cat(distance)

    def _refine_chunk(self, x: Tensor, c: Tensor, square: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        def square_distance(w: Tensor) -> Tensor:
            return self._residual(w, x, c).square().sum(1)

        if self.amortized:
            guess = self._guess(x, c)
            w = torch.where((square_distance(guess) < square)[:, None], guess, w)
        w, square = minimize(square_distance, w, self.n_steps)
        return w, square.sqrt() * self.spread_

    def _guess(self, x: Tensor, c: Tensor) -> Tensor:
        return self.encoder_(self._standardized(x), c)  # type: ignore[no-any-return]

    def _residual(self, w: Tensor, x: Tensor, c: Tensor) -> Tensor:
        """Difference of generated and centered rows in units of the spread, `(P, L), (P, D), (P,) -> (P, D)`."""
        return (self._centered(w, c) - x) / self.spread_

    def _centered(self, w: Tensor, c: Tensor) -> Tensor:
        """Generated rows less `offset_`, `(P, L), (P,) -> (P, D)`."""
        if self.generator_network is None:
            return self.generator_(w, c) * self.unit_
        return self.generator_(w, self.present_[c]).flatten(1).to(self.offset_.dtype) - self.offset_

    def _compact(self, c: Tensor) -> Tensor:
        """Indices among the classes with rows, as networks trained here and all private methods count them."""
        return ((self.class_count_ > 0).cumsum(0) - 1)[c]

    def _standardized(self, x: Tensor) -> Tensor:
        return torch.where(self.unit_ > 0, x / self.unit_, 0.0)
