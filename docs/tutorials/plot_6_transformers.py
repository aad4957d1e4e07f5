"""
transformers
============

A Trainer in place of the Trainer; data set, collator and arguments stay as they are.
"""

# %%
# Scikit-learn's digits as images, and a small vision transformer with random weights: nothing is downloaded.

import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from genlabel_plugins import GenLabel, Mixup, Relabeling
from genlabel_transformers import GenLabelTrainer

transformers.logging.set_verbosity_error()
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
rows = [{"pixel_values": image, "labels": int(label)} for image, label in zip(images, digits.target, strict=True)]
train, test = rows[:600], rows[600:1200]


def parts() -> tuple[ViTForImageClassification, TrainingArguments]:
    """The same start for each way."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = ViTForImageClassification(ViTConfig(**size, image_size=8, patch_size=2, num_channels=1, num_labels=10))
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=15,
        per_device_train_batch_size=50,
        learning_rate=3e-3,
        logging_steps=12,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    return model, arguments


def accuracy(trainer: Trainer) -> float:
    """Share of the test digits that it gets right."""
    found = trainer.predict(test)
    return float(np.mean(found.predictions.argmax(-1) == found.label_ids))


# %%
# Densities of the classes, fitted once on the clean training images (Algorithm 1 of the paper). Without ``relabeling``
# the trainer learns them from the pooled features as it trains (Algorithm 3), which asks for a network that has
# features to speak of: this one starts from nothing.

x, target = torch.stack([row["pixel_values"] for row in train]), torch.tensor([row["labels"] for row in train])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # sixty rows of a class in 64 columns: covariances are pooled
    relabeler = GenLabel("gm", gamma=0.5).fit(x, target)

# %%
# Before, each of these was ``Trainer(model, arguments, train_dataset=train)``.


def trained(**options: object) -> Trainer:
    """One way to train, of the same start."""
    model, arguments = parts()
    kind = GenLabelTrainer if options else Trainer
    trainer = kind(model, arguments, train_dataset=train, **options)
    trainer.remove_callback(transformers.PrinterCallback)  # which prints each line of the log
    trainer.train()
    return trainer


mix = Mixup(10, alpha=0.4)
ways = {
    "no mixing": trained(),
    "mixup": trained(mix=mix, relabeling=Relabeling(10, gamma=0.0)),
    "GenLabel": trained(mix=mix, relabeling=Relabeling(10, relabeler=relabeler), space="input"),
}
for name, trainer in ways.items():
    print(f"{name}: {accuracy(trainer):.1%} of {len(test)} test digits")

# %%
# What becomes of the labels stands in the Trainer's log.

log = [line for line in ways["GenLabel"].state.log_history if "genlabel_distance" in line]
fig, axis = plt.subplots(figsize=(5.5, 3))
axis.plot([line["epoch"] for line in log], [line["genlabel_distance"] for line in log])
axis.set(xlabel="epoch", ylabel="how far labels move", ylim=(0, None))
fig.tight_layout()

# %%
# One split proves nothing. Texts and tables, frozen and joint features, evaluation, checkpoints and several processes:
# :doc:`/transformers`.
