"""Networks trained one by one: the paper's FC nets, Algorithm 2 in their latent space, and AdaMixUp."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from genlabel_plugins.paper.data import Rows
from genlabel_plugins.paper.objectives import Objective, make_objective
from genlabel_plugins.paper.schemes import GAMMAS, LEARNING_RATES, SCHEMES, Scheme, density
from genlabel_plugins.paper.scores import Predictions
from genlabel_plugins.relabeler import GenLabel

HELD_OUT = 0.2  # of the training rows, on which learning rate, density and gamma are chosen


@dataclass(frozen=True)
class Training:
    """What all networks of an experiment share.

    Args:
        hidden: Widths of the hidden layers; none is logistic regression.
        relu: Rectify between layers, as the paper says; its published scripts do not.
        epochs: Passes over the rows.
        vanilla_epochs: Of these, passes of Algorithm 2 before the densities of the latent space are fitted.
        batch_size: Rows in a batch.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`, one `lam` for each batch.
        weight_decay: Of Adam.
        learning_rates: To choose from.
        gammas: To choose from, where a scheme relabels.
    """

    hidden: tuple[int, ...] = (128, 128)
    relu: bool = True
    epochs: int = 100
    vanilla_epochs: int = 20
    batch_size: int = 128
    alpha: float = 1.0
    weight_decay: float = 1e-4
    learning_rates: tuple[float, ...] = LEARNING_RATES
    gammas: tuple[float, ...] = GAMMAS

    def quick(self) -> Training:
        """The same for a trial: few epochs, nothing to choose."""
        return replace(self, epochs=10, vanilla_epochs=3, learning_rates=(0.01,), gammas=(1.0,))


class Way(NamedTuple):
    """What is chosen on held-out rows."""

    learning_rate: float
    backend: str
    gamma: float


class Fitted(NamedTuple):
    """A trained network, which reads standardized rows.

    Attributes:
        network: The network.
        mean: Of the training rows, shape `(D,)`.
        scale: Their standard deviations, shape `(D,)`.
        predictions: What it says of the test rows.
    """

    network: nn.Module
    mean: Tensor
    scale: Tensor
    predictions: Predictions


def make_network(sizes: Iterable[int], *, relu: bool = True) -> nn.Sequential:
    """A fully connected network; layer i is module `str(2 * i)`.

    Example:
        >>> [name for name, _ in make_network((2, 8, 3)).named_children()]
        ['0', '1', '2']
    """
    sizes = tuple(sizes)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU() if relu else nn.Identity()]
    return nn.Sequential(*layers[:-1])


def train(
    network: nn.Module,
    objective: Objective,
    x: Tensor,
    target: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    generator: torch.Generator,
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    """Adam on an objective, whose own parameters, if it has any, learn along."""
    modules = [module for module in (network, objective) if isinstance(module, nn.Module)]
    # an objective that asks for features holds layers of the network: twice in the optimizer they would move twice
    parameters = dict.fromkeys(p for module in modules for p in module.parameters() if p.requires_grad)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            loss = objective(network, x[rows], target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if on_epoch is not None:
            on_epoch(epoch)


def fit_network(rows: Rows, name: str, training: Training, *, seed: int) -> Fitted:
    """Choose learning rate, density and gamma on a held-out fifth of the training rows, then train on all of them."""
    scheme = SCHEMES[name]
    ways = list(_ways(scheme, training))
    fit, judge, y_fit, y_judge = train_test_split(
        rows.x,
        rows.y,
        test_size=HELD_OUT,
        stratify=rows.y if np.bincount(rows.y).min() > 1 else None,
        random_state=seed,
    )
    inner = Rows(fit, y_fit, judge, y_judge, rows.n_classes)
    tried = [_fit_way(inner, scheme, way, training, seed) for way in ways]
    hits = [float((done.predictions.test.argmax(1) == y_judge).mean()) for done in tried]
    best = int(np.argmax(hits))
    held_out = [(tried[best].predictions.test, y_judge)]
    done = _fit_way(rows, scheme, ways[best], training, seed)
    return done._replace(predictions=done.predictions._replace(held_out=held_out))


def _ways(scheme: Scheme, training: Training) -> Iterable[Way]:
    relabels = scheme.label == "genlabel"
    for rate, backend, gamma in product(
        training.learning_rates, scheme.backends or ("",), training.gammas if relabels else (0.0,)
    ):
        yield Way(rate, backend, gamma)


def _fit_way(rows: Rows, scheme: Scheme, way: Way, training: Training, seed: int) -> Fitted:
    generator = torch.Generator().manual_seed(seed)
    mean, scale = rows.x.mean(0), rows.x.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    x, x_test = (torch.tensor((part - mean) / scale, dtype=torch.float32) for part in (rows.x, rows.x_test))
    target = torch.from_numpy(rows.y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network((x.shape[1], *training.hidden, rows.n_classes), relu=training.relu)
        relabeler, embed = None, None
        settings: dict[str, Any] = {
            "learning_rate": way.learning_rate,
            "weight_decay": training.weight_decay,
            "batch_size": training.batch_size,
            "generator": generator,
        }
        epochs = training.epochs
        if scheme.label == "genlabel" and training.hidden:  # Algorithm 2
            vanilla = make_objective(
                SCHEMES["vanilla"], x, target, rows.n_classes, alpha=training.alpha, generator=generator
            )
            train(network, vanilla, x, target, epochs=training.vanilla_epochs, **settings)
            features = network[:-1].requires_grad_(False)
            embed, epochs = features, epochs - training.vanilla_epochs
            network = nn.Sequential(*features, nn.Linear(training.hidden[-1], rows.n_classes))
        if scheme.label == "genlabel":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of classes with fewer rows than features: that is the paper's setting
                how: dict[str, Any] = {"gamma": way.gamma, "leave_parents_out": scheme.leave_parents_out}
                relabeler = GenLabel(_fresh(way.backend), **how)
                relabeler.fit(x if embed is None else embed(x), target, n_classes=rows.n_classes)
        objective = make_objective(
            scheme,
            x,
            target,
            rows.n_classes,
            alpha=training.alpha,
            generator=generator,
            relabeler=relabeler,
            embed=embed,
            layers=tuple(str(2 * layer) for layer in range(1 + len(training.hidden))),
            head=str(2 * len(training.hidden)),
        )
        train(network, objective, x, target, epochs=epochs, **settings)
    with torch.no_grad():
        test = network(x_test).double().log_softmax(1).numpy()
        accuracy = float((network(x).argmax(1) == target).double().mean())
    chosen = f"learning rate {way.learning_rate:g}" + (f", {way.backend}, gamma {way.gamma:g}" if relabeler else "")
    return Fitted(network, torch.tensor(mean), torch.tensor(scale), Predictions(test, (), accuracy, chosen))


def _fresh(backend: str) -> Any:
    """An unfitted copy of the paper's density."""
    return deepcopy(density(backend))
