#!/usr/bin/env bash
# torchvision 0.29.1: on torch 2.14.1, v2.MixUp(alpha=0.001), which asks for next to no mixing, mixes a quarter of the batches
# at exactly one half, the most that there is. torch.distributions.Beta draws two Gamma numbers and divides; both are clamped
# at the least number of their type, float64 no better than float32, and equal numbers divide to one half. numpy's beta is right:
# 0.2 % of its numbers lie between a tenth and nine tenths.
# Consequence: in a sweep of alpha towards zero, accuracy does not approach that of no mixing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from torchvision.transforms import v2

torch.manual_seed(0)
x, target = torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])
for alpha, seen in ((1.0, 0.0), (0.1, 0.0), (0.001, 0.24)):
    mixup = v2.MixUp(alpha=alpha, num_classes=2)
    lam = torch.stack([mixup(x, target)[1][0, 0] for _ in range(4000)])
    halves = (lam == 0.5).float().mean().item()
    between = np.random.RandomState(0).beta(alpha, alpha, 100_000)
    between = ((between > 0.1) & (between < 0.9)).mean()
    print(f"alpha {alpha}: {halves:.1%} of batches are mixed at exactly one half; numpy between a tenth and nine tenths: {between:.1%}")
    assert abs(halves - seen) < 0.03, (halves, seen)
assert between < 0.003
PYTHON
