"""What the loss of a pytorch-tabular model is given, against scipy and against a second reading of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_tabular_data import cars, small_network, tabular_model, wine
from scipy.special import softmax
from scipy.stats import multivariate_normal
from torch import nn

from genlabel_plugins import GenLabel
from genlabel_plugins.densities.backends.mixed_types import MixedTypes, encode_rows
from genlabel_pytorch_tabular import GenLabelCallback

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pytorch-tabular counts its runs in the working directory


class Recorder(nn.CrossEntropyLoss):
    """A loss that remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, logits, target):
        if logits.requires_grad:
            self.calls.append((logits.detach(), target.detach()))
        return super().forward(logits, target)


class Batches(Callback):
    """Remember each batch as the training step saw it, and what its head saw."""

    def __init__(self):
        self.seen, self.features = [], []

    def on_train_start(self, trainer, pl_module):
        pl_module.head.register_forward_pre_hook(lambda head, args: self.features.append(args[0].detach()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(dict(batch))


def record(frame, **options):
    model, loss, batches = tabular_model(frame, genlabel=True, **options), Recorder(), Batches()
    model.fit(frame, validation=frame, loss=loss, callbacks=[batches])
    return model, loss.calls, batches


def unless_unmixed(posterior, mixed, clean, target):
    """The posterior, but the own class for rows that met themselves and came back as they were."""
    own = (torch.as_tensor(mixed)[:, None] == torch.as_tensor(clean)[None]).all(-1).any(1)
    posterior = torch.as_tensor(posterior)
    return torch.where(own[:, None], torch.eye(posterior.shape[1], dtype=posterior.dtype)[target], posterior)


def test_labels_are_the_posterior_of_scipys_gaussians():
    params = {"shrinkage": 0.0, "reg_covar": 0.0}
    model, calls, batches = record(wine(), genlabel_gamma=1.0, genlabel_backend_params=params)
    data = model.datamodule.train_dataset
    x, target = data.continuous_X.astype(float), data.y[:, 0]
    gaussians = [
        multivariate_normal(rows.mean(0), np.cov(rows.T, ddof=0)) for rows in (x[target == c] for c in range(3))
    ]
    assert len(calls) == len(batches.seen) == 2 * 6
    for (_, y), batch in zip(calls, batches.seen, strict=True):
        score = np.stack([each.logpdf(batch["continuous"].double().numpy()) for each in gaussians], 1)
        expected = unless_unmixed(softmax(score, 1), batch["continuous"], data.continuous_X, batch["target"][:, 0])
        np.testing.assert_allclose(y.numpy(), expected, atol=2e-4)
        assert batch["target"].dtype == torch.long  # metrics see classes


def test_gamma_zero_is_mixup():
    model, calls, batches = record(wine(), genlabel_gamma=0.0, genlabel_alpha=0.5)
    rows = torch.as_tensor(model.datamodule.train_dataset.continuous_X)
    target = torch.as_tensor(model.datamodule.train_dataset.y[:, 0])
    for (_, y), batch in zip(calls[:2], batches.seen[:2], strict=True):
        torch.testing.assert_close(y.sum(1), torch.ones(len(y)))
        lam = y.gather(1, batch["target"]).max()  # one lam per batch; a row mixed within its class shows 1
        for x_mix, label, c in zip(batch["continuous"], y, batch["target"][:, 0], strict=True):
            if label.max() == 1:
                continue
            share, other = label[c], int(torch.where(torch.arange(3) == c, 0, label).argmax())
            x_i, x_j = rows[target == c], rows[target == other]
            ends = share * x_i[:, None] + (1 - share) * x_j[None]
            assert (ends - x_mix).abs().amax(-1).min() < 1e-5  # some pair of training rows has this mixture
            assert share <= lam


@pytest.mark.slow
def test_posterior_and_mixed_label_are_blended_by_gamma():
    options = {"genlabel_backend": "gm", "genlabel_backend_params": {"covariance_type": "diag"}}
    labels = {}
    for gamma in (0.0, 0.25, 1.0):
        _, calls, _ = record(wine(), genlabel_gamma=gamma, **options)
        labels[gamma] = calls[0][1]
    torch.testing.assert_close(labels[0.25], 0.25 * labels[1.0] + 0.75 * labels[0.0])


def test_clean_batch_beside_the_mixed_one():
    _, calls, batches = record(wine(), genlabel_keep_clean=True, batch_size=30)
    logits, y = calls[0]
    assert len(logits) == len(y) == 60
    assert torch.equal(y[:30].argmax(1), batches.seen[0]["target"][:30, 0])
    assert torch.equal(y[:30].amax(1), torch.ones(30))


def test_categories_are_swapped_never_averaged():
    model, _, batches = record(cars(), genlabel_alpha=5.0)
    known = torch.as_tensor(model.datamodule.train_dataset.categorical_X)
    changed = 0
    for batch in batches.seen:
        for column in range(3):
            assert set(batch["categorical"][:, column].tolist()) <= set(known[:, column].tolist())
        rows = (batch["categorical"][:, None] == known[None]).all(-1).any(1)
        changed += int((~rows).sum())
    assert changed > 0  # some combinations of categories are new


def test_labels_of_mixed_columns_are_those_of_a_fitted_density():
    model, calls, batches = record(cars(), genlabel_gamma=1.0)
    data = model.datamodule.train_dataset
    cardinality = list(model.model.hparams.categorical_cardinality)
    rows = encode_rows(torch.as_tensor(data.continuous_X), torch.as_tensor(data.categorical_X), cardinality)
    density = MixedTypes(cardinality=cardinality).fit(rows, torch.as_tensor(data.y[:, 0]), n_classes=3)
    batch = batches.seen[0]
    x_mix = encode_rows(batch["continuous"], batch["categorical"], cardinality)
    posterior = unless_unmixed(GenLabel(density).posterior(x_mix), x_mix, rows, batch["target"][:, 0])
    torch.testing.assert_close(calls[0][1], posterior)


def test_embeddings_are_mixed_with_the_numbers():
    """A network of one linear layer sees the mixed embedding: its features are those of the rows, mixed."""
    network = small_network(layers="8", activation="Identity", batch_norm_continuous_input=False)
    options = {"genlabel_space": "embedding", "genlabel_gamma": 0.0, "genlabel_keep_clean": True}
    _, calls, batches = record(cars(), model=network, batch_size=40, max_epochs=1, **options)
    features, y, target = batches.features[0], calls[0][1], batches.seen[0]["target"][:, 0]
    clean, mixed = features[:40], features[40:]
    assert torch.equal(batches.seen[0]["categorical"][:40], batches.seen[0]["categorical"][40:])
    lam = y[40:].gather(1, target[40:, None])
    lam = lam[lam < 1].mode().values
    candidates = lam * clean[:, None] + (1 - lam) * clean[None]  # (row, partner, feature)
    gap = (candidates - mixed[:, None]).abs().amax(-1)
    torch.testing.assert_close(gap.min(1).values, torch.zeros(40), atol=1e-4, rtol=0)
    partner = gap.argmin(1)
    one_hot = torch.eye(3)[target[:40]]
    torch.testing.assert_close(y[40:], lam * one_hot + (1 - lam) * one_hot[partner])


def test_cutmix_keeps_whole_columns():
    model, calls, batches = record(wine(), genlabel_mix="column_cutmix", genlabel_gamma=0.0)
    rows = torch.as_tensor(model.datamodule.train_dataset.continuous_X)
    batch, y = batches.seen[0], calls[0][1]
    assert (batch["continuous"][:, None] == rows[None]).any(1).all()  # every value is some row's
    assert torch.equal((y * 13).round(), (y * 13 + 1e-4).floor())  # shares of 13 columns


def test_generative_mixing_meets_the_ratio_of_its_label():
    model, calls, batches = record(wine(), genlabel_mix="generative", genlabel_gamma=0.0)
    data = model.datamodule.train_dataset
    relabeler = GenLabel("gm").fit(torch.as_tensor(data.continuous_X), torch.as_tensor(data.y[:, 0]), n_classes=3)
    y, log_prob = calls[0][1], relabeler.log_prob(batches.seen[0]["continuous"])
    pairs = y.topk(2)
    between = (pairs.values[:, 1] > 0.02) & (pairs.values[:, 1] < 0.98)
    assert between.any()
    ratio = log_prob.gather(1, pairs.indices)[between].softmax(1)
    torch.testing.assert_close(ratio, pairs.values[between], atol=2e-3, rtol=0)


@pytest.mark.slow
def test_several_targets_have_a_relabeler_each():
    _, calls, _ = record(cars(), targets=("target", "old"), genlabel_gamma=0.0)
    assert [y.shape[1] for _, y in calls[:4]] == [3, 2, 3, 2]
    shares = [y[(y > 0) & (y < 1)].unique() for _, y in calls[:2]]  # one lam per batch, the same for both
    torch.testing.assert_close(shares[0], shares[1])
    _, calls, _ = record(cars(), targets=("target", "old"), genlabel_gamma=1.0)
    assert all(torch.allclose(y.sum(1), torch.ones(len(y))) for _, y in calls)


class TestFrozenLatentSpace:
    """Algorithm 2."""

    @pytest.mark.slow
    def test_freezes_all_but_the_head(self):
        class Snapshots(Callback):
            def __init__(self):
                self.states = []

            def on_train_epoch_end(self, trainer, pl_module):
                self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})

        snapshots = Snapshots()
        frame = cars()
        options = {"genlabel_space": "latent", "genlabel_warmup_epochs": 2, "max_epochs": 4}
        model = tabular_model(frame, genlabel=True, model=small_network(use_batch_norm=True), **options)
        model.fit(frame, callbacks=[snapshots])
        first, second, third, fourth = snapshots.states
        assert not torch.equal(first["head.layers.0.weight"], second["head.layers.0.weight"])
        assert not torch.equal(third["head.layers.0.weight"], fourth["head.layers.0.weight"])
        for name in second:
            if not name.startswith("head"):
                assert torch.equal(second[name], fourth[name]), name  # BatchNorm's statistics and counters too
            assert first[name].ndim == 0 or not torch.equal(first[name], second[name]), name

    def test_labels_are_the_posterior_of_the_features(self):
        options = {"genlabel_space": "latent", "genlabel_warmup_epochs": 1, "genlabel_gamma": 1.0}
        model, calls, batches = record(wine(), max_epochs=2, **options)
        data = model.datamodule.train_dataset
        model.model.eval()
        x = {"continuous": torch.as_tensor(data.continuous_X), "categorical": torch.zeros(len(data), 0)}
        with torch.no_grad():
            features = model.model(x)["backbone_features"]
        relabeler = GenLabel("gm").fit(features, torch.as_tensor(data.y[:, 0]), n_classes=3)
        assert calls[0][1].ndim == 1  # the warm-up trains on classes
        batch = batches.seen[-1]
        with torch.no_grad():
            z_mix = model.model(batch)["backbone_features"]
        y_gen = relabeler.posterior(z_mix).numpy()
        expected = unless_unmixed(y_gen, batch["continuous"], data.continuous_X, batch["target"][:, 0])
        np.testing.assert_allclose(calls[-1][1].numpy(), expected, atol=1e-4, rtol=0)

    def test_fresh_head_is_drawn_anew(self):
        class Heads(Callback):
            def __init__(self):
                self.weights = []

            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                if batch_idx == 0:
                    self.weights.append(pl_module.head.layers[0].weight.detach().clone())

        jumps = {}
        for fresh in (True, False):
            frame, heads = wine(), Heads()
            options = {"genlabel_space": "latent", "genlabel_warmup_epochs": 1, "genlabel_fresh_head": fresh}
            tabular_model(frame, genlabel=True, batch_size=178, **options).fit(frame, callbacks=[heads])
            jumps[fresh] = (heads.weights[1] - heads.weights[0]).abs().max()
        assert jumps[False] < 0.03  # one step of Adam at 0.02
        assert jumps[True] > 0.1

    def test_warms_up_for_a_fifth_of_all_epochs(self):
        _, calls, _ = record(wine(), genlabel_space="latent", max_epochs=5, batch_size=178)
        assert [y.ndim for _, y in calls] == [1, 2, 2, 2, 2]
        assert [GenLabelCallback(space="latent").options.warmup(epochs) for epochs in (1, 2, 5, 6, 100)] == [
            0,
            1,
            1,
            2,
            20,
        ]

    def test_refuses_a_warmup_without_an_end(self):
        frame = wine()
        with pytest.raises(ValueError, match="warmup_epochs must be below max_epochs=2, got 2"):
            tabular_model(frame, genlabel=True, genlabel_warmup_epochs=2).fit(frame)


