"""Class-conditional generator, critic and encoder, and the adversarial game that trains them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlabel_plugins.densities._training import MAX_GRADIENT_NORM, hold_out, minibatches, private_rng, progress, train

Conditional = Callable[[Tensor, Tensor], Tensor]  # (P, *), (P,) -> (P, *)

_GRADIENT_PENALTY = 1.0
_RECONSTRUCTION = 10.0  # in the loss of the generator, beside the adversarial term


class Modulation(nn.Module):
    """Gain and bias of each channel, looked up by class: `(P, H, *), (P,) -> (P, H, *)`."""

    def __init__(self, n_classes: int, n_channels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_classes, 2 * n_channels)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Modulate, then apply the activation; smooth, since inversion needs curvature."""
        gain, bias = self.table(c).view(len(c), 2, -1, *[1] * (h.ndim - 2)).unbind(1)
        return F.silu(torch.addcmul(h + bias, h, gain))


class ConditionalNetwork(nn.Module):
    """Layers with a class modulation after each but the last: `(P, *), (P,) -> (P, *)`."""

    def __init__(self, layers: Sequence[nn.Module], n_channels: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.modulations = nn.ModuleList(Modulation(n_classes, n) for n in n_channels)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Apply the layers to `h` of classes `c`."""
        for layer, modulation in zip(self.layers, self.modulations, strict=False):
            h = modulation(layer(h), c)
        return self.layers[-1](h)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Network from latents and classes to rows, `(P, L), (P,) -> (P, D)`, with a first layer of its own per class.

    The latents are squashed to the cube on which the network is trained, so that manifolds are bounded; the tails
    do not vanish as fast as those of tanh. If classes shared the first layer, one latent would draw the shape of
    another class just as well.
    """

    def __init__(self, latent_dim: int, width: int, body: ConditionalNetwork, n_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, width, latent_dim) / latent_dim**0.5)
        self.bias = nn.Parameter(torch.randn(n_classes, width))
        self.body = body

    def forward(self, w: Tensor, c: Tensor) -> Tensor:
        """Generate a row of class `c` for each latent."""
        bounded = w * torch.rsqrt(1 + w.square())
        h = torch.baddbmm(self.bias[c, :, None], self.weight[c], bounded[:, :, None]).squeeze(-1)
        return self.body(F.silu(h), c)  # type: ignore[no-any-return]


