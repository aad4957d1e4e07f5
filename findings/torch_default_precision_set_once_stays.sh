#!/usr/bin/env bash
# torch 2.14.1: torch.set_float32_matmul_precision("highest") sets the default, and nothing that can be read of it changes; yet after
# that call torch.backends.fp32_precision = "tf32", which speaks for all operations, reaches convolutions alone and no longer matrix
# products, which stay in float32 without a word: the default was "none", which follows its parent, and the call wrote "ieee",
# which does not.
# Seen below: two processes that differ in that one call (what is set can be read without a GPU).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "numpy<3"
cd "$folder"
cat > one.py <<'PYTHON'
import sys

import torch

matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
before = torch.get_float32_matmul_precision(), matmul.allow_tf32
if sys.argv[1] == "after":
    torch.set_float32_matmul_precision("highest")
assert (torch.get_float32_matmul_precision(), matmul.allow_tf32) == before == ("highest", False)
torch.backends.fp32_precision = "tf32"
print(f"{sys.argv[1]} the default was set: products {matmul.fp32_precision}, convolutions {conv.fp32_precision}")
assert torch.__version__.startswith("2.14.1")
PYTHON
"$folder/venv/bin/python" one.py before | tee before.txt
"$folder/venv/bin/python" one.py after | tee after.txt
grep -q "products tf32, convolutions tf32" before.txt
grep -q "products ieee, convolutions tf32" after.txt
