"""
timm
====

A training loop with timm's Mixup, and the two lines that change.
"""

# %%
# Scikit-learn's digits as images, and a small network of timm's.

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from sklearn.datasets import load_digits
from timm.loss import SoftTargetCrossEntropy

from genlabel_timm import GenLabelCriterion, GenLabelMixup

images, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float().view(-1, 1, 8, 8) / 8 - 1
x, x_test, target, target_test = images[:240], images[240:840], target[:240], target[240:840]

torch.manual_seed(0)
np.random.seed(0)  # noqa: NPY002  # the generator that timm's mixers draw from
model = timm.create_model("test_resnet", in_chans=1, num_classes=10)

# %%
# Before, these lines were ``Mixup(mixup_alpha=1.0, num_classes=10)`` and ``SoftTargetCrossEntropy()``. ``attach``
# tells the mixer where the features are: at the input of the model's classifier, whatever its name.

mixup_fn = GenLabelMixup(mixup_alpha=1.0, num_classes=10, gamma=0.5).attach(model)
criterion = GenLabelCriterion(SoftTargetCrossEntropy(), mixup_fn, keep_clean=True)

# %%
# The loop itself stays as it is. Class statistics follow the features while the network learns (Algorithm 3 of the
# paper); ``report`` says what became of the labels since the last report.

optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
history = []
for _ in range(8):
    for rows in torch.randperm(240).split(60):
        x_mix, y = mixup_fn(x[rows], target[rows])
        loss = criterion(model(x_mix), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    history.append(criterion.report())

model.eval()
with torch.no_grad():
    accuracy = (model(x_test).argmax(1) == target_test).float().mean()
print(f"accuracy on {len(x_test)} test digits: {accuracy:.1%}")
print({name: history[-1][name] for name in ("relabeled", "distance", "clean_accuracy")})

# %%
# The densities are a classifier too. While they are worse than the network, their labels are worth little: a good
# reason for ``warmup_steps``.

fig, axis = plt.subplots(figsize=(5.5, 3))
axis.plot([report["clean_accuracy"] for report in history], label="accuracy of the densities on clean rows")
axis.plot([report["distance"] for report in history], label="how far they move a label")
axis.set(xlabel="epoch", ylim=(0, 1))
axis.legend()
fig.tight_layout()

# %%
# The prefetching loader, ``train.py``, distributed training and resuming: :doc:`/timm`.
