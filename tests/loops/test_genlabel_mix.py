"""GenLabelMix inside the hosts: plain loops, loaders, torchvision, Hugging Face collators and Accelerate."""

import gc
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from genlabel_plugins import (
    BatchMix,
    GenerativeMix,
    GenLabel,
    GenLabelMix,
    LabeledMix,
    ManifoldMix,
    Mixup,
    Relabeling,
    RelabelTransform,
    RunningGaussian,
    make_backend,
)
from genlabel_plugins.mixing import MIXERS


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=96, n_features=4, n_classes=3):
    target = torch.arange(n) % n_classes
    return torch.randn(n, n_features, generator=seeded()) + 2.0 * target[:, None], target


def fitted(x, target, **options):
    return GenLabel("gm", **options).fit(x.flatten(1), target)


@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
def test_it_mixes_and_relabels(mix):
    x, target = rows()
    genlabel = fitted(x, target, gamma=0.7)
    x_mix, y = GenLabelMix(genlabel, mix=mix, alpha=0.5, per_sample=True, generator=seeded(1))(x, target)
    mixed = MIXERS[mix](3, alpha=0.5, per_sample=True, generator=seeded(1))(x, target)
    assert torch.equal(x_mix, mixed.x)
    expected = 0.7 * genlabel.posterior(mixed.x) + 0.3 * mixed.y_mix
    torch.testing.assert_close(y, torch.where(mixed.is_mixed[:, None], expected, mixed.y_mix))


def test_gamma_zero_is_plain_mixup_bit_for_bit():
    x, target = rows()
    plain = LabeledMix(Mixup(3, generator=seeded(1)))(x, target)
    mixed = GenLabelMix(fitted(x, target, gamma=0.0), generator=seeded(1))(x, target)
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_kept_clean_rows_come_before_the_mixed_ones():
    x, target = rows()
    genlabel = fitted(x, target)
    x_mix, y = GenLabelMix(genlabel, generator=seeded(1))(x, target)
    both, labels = GenLabelMix(genlabel, generator=seeded(1), keep_clean=True)(x, target)
    assert torch.equal(both, torch.cat([x, x_mix]))
    assert torch.equal(labels, torch.cat([torch.eye(3, dtype=y.dtype)[target], y]))
    logits = both @ torch.ones(both.shape[1], 3, dtype=both.dtype).cumsum(1)
    clean, mixed = torch.nn.functional.cross_entropy(logits, labels, reduction="none").chunk(2)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, labels), (clean.mean() + mixed.mean()) / 2)
    assert len(GenerativeMix(genlabel, keep_clean=True)(x, target)[0]) == 2 * len(x)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_any_batch_size(n):
    x, target = rows()
    x_mix, y = GenLabelMix(fitted(x, target))(x[:n], target[:n])
    assert x_mix.shape == (n, 4)
    torch.testing.assert_close(y.sum(1), torch.ones(n))


def kept(mixed):
    """Rows of a batch that hold one input: partner is itself, or lam is one or zero."""
    own = mixed.partner == torch.arange(len(mixed.partner))
    return own | (mixed.lam == 1) | (mixed.lam == 0)


@pytest.mark.parametrize("mix", ["mixup", "column_cutmix"])
def test_rows_that_were_not_mixed_keep_their_label_bit_for_bit(mix):
    x, target = rows()
    x = x + 3.0  # far from their classes: the posterior calls them something else
    genlabel = fitted(*rows(), gamma=1.0)
    options = {"alpha": 0.2, "per_sample": True}
    mixed = MIXERS[mix](3, **options, generator=seeded(3))(x, target)
    assert kept(mixed).any()
    _, y = GenLabelMix(genlabel, mix=mix, **options, generator=seeded(3))(x, target)
    assert torch.equal(y[kept(mixed)], mixed.y_mix[kept(mixed)])
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 3))
    _, y = ManifoldMix(model, ["0"], MIXERS[mix](3, **options, generator=seeded(3)), relabeler=genlabel, head="1")(
        x, target
    )
    assert torch.equal(y[kept(mixed)], mixed.y_mix[kept(mixed)])
    hard = torch.eye(3)[target]
    assert torch.equal(GenLabelMix(genlabel, mix=mix)(x[:1], target[:1])[1], hard[:1])
    wrapped = RelabelTransform(lambda x, t: (x, torch.eye(3)[t]), genlabel)
    assert torch.equal(wrapped(x, target)[1], hard)


