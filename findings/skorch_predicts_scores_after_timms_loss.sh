#!/usr/bin/env bash
# skorch 1.4.0: beside timm 1.0.31, predict_proba of a NeuralNetClassifier puts a softmax behind the module if the criterion is torch's
# CrossEntropyLoss, and nothing behind any other, such as timm's SoftTargetCrossEntropy, the loss of mixed labels: what it
# returns are raw scores, negative ones among them, without a warning. predict is right, so accuracy does not tell.
# Consequence: roc_auc and thresholds work on numbers that are no probabilities; predict_nonlinearity=torch.nn.Softmax(1) mends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "timm==1.0.31" "skorch==1.4.0" "scikit-learn==1.9.1"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from skorch import NeuralNetClassifier
from sklearn.datasets import load_iris
from timm.loss import SoftTargetCrossEntropy

X, y = load_iris(return_X_y=True)
X, soft = (X - X.mean(0)).astype("float32"), np.eye(3, dtype="float32")[y]
options = {"train_split": None, "verbose": 0, "max_epochs": 30, "lr": 0.1, "classes": [0, 1, 2]}
for name, criterion, more, is_right in (
    ("torch's CrossEntropyLoss", torch.nn.CrossEntropyLoss, {}, True),
    ("timm's SoftTargetCrossEntropy", SoftTargetCrossEntropy, {}, False),
    ("timm's, predict_nonlinearity", SoftTargetCrossEntropy, {"predict_nonlinearity": torch.nn.Softmax(1)}, True),
):
    torch.manual_seed(0)
    net = NeuralNetClassifier(torch.nn.Linear(4, 3), criterion=criterion, **options, **more).fit(X, soft)
    p = net.predict_proba(X)
    print(f"{name}: rows sum to {p.sum(1).min():.2f} ... {p.sum(1).max():.2f}, least {p.min():.2f}, accuracy {np.mean(p.argmax(1) == y):.2f}")
    assert (bool(np.allclose(p.sum(1), 1, atol=1e-5)) and bool((p >= 0).all())) == is_right
PYTHON
