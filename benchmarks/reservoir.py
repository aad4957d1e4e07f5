"""What a reservoir of rows costs `kde` and `nn`: labels of mixed rows against those of densities of all rows.

python benchmarks/reservoir.py
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from genlabel_plugins import GenLabel, make_backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="of each of three classes")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(3).repeat(args.rows)
    x = torch.randn(len(target), 8, generator=generator) + torch.eye(3, 8)[target] * 2
    i, j = torch.randint(len(x), (2, 500), generator=generator)
    lam = torch.rand(500, 1, generator=generator)
    query = lam * x[i] + (1 - lam) * x[j]
    print("rows kept a class: mean change of a label, and from which on the largest 1 % lie")
    for name in ("kde", "nn"):
        whole = GenLabel(make_backend(name).fit(x, target)).posterior(query)
        for kept in (500, 1000, 2000, 5000, 10_000):
            changes = []
            for seed in range(args.seeds):
                density = make_backend(name, reservoir=kept)
                draws = torch.Generator().manual_seed(seed)
                for part in torch.arange(len(x)).split(10_000):
                    density.partial_fit(x[part], target[part], generator=draws)
                changes.append((GenLabel(density).posterior(query) - whole).abs().amax(1).numpy())
            print(f"{name} {kept}: {np.mean(changes):.3f} {np.quantile(changes, 0.99):.3f}")


if __name__ == "__main__":
    main()