def test_a_transform_that_leaves_a_batch_alone_gives_hard_labels():
    x, target = rows()
    wrapped = RelabelTransform(v2.RandomApply([v2.MixUp(num_classes=3)], p=0.0), fitted(x, target, gamma=1.0))
    x_same, y = wrapped(x[:, None, None], target)
    assert torch.equal(x_same[:, 0, 0], x)
    assert torch.equal(y, torch.eye(3)[target])


def test_labels_of_a_transform_are_not_trusted_by_shape():
    x, target = rows()

    def kornia(x, target):  # RandomMixUpV2 of kornia 0.9.0: columns (class, class of the partner, share of the partner)
        share = torch.rand(len(x), generator=seeded())
        columns = [target.to(x), target.flip(0).to(x), share]
        return torch.lerp(x, x.flip(0), share[:, None]), torch.stack(columns, 1)

    with pytest.raises(ValueError, match=r"probabilities of shape \(B, C\).*kornia's columns \(class, class, share\)"):
        RelabelTransform(kornia, fitted(x, target))(x, target)


def test_a_relabeling_goes_with_any_mixer():
    x, target = rows()
    genlabel = fitted(x, target, gamma=0.7)
    relabeling = Relabeling(3, relabeler=genlabel)
    expected = GenLabelMix(genlabel, generator=seeded(1))(x, target)
    actual = LabeledMix(Mixup(3, generator=seeded(1)), relabeling)(x, target)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert torch.equal(GenLabelMix(relabeling, generator=seeded(1))(x, target)[1], expected[1])
    assert 0.9 < relabeling.report()["relabeled"] <= 1
    with pytest.raises(ValueError, match="embed goes with a Relabeling"):
        LabeledMix(Mixup(3), embed=first_pixel)


def test_a_relabeling_of_algorithm_3_observes_what_it_is_mixed_from():
    x, target = rows()
    relabeling = Relabeling(3, gamma=0.7)
    mix = LabeledMix(Mixup(3, generator=seeded(1)), relabeling, embed=double)
    mixed = Mixup(3, generator=seeded(1))(x, target)
    _, y = mix(x, target)
    running = RunningGaussian(3)
    running.update(2 * x, target)
    expected = 0.7 * GenLabel(running, top_k=2).posterior(2 * mixed.x) + 0.3 * mixed.y_mix
    torch.testing.assert_close(y, torch.where(mixed.is_mixed[:, None], expected, mixed.y_mix))


def double(x):
    return 2 * x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_keep_float32_labels(dtype):
    x, target = rows()
    x_mix, y = GenLabelMix(fitted(x, target))(x.to(dtype), target)
    assert (x_mix.dtype, y.dtype) == (dtype, torch.float32)


def test_a_step_never_reads_a_number_back_from_the_device():
    x, target = rows()
    mix = GenLabelMix(fitted(x, target), per_sample=True)
    mix(x, target)  # the first batch is checked
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert mix(torch.rand(8, 4), torch.zeros(8, dtype=torch.long))[1].shape == (8, 3)


def test_it_trains_better_than_chance_in_a_plain_loop():
    x, target = rows(n=300)
    mix = GenLabelMix(fitted(x, target), generator=seeded())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(60):
        x_mix, y = mix(x, target)
        loss = F.cross_entropy(model(x_mix), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1) == target).float().mean() > 0.9