class Crop(nn.Module):
    """Cut images to a height and width, and flatten them: `(P, C, H, W) -> (P, D)`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """Keep the upper left corner."""
        return x[..., : self.height, : self.width].flatten(1)


def make_generator(
    latent_dim: int, n_features: int, image_shape: Sequence[int] | None, hidden: Sequence[int], n_classes: int
) -> Generator:
    """Network from latents `(P, L)` and classes `(P,)` to rows `(P, D)`: convolutional if there is an image shape."""
    if image_shape is None:
        layers: list[nn.Module] = [nn.Linear(a, b) for a, b in pairwise([*hidden, n_features])]
        return Generator(latent_dim, hidden[0], ConditionalNetwork(layers, hidden[1:], n_classes), n_classes)
    channels, height, width = image_shape
    coarse = [math.ceil(side / 2 ** len(hidden)) for side in (height, width)]
    n_latent = 4 * hidden[0]
    layers = [nn.Sequential(nn.Linear(n_latent, hidden[0] * math.prod(coarse)), nn.Unflatten(1, (hidden[0], *coarse)))]
    layers += [nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise([*hidden, channels])]
    layers[-1] = nn.Sequential(layers[-1], Crop(height, width))
    return Generator(latent_dim, n_latent, ConditionalNetwork(layers, hidden, n_classes), n_classes)


def make_encoder(
    n_features: int, n_outputs: int, image_shape: Sequence[int] | None, hidden: Sequence[int], n_classes: int
) -> ConditionalNetwork:
    """Network from rows `(P, D)` and classes `(P,)` to `(P, n_outputs)`, the generator's mirror image.

    Raises:
        ValueError: If the images are too small to be halved once per entry of `hidden`.
    """
    hidden = list(hidden)[::-1]
    if image_shape is None:
        layers: list[nn.Module] = [nn.Linear(a, b) for a, b in pairwise([n_features, *hidden, n_outputs])]
        return ConditionalNetwork(layers, hidden, n_classes)
    channels, *sides = image_shape
    coarse = [side >> len(hidden) for side in sides]
    if not all(coarse):
        raise ValueError(f"image_shape must have sides of at least {2 ** len(hidden)}, got {tuple(image_shape)}")
    layers = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise([channels, *hidden])]
    layers[0] = nn.Sequential(nn.Unflatten(1, tuple(image_shape)), layers[0])
    layers.append(nn.Sequential(nn.Flatten(), nn.Linear(hidden[-1] * math.prod(coarse), n_outputs)))
    return ConditionalNetwork(layers, hidden, n_classes)


def train_gan(
    generator: nn.Module,
    critic: nn.Module,
    encoder: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    random: torch.Generator,
    verbose: bool,
) -> bool:
    r"""Train a generator by the regularized relativistic loss, and an encoder beside it.

    With :math:`\Delta = D(x, c) - D(G(w, c), c)`, the critic descends
    :math:`\operatorname{softplus}(-\Delta) + \frac\gamma2 (\lVert\nabla D(x)\rVert^2 + \lVert\nabla D(G(w))\rVert^2)`,
    generator and encoder descend :math:`\operatorname{softplus}(\Delta) + \rho \lVert x - G(E(x, c), c)\rVert^2 / D`.
    The penalties on both sides make the game converge locally; the reconstruction keeps every training row near
    the manifold of its class, which a GAN that drops modes does not.

    Args:
        generator: From latents `(P, L)` and classes `(P,)` to rows `(P, D)`; trained in place.
        critic: From rows and classes to scores `(P, 1)`; trained in place.
        encoder: From rows and classes to latents; trained in place.
        x: Standardized rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        max_epochs: Passes over the rows.
        batch_size: Rows a step.
        learning_rate: Initial step size of Adam; it falls to zero along a cosine, which averages the game's orbit.
        random: Source of randomness on the CPU.
        verbose: Show a progress bar.

    Returns:
        Whether Ctrl-C ended the training.

    Reference:
        Huang et al., The GAN is dead; long live the GAN! A modern GAN baseline, NeurIPS 2024;
        Che et al., Mode regularized generative adversarial networks, ICLR 2017.
    """
    players = nn.ModuleList([generator, encoder]).requires_grad_()
    critic.requires_grad_()
    rows = torch.arange(len(x), device=x.device)
    optimizers = [torch.optim.Adam(net.parameters(), learning_rate, betas=(0.0, 0.99)) for net in (critic, players)]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs) for optimizer in optimizers]
    interrupted = False
    with private_rng(random), torch.enable_grad():
        try:
            for _ in progress(range(max_epochs), "GAN", verbose=verbose):
                for batch in minibatches(rows, batch_size, random):
                    real, c = x[batch], target[batch]
                    w = encoder(real, c)
                    fake = generator(torch.randn_like(w), c)
                    _descend(critic, optimizers[0], _critic_loss(critic, real, fake, c))
                    advantage = critic(real, c) - critic(fake, c)
                    misfit = (generator(w, c) - real).square().mean()
                    _descend(players, optimizers[1], F.softplus(advantage).mean() + _RECONSTRUCTION * misfit)
                for schedule in schedules:
                    schedule.step()
        except KeyboardInterrupt:
            interrupted = True
            warnings.warn("the GAN's training was interrupted: the state reached so far is kept", stacklevel=2)
    for net in (generator, critic, encoder):
        net.zero_grad()
        net.eval().requires_grad_(False)
    return interrupted


def train_encoder(
    encoder: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    project: Conditional,
    sample: Callable[[Tensor], Tensor],
    n_classes: int,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    random: torch.Generator,
    verbose: bool,
) -> None:
    r"""Train an encoder to invert a frozen generator at what mixing makes, for every class.

    A row is mixed with a sample of the generator, as mixup does, and the encoder descends the distance
    :math:`\lVert x - G(E(x, c), c)\rVert` for a class drawn at random, half of the time that of the row.

    Args:
        encoder: Trained in place.
        x: Rows, shape `(N, D)`.
        target: Class indices, shape `(N,)`.
        project: From rows and classes to residuals `x - G(E(x, c), c)` in units of the data's spread.
        sample: From classes `(P,)` to random rows of the generator `(P, D)`.
        n_classes: Number of classes K.
        max_epochs: Passes over the rows at most.
        batch_size: Rows a step.
        learning_rate: Step size of Adam.
        random: Source of randomness on the CPU.
        verbose: Show a progress bar.
    """

    def loss(batch: Tensor) -> Tensor:
        def any_class() -> Tensor:
            return torch.randint(n_classes, (len(batch),), device=x.device)

        lam = x.new_empty(len(batch), 1).uniform_()
        mixed = sample(any_class()).lerp(x[batch], lam)
        own = torch.rand(len(batch), device=x.device) < 0.5
        residual = project(mixed, torch.where(own, target[batch], any_class()))
        return (residual.square().sum(1) + 1e-12).sqrt().mean()  # a distance of zero has no gradient

    rows, held_out = hold_out(target, 0.1, random)
    train(
        encoder.requires_grad_(),
        loss,
        rows,
        held_out,
        max_epochs=max_epochs,
        patience=max(10, max_epochs // 10),
        batch_size=batch_size,
        learning_rate=learning_rate,
        generator=random,
        verbose=verbose,
        description="encoder",
    )


def _critic_loss(critic: nn.Module, real: Tensor, fake: Tensor, c: Tensor) -> Tensor:
    """Relativistic loss with the squared gradient of the critic at real and at generated rows."""
    scores, penalty = [], real.new_zeros(())
    for rows in (real, fake):
        rows = rows.detach().requires_grad_()  # noqa: PLW2901
        scores.append(critic(rows, c))
        (gradient,) = torch.autograd.grad(scores[-1].sum(), rows, create_graph=True)
        penalty = penalty + gradient.square().sum(1).mean()
    return F.softplus(scores[1] - scores[0]).mean() + 0.5 * _GRADIENT_PENALTY * penalty


def _descend(net: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step, unless the gradient is not finite."""
    parameters = list(net.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    if torch.isfinite(nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)):
        optimizer.step()
