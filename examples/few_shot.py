"""Few labels: a network learns on the digits 0 to 4, its frozen features tell 5 to 9 apart by a few images of each.

The same three lines serve features of any pretrained network: a head on rows `(N, D)` is all that is trained. With
EfficientNet's, of photographs, `benchmarks/few_shot.py` does it.
"""

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from torch import Tensor, nn

from genlabel_sklearn import GenLabelClassifier

N_EACH = 5  # images of each class to learn from
N_DRAWS = 5
WAYS = {
    "no mixing": {"scheme": "none"},
    "mixup, clean batch": {"scheme": "mixup", "keep_clean": True},
    "GenLabel, clean batch": {"scheme": "genlabel", "keep_clean": True},
    "the density alone": {"scheme": "density"},
}


def pretrained(x: Tensor, target: Tensor) -> nn.Module:
    """A small convolutional network that has learnt some classes, without its head."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()
    )
    model = nn.Sequential(body, nn.Linear(512, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(50):
            loss = nn.functional.cross_entropy(model(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return body.eval()


def main() -> None:
    digits, y = load_digits(return_X_y=True)
    images = torch.from_numpy(digits).float().view(-1, 1, 8, 8) / 16
    known = torch.from_numpy(y) < 5
    body = pretrained(images[known], torch.from_numpy(y)[known])
    with torch.inference_mode():
        features = body(images[~known]).numpy()
    y = y[~known.numpy()]
    table = Table("way", "accuracy, %", "log-loss", title=f"{N_EACH} images a class, means of {N_DRAWS} draws")
    for way, options in WAYS.items():
        scores = []
        for draw in range(N_DRAWS):
            chosen = np.random.default_rng(draw).permutation(len(y))
            rows = np.concatenate([chosen[y[chosen] == c][:N_EACH] for c in range(5, 10)])
            others = np.setdiff1d(chosen, rows)
            head = GenLabelClassifier(C=0.1, random_state=draw, **options).fit(features[rows], y[rows])
            p = head.predict_proba(features[others])
            scores.append((100 * np.mean(head.classes_[p.argmax(1)] == y[others]), log_loss(y[others], p)))
        table.add_row(way, f"{np.mean(scores, 0)[0]:.1f}", f"{np.mean(scores, 0)[1]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
