"""What a whole training step costs under a Gaussian GenLabel, against the same step under lean mixup.

    OMP_NUM_THREADS=1 python benchmarks/steps.py

20 features, 10 classes, batches of 128, Adam; lean mixup mixes rows and labels by one weight, one cross-entropy.
"Arithmetic" is what equation (1) asks for at least, in eager operations; "compiled" is `relabel` under `torch.compile`.
"by Relabeling" is what hosts run: meters, mask and warm-up besides, and no `torch.compile`.
"latent" relabels by the features of a frozen trunk of 128, which both ways run on the mixed rows: Algorithm 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from _timing import Results, add_json_option, interleave, ratios, versions
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from genlabel_plugins import GenLabel, Relabeling

N_FEATURES, N_CLASSES, BATCH, WIDTH = 20, 10, 128, 128
BARS = {"logistic regression": 1.20, "MLP 2 x 128": 1.10, "latent gm, d = 128": 2.0}


def mlp() -> nn.Sequential:
    hidden = [nn.Linear(N_FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, N_CLASSES))


def step(
    model: nn.Module, trunk: nn.Module | None, relabel: Callable[[Tensor, Tensor], Tensor] | None, x: Tensor, y: Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    beta = torch.distributions.Beta(1.0, 1.0)

    def run() -> None:
        lam = beta.sample()
        x_mix, label = torch.lerp(x.flip(0), x, lam), torch.lerp(y.flip(0), y, lam)
        if trunk is not None:
            with torch.no_grad():
                x_mix = trunk(x_mix)
        if relabel is not None:
            label = relabel(x_mix, label)
        loss = cross_entropy(model(x_mix), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


class Arithmetic:
    """Equation (1) on tensors at hand, of one Gaussian per class in few dimensions: no check, no row counted."""

    def __init__(self, genlabel: GenLabel) -> None:
        gm = genlabel.density
        mean, matrix = gm.whiten_.split([1, gm.whiten_.shape[1] - 1], 1)
        self.state = gm.offset_, mean.contiguous(), matrix.contiguous(), gm.log_norm_

    @torch.no_grad()
    def relabel(self, x: Tensor, y_mix: Tensor) -> Tensor:
        offset, mean, matrix, log_norm = self.state
        square = torch.addmm(mean, matrix, (x - offset).T).square_().view(N_CLASSES, -1, len(x)).sum(1)
        return torch.lerp(y_mix, torch.add(log_norm, square, alpha=-0.5).softmax(0).T, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(N_CLASSES).repeat(500)
    x = torch.randn(len(target), N_FEATURES, generator=generator) + 2 * torch.eye(N_CLASSES, N_FEATURES)[target]
    rows = torch.randperm(len(x), generator=generator)[:BATCH]
    y = one_hot(target[rows], N_CLASSES).float()
    trunk = mlp()[:4].requires_grad_(False)
    cases = {
        "logistic regression": (lambda: nn.Linear(N_FEATURES, N_CLASSES), None, x),
        "MLP 2 x 128": (mlp, None, x),
        "latent gm, d = 128": (lambda: nn.Linear(WIDTH, N_CLASSES), trunk, trunk(x)),
    }
    results = Results(args.json)
    for name, (make, frozen, features) in cases.items():
        genlabel = GenLabel("gm").fit(features, target)
        ways = {
            "mixup": step(make(), frozen, None, x[rows], y),
            "genlabel": step(make(), frozen, genlabel.relabel, x[rows], y),
            "by Relabeling": step(make(), frozen, Relabeling(N_CLASSES, relabeler=genlabel).label, x[rows], y),
            "compiled": step(make(), frozen, torch.compile(genlabel.relabel, fullgraph=True), x[rows], y),
        }
        if frozen is None:
            ways["arithmetic"] = step(make(), None, Arithmetic(genlabel).relabel, x[rows], y)
        seconds = interleave(ways, rounds=args.rounds)
        low, middle, high = ratios(seconds, "genlabel", "mixup")
        results.add(name, ratios(seconds, "mixup", "genlabel"))
        verdict = "met" if middle <= BARS[name] else "MISSED"
        taken = " and ".join(f"{1e6 * median(seconds[way]):.0f} us" for way in ("mixup", "genlabel"))
        spread = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        print(f"{name}: {taken}, {spread} of the step of lean mixup  <= {BARS[name]}: {verdict}")
        for way in list(ways)[2:]:
            low, middle, high = ratios(seconds, way, "mixup")
            results.add(f"{name}, {way}", ratios(seconds, "mixup", way))
            print(f"    {way}: {1e6 * median(seconds[way]):.0f} us, {middle:.2f} [{low:.2f}, {high:.2f}]")
    print(versions("torch"))
    results.write("torch")


if __name__ == "__main__":
    main()
