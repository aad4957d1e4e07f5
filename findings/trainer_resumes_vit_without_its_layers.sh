#!/usr/bin/env bash
# transformers 5.24.0: Trainer.train(resume_from_checkpoint=...) of a ViTForImageClassification leaves the weights of its layers
# as they were before: in a model of one layer 16 of 24 tensors are not loaded, and the six matrices among them stay those of
# the fresh model, random ones. save_pretrained writes the names of older versions ("vit.encoder.layer.0.attention.attention.query.weight"),
# from_pretrained translates them back, the Trainer's own loading does not; it logs missing and unexpected keys and trains on.
# Consequence: a resumed training starts from fresh attention layers under a trained head. Making the model with
# from_pretrained(checkpoint) before resuming restores all of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "accelerate==1.15.0" "torch==2.14.1"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4, num_labels=3)
rows = [{"pixel_values": torch.randn(3, 8, 8), "labels": i % 3} for i in range(16)]


def train(model, max_steps, resume):
    options = {"save_steps": 1, "learning_rate": 1e-12, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    arguments = TrainingArguments("run", max_steps=max_steps, **options)
    Trainer(model, arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
    return model


torch.manual_seed(0)
saved = train(ViTForImageClassification(config), 1, False)
torch.manual_seed(1)
for name, model in (
    ("a fresh model", ViTForImageClassification(config)),
    ("from_pretrained", ViTForImageClassification.from_pretrained("run/checkpoint-1")),
):
    resumed = dict(train(model, 2, "run/checkpoint-1").named_parameters())
    lost = [key for key, value in saved.named_parameters() if (value - resumed[key]).abs().max() > 1e-6]
    print(f"{name}: {len(lost)} of {len(resumed)} tensors are not those of the checkpoint: {lost}")
    assert len(lost) == (6 if name == "a fresh model" else 0), lost
PYTHON