def test_a_pickled_copy_does_the_same():
    x, target = rows()
    mix = GenLabelMix(fitted(x, target), generator=seeded(4))
    copy = pickle.loads(pickle.dumps(mix))
    assert all(torch.equal(a, b) for a, b in zip(mix(x, target), copy(x, target), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("n_workers", "context"), [(0, None), (2, "fork"), (1, "spawn")])
def test_a_loader_mixes_in_its_workers(n_workers, context):
    x, target = rows()
    collate_fn = BatchMix(GenLabelMix(fitted(x, target)))

    def epoch(seed):
        loader = DataLoader(
            TensorDataset(x, target),
            batch_size=25,
            collate_fn=collate_fn,
            num_workers=n_workers,
            multiprocessing_context=context,
            generator=seeded(seed),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # what mixes in the main process is the global generator
            return list(loader)

    batches = epoch(0)
    assert [tuple(y.shape) for _, y in batches] == [(25, 3)] * 3 + [(21, 3)]
    assert not torch.equal(batches[0][0], x[:25])
    if context != "spawn":  # starting processes again is slow, and shows nothing new
        again, other = epoch(0), epoch(1)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))
        assert not torch.equal(batches[0][0], other[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_refuse_a_generator_that_each_would_repeat(context):
    x, target = rows()
    collate_fn = BatchMix(GenLabelMix(fitted(x, target), generator=seeded()))
    loader = DataLoader(
        TensorDataset(x, target),
        batch_size=8,
        collate_fn=collate_fn,
        num_workers=1,
        multiprocessing_context=context,
    )
    with pytest.raises(ValueError, match="generator must be None in a DataLoader's workers"):
        next(iter(loader))
    gc.collect()  # the traceback keeps the workers in a cycle, and they what this process had open


@pytest.mark.parametrize("transform", [v2.MixUp, v2.CutMix])
def test_torchvision_transforms_are_wrapped(transform):
    target = torch.arange(24) % 3
    x = torch.randn(24, 3, 6, 6, generator=seeded()) + target.view(-1, 1, 1, 1)
    genlabel = GenLabel(make_backend("gm", covariance_type="diag"), gamma=0.5).fit(x, target)
    wrapped = RelabelTransform(transform(num_classes=3), genlabel)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x_mix, y_mix = transform(num_classes=3)(x, target)
        torch.manual_seed(0)
        x_same, y = wrapped(x, target)
    assert torch.equal(x_same, x_mix)
    torch.testing.assert_close(y, 0.5 * genlabel.posterior(x_mix) + 0.5 * y_mix)
    assert pickle.loads(pickle.dumps(wrapped))(x, target)[1].shape == (24, 3)


def test_it_follows_torchvision_transforms_in_a_collate_fn():
    x, target = rows()
    images = x[:, :, None, None].expand(-1, -1, 2, 2)
    normalize = v2.Normalize(mean=[1.0] * 4, std=[2.0] * 4)
    mix = GenLabelMix(fitted(normalize(images)[..., 0, 0], target), embed=first_pixel)
    dataset = [(normalize(image), int(label)) for image, label in zip(images, target, strict=True)]
    x_mix, y = next(iter(DataLoader(dataset, batch_size=16, collate_fn=BatchMix(mix))))
    assert (x_mix.shape, y.shape) == ((16, 4, 2, 2), (16, 3))


def first_pixel(x):
    return x[..., 0, 0]


def test_hugging_face_batches_are_mixed_in_place():
    from transformers import default_data_collator

    x, target = rows()
    mix = GenLabelMix(fitted(x, target), generator=seeded())
    samples = [{"pixel_values": a, "labels": int(t), "idx": i} for i, (a, t) in enumerate(zip(x, target, strict=True))]
    collate_fn = BatchMix(mix, x="pixel_values", target="labels", collate_fn=default_data_collator)
    batch = collate_fn(samples[:10])
    assert batch["pixel_values"].shape == (10, 4)
    assert batch["labels"].shape == (10, 3)
    assert batch["idx"].tolist() == list(range(10))


@pytest.mark.slow
def test_the_hugging_face_trainer_trains_on_soft_labels(tmp_path):
    import transformers

    x, target = rows()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, pixel_values, labels=None):
            logits = self.linear(pixel_values)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    collate_fn = BatchMix(GenLabelMix(fitted(x, target)), x="pixel_values", target="labels")
    arguments = transformers.TrainingArguments(
        tmp_path, max_steps=20, learning_rate=0.1, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    dataset = [{"pixel_values": a, "labels": t} for a, t in zip(x, target, strict=True)]
    with torch.random.fork_rng():
        trainer = transformers.Trainer(Model(), arguments, train_dataset=dataset, data_collator=collate_fn)
        loss = trainer.train().training_loss
    assert 0 < loss < 1.2


def test_several_inputs_share_partners_and_are_embedded_together():
    x, target = rows()
    mix = GenLabelMix(fitted(x, target), embed=join, generator=seeded())
    batch = BatchMix(mix, x=["left", "right"], target="label", collate_fn=None)(
        {"left": x[:, :1], "right": x[:, 1:], "label": target}
    )
    joined, y = GenLabelMix(fitted(x, target), generator=seeded())(x, target)
    torch.testing.assert_close(torch.cat([batch["left"], batch["right"]], 1), joined)
    torch.testing.assert_close(batch["label"], y)


def join(x):
    return torch.cat([x["left"], x["right"]], 1)


def test_several_inputs_need_an_embedding():
    x, target = rows()
    with pytest.raises(ValueError, match="embed must make one tensor of the inputs"):
        GenLabelMix(fitted(x, target))({"a": x, "b": x}, target)


def test_accelerate_prepares_a_loader_that_mixes():
    import accelerate

    x, target = rows()
    accelerator = accelerate.Accelerator(cpu=True)
    loader = DataLoader(TensorDataset(x, target), batch_size=16, collate_fn=BatchMix(GenLabelMix(fitted(x, target))))
    model = nn.Linear(4, 3)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    before = model.weight.detach().clone()
    for x_mix, y in loader:
        loss = F.cross_entropy(model(x_mix), y)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
    assert not torch.equal(model.weight, before)


def test_the_number_of_classes_must_be_known():
    with pytest.raises(ValueError, match="n_classes must be given, or the relabeler fitted"):
        GenLabelMix(GenLabel("gm"))
    assert GenLabelMix(GenLabel("gm"), n_classes=3).mix.n_classes == 3


def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("layer", ["", "0", "1", "2"])
def test_manifold_mix_equals_mixing_by_hand(layer):
    x, target = rows()
    model = mlp()
    output, y = ManifoldMix(model, [layer], Mixup(3, generator=seeded(1)))(x, target)
    depth = int(layer or 0)
    mixed = Mixup(3, generator=seeded(1))(model[:depth](x), target)
    torch.testing.assert_close(output, model[depth:](mixed.x))
    torch.testing.assert_close(y, mixed.y_mix)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_manifold_mix_relabels_by_the_features_of_the_head():
    x, target = rows()
    model = mlp()
    running = RunningGaussian(3)
    running.update(model[:2](x).detach(), target)
    genlabel = GenLabel(running, gamma=1.0, top_k=2)
    mix = ManifoldMix(model, ["1"], Mixup(3, generator=seeded(1)), relabeler=genlabel, head="2")
    output, y = mix(x, target)
    mixed = Mixup(3, generator=seeded(1))(model[0](x), target)
    expected = genlabel.posterior(model[1](mixed.x))
    torch.testing.assert_close(y, torch.where(mixed.is_mixed[:, None], expected, mixed.y_mix))
    F.cross_entropy(output, y).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_manifold_mix_draws_every_layer():
    x, target = rows()
    seen = set()
    model = mlp()
    mix = ManifoldMix(model, ["", "1", "2"], lambda x, t: seen.add(x.shape[1]) or Mixup(3)(x, t), generator=seeded())
    for _ in range(20):
        mix(x, target)
    assert seen == {4, 8}


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (["9"], {}, "got '9'"),
        ([], {}, "at least one module"),
        (["0"], {"relabeler": GenLabel("gm")}, "head must name"),
    ],
)
def test_manifold_mix_names_what_is_wrong(layers, options, message):
    with pytest.raises(ValueError, match=message):
        ManifoldMix(mlp(), layers, Mixup(3), **options)


