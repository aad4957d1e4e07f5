"""Table 6: a small convolutional network on images, tuned for each scheme, and AutoAttack."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from genlabel_plugins.paper.data import load_images
from genlabel_plugins.paper.networks import train
from genlabel_plugins.paper.objectives import make_objective
from genlabel_plugins.paper.schemes import Scheme
from genlabel_plugins.relabeling import Relabeling

_MIXING = {
    "mixup": Scheme("mixup"),
    "mixup + GenLabel": Scheme("genlabel"),
    "manifold mixup": Scheme("mixup", mix="manifold"),
    "manifold mixup + GenLabel": Scheme("genlabel", mix="manifold"),
}
IMAGE_SCHEMES = {"vanilla": Scheme("none"), "AdaMixUp": Scheme("adamixup"), **_MIXING}
IMAGE_SCHEMES |= {f"{name}, clean batch kept": replace(way, keep_clean=True) for name, way in _MIXING.items()}
LEARNING_RATES, WEIGHT_DECAYS, GAMMAS = (0.003, 0.001), (1e-4, 1e-2), (0.5, 0.2)  # tuned on held-out training rows
EPOCHS, BATCH_SIZE, ALPHA = {"mnist": 7, "cifar10": 18}, 128, 1.0
RADIUS = {
    "mnist": 0.1,
    "cifar10": 1 / 255,
}  # of AutoAttack, in the maximum norm; the paper's is in its missing appendix
N_ATTACKED = 40


def conv_net(shape: tuple[int, ...], n_classes: int) -> nn.Sequential:
    """Two convolutions, one hidden layer and a classifier: 16 and 32 channels, 64 features."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), 64), nn.ReLU()),
        nn.Linear(64, n_classes),
    )


def fit_images(name: str, scheme: str, data: Path | None, *, seed: int, quick: bool = False) -> dict[str, Any]:
    """Tune, train and attack; clean accuracy, accuracy under AutoAttack, and the checks of the attack."""
    x, y, x_test, y_test = load_images(name, data)
    images, test = _as_tensors(x), _as_tensors(x_test)
    if quick:
        images, y, test, y_test = images[:200], y[:200], test[:100], y_test[:100]
    epochs = 5 if quick else EPOCHS[name]
    grid = list(product(LEARNING_RATES, WEIGHT_DECAYS))[: 1 if quick else None]
    gammas = (GAMMAS if IMAGE_SCHEMES[scheme].label == "genlabel" else (0.0,))[: 1 if quick else None]
    fit, judge = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    run = partial(_train, scheme=IMAGE_SCHEMES[scheme], epochs=epochs, seed=seed)
    target = torch.from_numpy(y)

    @cache
    def judged(rate: float, decay: float, gamma: float) -> float:
        model = run(images[fit], target[fit], learning_rate=rate, weight_decay=decay, gamma=gamma)
        return _accuracy(model, images[judge], target[judge])

    # gamma at the first rate and decay, then these at that gamma: all together would cost GenLabel twice as much.
    gamma = max(gammas, key=lambda each: judged(*grid[0], each)) if len(gammas) > 1 else gammas[0]
    rate, decay = max(grid, key=lambda each: judged(*each, gamma)) if len(grid) > 1 else grid[0]
    model = run(images, target, learning_rate=rate, weight_decay=decay, gamma=gamma)
    y_test_ = torch.from_numpy(y_test)
    some = slice(10 if quick else N_ATTACKED)
    attacked = auto_attack(model, test[some], y_test_[some], RADIUS[name], seed=seed, quick=quick)
    chosen = f"learning rate {rate:g}, weight decay {decay:g}, gamma {gamma:g}"
    return {"accuracy": _accuracy(model, test, y_test_), "chosen": chosen} | attacked


def auto_attack(model: nn.Module, x: Tensor, y: Tensor, radius: float, *, seed: int, quick: bool) -> dict[str, float]:
    """Accuracy under AutoAttack, its own suite below four classes; `half_radius` may not lie below `robust`.

    `apgd` is the accuracy under its first attack alone: the whole suite never raises it.
    """
    from pyautoattack import AutoAttack  # noqa: PLC0415

    n_classes = model(x[:1]).shape[1]
    suite = {2: ["apgd-ce"], 3: ["apgd-ce", "fab", "square"]}.get(n_classes, ["apgd-ce", "apgd-t", "fab-t", "square"])
    ways = {"robust": (suite, radius), "apgd": (suite[:1], radius), "half_radius": (suite[:1], radius / 2)}
    if quick:
        ways["robust"] = (suite[:1], radius)
    found = {"clean": _accuracy(model, x, y)}
    for name, (attacks, eps) in ways.items():
        attack = AutoAttack(model.eval(), attacks=attacks, eps=eps, norm="Linf", seed=seed, version="custom")
        if quick:
            attack.apgd.n_iter, attack.apgd.n_restarts = 20, 1
        with torch.enable_grad():
            near = attack.run_standard_evaluation(x, y, batch_size=len(x))
        near = near[0] if isinstance(near, tuple) else near
        found[name] = _accuracy(model, near, y)
    return found


def _train(
    x: Tensor,
    target: Tensor,
    *,
    scheme: Scheme,
    epochs: int,
    seed: int,
    learning_rate: float,
    weight_decay: float,
    gamma: float,
) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    n_classes = int(target.max()) + 1
    warmup = -(-len(x) // BATCH_SIZE)  # an epoch of mixup: labels of features at random feed on themselves
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = conv_net(tuple(x.shape[1:]), n_classes)
        objective = make_objective(
            scheme,
            x,
            target,
            n_classes,
            alpha=ALPHA,
            generator=generator,
            relabeler=Relabeling(n_classes, gamma=gamma, warmup_steps=warmup) if scheme.label == "genlabel" else None,
            embed=model[:-1],
            layers=("", "1", "2"),
            head="3",
        )
        train(
            model,
            objective,
            x,
            target,
            epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=BATCH_SIZE,
            generator=generator,
        )
    return model


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, target: Tensor) -> float:
    hits = [model(part).argmax(1) == y for part, y in zip(x.split(500), target.split(500), strict=True)]
    return float(torch.cat(hits).double().mean())


def _as_tensors(images: Any) -> Tensor:
    x = torch.from_numpy(np.array(images)).float() / 255
    return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
