"""
Keras
=====

Keras' MixUp layer with corrected labels, on the torch backend.
"""

# %%
# The backend is chosen before Keras is imported.

import os
import warnings

os.environ["KERAS_BACKEND"] = "torch"

import keras
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, default_collate

from genlabel_keras import GenLabelMixUp
from genlabel_plugins import GenLabel

keras.utils.set_random_seed(0)
warnings.filterwarnings("ignore")  # that a class has fewer rows than columns; that the loader shuffles
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[..., None] / 16
labels = keras.ops.one_hot(torch.tensor(digits.target), 10).cpu()
x, y, x_test, y_test = images[:300], labels[:300], images[300:900], labels[300:900]

# %%
# Before, this was ``keras.layers.MixUp(alpha=0.4, seed=0)``. The densities are fitted once, on clean images.

relabeler = GenLabel("gm", gamma=0.5).fit(x, y.argmax(-1))
mix_up = GenLabelMixUp(relabeler, alpha=0.4, seed=0)
mixed = mix_up({"images": x[:4], "labels": y[:4]})

fig, axes = plt.subplots(1, 4, figsize=(7, 2.4))
for axis, image, label in zip(axes, mixed["images"], mixed["labels"], strict=True):
    axis.imshow(image.cpu()[..., 0], cmap="gray_r")
    named = [f"{float(share):.0%} {digit}" for digit, share in enumerate(label) if share >= 0.05]
    axis.set_title("\n".join(named), fontsize=9)
    axis.axis("off")
fig.tight_layout()

# %%
# In ``fit`` the layer stands in the pipeline of the training data, never in that of validation.


def collate(samples: list) -> tuple:
    """A batch, mixed."""
    batch, target = default_collate(samples)
    mixed = mix_up({"images": batch, "labels": target})
    return mixed["images"], mixed["labels"]


model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(keras.optimizers.Adam(3e-3), "categorical_crossentropy", metrics=["accuracy"])
loader = DataLoader(TensorDataset(x, y), 50, shuffle=True, collate_fn=collate)
model.fit(loader, epochs=20, verbose=0)
print(f"{model.evaluate(x_test, y_test, verbose=0)[1]:.1%} of {len(x_test)} test digits")

# %%
# Functional models, ``PyDataset``, saving, and what is refused: :doc:`/keras`.
