"""GenLabel in a plain PyTorch loop: no mixing, mixup and GenLabel on scikit-learn's iris data, over three seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from genlabel_plugins import GenLabel, GenLabelMix, LabeledMix, Mixup, intrusion_rates

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
SEEDS = (0, 1, 2)


def no_mixing(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return x, F.one_hot(target, 3).to(x.dtype)


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, target = load_iris(return_X_y=True)
    train_x, test_x, train_target, test_target = train_test_split(
        x, target, test_size=0.3, stratify=target, random_state=seed
    )
    mean, spread = train_x.mean(0), train_x.std(0)
    train_x, test_x = (torch.tensor((rows - mean) / spread, dtype=torch.float32) for rows in (train_x, test_x))
    return train_x, torch.tensor(train_target), test_x, torch.tensor(test_target)


def train(mix: Mix, x: Tensor, target: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(150):
        for rows in torch.randperm(len(x)).split(32):
            x_mix, y = mix(x[rows], target[rows])
            loss = F.cross_entropy(model(x_mix), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def main() -> None:
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in SEEDS:
        train_x, train_target, test_x, test_target = split(seed)
        genlabel = GenLabel("gm", gamma=1.0).fit(train_x, train_target)
        mixes: dict[str, Mix] = {
            "no mixing": no_mixing,
            "mixup": LabeledMix(Mixup(3)),
            "GenLabel": GenLabelMix(genlabel),
        }
        for name, mix in mixes.items():
            logits = train(mix, train_x, train_target, seed)(test_x)
            accuracy = (logits.argmax(1) == test_target).float().mean().item()
            scores.setdefault(name, []).append((100 * accuracy, F.cross_entropy(logits, test_target).item()))
    print(f"mixup samples that intrude on a third class: {100 * intrusion_rates(train_x, train_target).overall:.1f} %")
    print(f"{'':12}{'test accuracy, %':>20}{'test log-loss':>20}")
    for name, rows in scores.items():
        accuracy, loss = torch.tensor(rows).unbind(1)
        columns = (f"{accuracy.mean():.1f} +- {accuracy.std():.1f}", f"{loss.mean():.3f} +- {loss.std():.3f}")
        print(f"{name:12}{columns[0]:>20}{columns[1]:>20}")


if __name__ == "__main__":
    main()