def test_manifold_mix_takes_its_hooks_away_when_the_model_fails():
    model = mlp()
    with pytest.raises(RuntimeError):
        ManifoldMix(model, ["2"], Mixup(3))(torch.zeros(4, 9), torch.zeros(4, dtype=torch.long))
    assert not any(module._forward_pre_hooks for module in model.modules())


class Branches(nn.Module):
    """Runs one layer twice and another never."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)

    def forward(self, x):
        return self.twice(self.twice(x))


def test_manifold_mix_mixes_a_layer_that_runs_twice_once():
    x, target = rows()
    with torch.random.fork_rng():
        model = Branches()
    output, _ = ManifoldMix(model, ["twice"], Mixup(3, generator=seeded(1)))(x, target)
    torch.testing.assert_close(output, model(Mixup(3, generator=seeded(1))(x, target).x))


def test_manifold_mix_says_when_its_layer_never_ran():
    x, target = rows()
    with pytest.raises(RuntimeError, match="ran without its layer 'never'"):
        ManifoldMix(Branches(), ["never"], Mixup(3))(x, target)


def test_places_counted_from_the_end_are_refused():
    for places in ({"target": -1}, {"x": -2}, {"x": [0, -2]}):
        with pytest.raises(ValueError, match="counted from 0, or keys, got -"):
            BatchMix(LabeledMix(Mixup(2)), **places)
