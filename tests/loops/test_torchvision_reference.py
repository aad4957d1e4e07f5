"""The shape of torchvision's reference script: v2 transforms in the collate, a smoothing loss, one criterion."""

import copy

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from genlabel_plugins import GenLabel, GenLabelLoss, HeadFeatures, Relabeling

TARGET = torch.arange(32) % 3
IMAGES = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + TARGET.view(-1, 1, 1, 1)
ROWS = list(zip(IMAGES, TARGET.tolist(), strict=True))


def test_the_criterion_relabels_in_training_and_measures_clean_rows_in_evaluation():
    mixup_cutmix = v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=3), v2.CutMix(num_classes=3)])
    loader = DataLoader(ROWS, batch_size=32, collate_fn=lambda batch: mixup_cutmix(*default_collate(batch)))
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=3)
    features = HeadFeatures(model, "fc")
    fitted = GenLabel("gm", gamma=0.5).fit(features(IMAGES)[:, :8], TARGET)
    seen = {}

    class FirstFeatures(nn.Module):  # densities of eight features: the test has few rows
        def relabel(self, z, y):
            seen["z"], seen["y"] = z[:, :8], y
            return fitted.relabel(z[:, :8], y)

        def log_prob(self, z):
            return fitted.log_prob(z[:, :8])

    base = nn.CrossEntropyLoss(label_smoothing=0.1)
    criterion = GenLabelLoss(base, None, features, Relabeling(3, relabeler=FirstFeatures()))
    ema = copy.deepcopy(model)
    for x, y in loader:
        output = model(x)
        loss = criterion(output, y)
        mixed = y.amax(1, keepdim=True) < 1 - 1e-6  # but for rounding, as within one class
        expected = torch.where(mixed, 0.5 * fitted.posterior(seen["z"]) + 0.5 * y, y)
        torch.testing.assert_close(loss, base(output, expected))
        loss.backward()
    for each in (model, ema):
        each.eval()
        with torch.inference_mode():
            output = each(IMAGES)
            assert torch.equal(criterion(output, TARGET), base(output, TARGET))