class TestRunningStatistics:
    """Algorithm 3."""

    @pytest.mark.parametrize("keep_clean", [False, True])
    def test_labels_are_the_posterior_of_the_running_gaussians(self, keep_clean):
        options = {
            "genlabel_space": "latent",
            "genlabel_backend": "running",
            "genlabel_backend_params": {"beta": 0.0},
            "genlabel_gamma": 1.0,
            "genlabel_keep_clean": keep_clean,
        }
        _, calls, batches = record(wine(), batch_size=71, max_epochs=1, **options)
        logits, y = calls[0]
        assert len(logits) == len(y) == (142 if keep_clean else 71)
        clean, mixed = batches.features[0].double().numpy()[:71], batches.features[0].double().numpy()[71:]
        target = batches.seen[0]["target"][:71, 0].numpy()
        score = []
        for c in range(3):
            rows = clean[target == c]
            variance = rows.var(0, ddof=1).mean()
            score.append(multivariate_normal(rows.mean(0), variance * np.eye(rows.shape[1])).logpdf(mixed))
        score = np.stack(score, 1)
        score[np.arange(len(score)), score.argmin(1)] = -np.inf  # the two most likely classes
        expected = unless_unmixed(softmax(score, 1), mixed, clean, target)
        np.testing.assert_allclose(y[-71:].numpy(), expected, atol=1e-3)

    def test_warmup_only_watches(self):
        options = {"genlabel_space": "latent", "genlabel_backend": "running", "genlabel_warmup_epochs": 1}
        model, calls, _ = record(wine(), batch_size=178, **options)
        assert [y.ndim for _, y in calls] == [1, 2]
        assert "genlabel_clean_accuracy" in model.trainer.callback_metrics
