"""GenLabel in a raw loop of Accelerate: Algorithm 3 on digits, with gradient accumulation and a resumed run."""

from __future__ import annotations

import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from genlabel_plugins import GenLabelLoss, HeadFeatures, LabeledMix, Mixup, Relabeling

EPOCHS = 4


def loaders() -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    target = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = (TensorDataset(x[rows], target[rows]) for rows in (order[:1000], order[1000:]))
    return DataLoader(train, batch_size=50, shuffle=True), DataLoader(test, batch_size=200)


def run(folder: str, *, resume: bool) -> float:
    """Train, from the checkpoint of half the epochs if one resumes, and return the accuracy on clean rows."""
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    set_seed(0, device_specific=True)  # every process draws a lam of its own
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    mix, relabeling = LabeledMix(Mixup(10), keep_clean=True), Relabeling(10, gamma=0.3, warmup_steps=60)
    criterion = GenLabelLoss(nn.CrossEntropyLoss(), mix, HeadFeatures(network, "5"), relabeling)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    model, optimizer, train, test = accelerator.prepare(network, optimizer, *loaders())
    accelerator.register_for_checkpointing(relabeling)  # class statistics ride in the checkpoint
    if resume:
        accelerator.load_state(folder)
    for epoch in range(EPOCHS // 2 if resume else 0, EPOCHS):
        train.set_epoch(epoch)
        for x, target in train:
            with accelerator.accumulate(model):
                x_mix, y = mix(x, target)
                loss = criterion(model(x_mix), y)  # a mean: Accelerate divides it by the accumulation steps
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        report = relabeling.report()
        accelerator.print(f"epoch {epoch}: loss {loss:.3f}, relabeled {100 * report['relabeled']:.0f} %")
        if not resume and epoch + 1 == EPOCHS // 2:
            accelerator.save_state(folder)
    model.eval()
    with torch.no_grad():
        right = [
            accelerator.gather_for_metrics((model(x).argmax(1) == target).float().to(accelerator.device))
            for x, target in test
        ]
    return float(torch.cat(right).mean())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = run(folder, resume=False), run(folder, resume=True)
    print(f"accuracy on clean rows: {100 * whole:.1f} %, of the resumed run {100 * resumed:.1f} %")
    assert whole == resumed


if __name__ == "__main__":
    main()
