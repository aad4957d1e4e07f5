"""GenLabel's labels in the real MixUp layer of Keras, on the torch backend."""

import copy
import threading

import keras
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

from genlabel_keras import GenLabelMixUp
from genlabel_plugins import GenLabel, Relabeling, make_backend


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(48) % 3
    images = torch.randn(48, 4, 4, 1, generator=generator) + target.view(-1, 1, 1, 1)
    return images, target, F.one_hot(target, 3).float()


def fitted(images, target, **options):
    return GenLabel(make_backend("gm", covariance_type="spherical"), **options).fit(images, target)


def _differ(a, b):
    return ((a - b).abs() > 1e-5).flatten(1).any(1)  # a row mixed with itself differs by rounding


def test_gamma_0_is_keras_bit_for_bit(batch):
    images, target, labels = batch
    ours = GenLabelMixUp(fitted(images, target, gamma=0.0), alpha=0.4, seed=1)
    theirs = keras.layers.MixUp(alpha=0.4, seed=1)
    for _ in range(2):
        a, b = (layer({"images": images, "labels": labels, "more": target}) for layer in (ours, theirs))
        assert torch.equal(a["images"], b["images"])
        assert torch.equal(a["labels"], b["labels"])
        assert torch.equal(a["more"], target)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_rows_get_the_posterior_and_others_keep_their_label(batch, smoothing):
    images, target, labels = batch
    labels = labels * (1 - smoothing) + smoothing / 3
    relabeler = fitted(images, target, gamma=0.5)
    a = GenLabelMixUp(relabeler, alpha=1.0, seed=1)({"images": images, "labels": labels})
    b = keras.layers.MixUp(alpha=1.0, seed=1)({"images": images, "labels": labels})
    expected = 0.5 * relabeler.posterior(b["images"]) + 0.5 * b["labels"]
    is_mixed = _differ(b["images"], images)
    assert 0 < int(is_mixed.sum()) <= len(images)
    torch.testing.assert_close(a["labels"][is_mixed], expected[is_mixed])
    torch.testing.assert_close(a["labels"].sum(1), torch.ones(48))
    alone = GenLabelMixUp(relabeler)({"images": images[:1].numpy(), "labels": labels[:1].numpy()})
    assert torch.equal(alone["labels"].cpu(), labels[:1])


def test_an_evaluated_batch_stays_as_it_is(batch):
    images, target, labels = batch
    layer = GenLabelMixUp(fitted(images, target))
    same = layer({"images": images, "labels": labels}, training=False)
    assert torch.equal(same["images"], images)
    assert torch.equal(same["labels"], labels)
    assert not layer.trainable_variables


def test_algorithm_2_by_a_frozen_keras_model_inside_fit(batch):
    images, target, labels = batch
    keras.utils.set_random_seed(0)
    trunk = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5, activation="relu")])
    relabeler = fitted(trunk(images).detach(), target, gamma=1.0)
    layer = GenLabelMixUp(relabeler, embed=trunk, alpha=1.0, seed=3)
    mixed = layer({"images": images, "labels": labels})
    is_mixed = _differ(mixed["images"], images)
    expected = relabeler.posterior(trunk(mixed["images"]).detach())
    torch.testing.assert_close(mixed["labels"][is_mixed], expected[is_mixed])

    def collate(samples):
        x, y = default_collate(samples)
        mixed = layer({"images": x, "labels": y})
        return mixed["images"], mixed["labels"]

    model = keras.Sequential([trunk, keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "categorical_crossentropy")
    history = model.fit(DataLoader(TensorDataset(images, labels), 16, collate_fn=collate), epochs=2, verbose=0)
    assert history.history["loss"][1] > 0


@pytest.mark.parametrize("joint", [False, True])
def test_a_question_for_shapes_leaves_densities_alone(batch, joint):
    images, target, labels = batch
    relabeler = Relabeling(3) if joint else fitted(images, target)
    layer = GenLabelMixUp(relabeler, alpha=1.0, seed=1)
    shapes = layer({"images": keras.Input((4, 4, 1)), "labels": keras.Input((3,))})
    assert (shapes["images"].shape, shapes["labels"].shape) == ((None, 4, 4, 1), (None, 3))
    pipeline = keras.layers.Pipeline([keras.layers.RandomFlip(seed=0), layer])  # Keras traces it at its first call
    mixed = pipeline({"images": images, "labels": labels})
    assert {buffer.device.type for buffer in relabeler.buffers()} == {mixed["images"].device.type}
    torch.testing.assert_close(mixed["labels"].sum(1), torch.ones_like(mixed["labels"][:, 0]))
    if joint:
        assert relabeler.step == 1
        assert relabeler.relabeler.density.class_count_.tolist() == [16, 16, 16]


def test_a_batch_mixed_in_another_thread_does_not_disturb(batch):
    images, target, labels = batch

    class Interrupted(GenLabelMixUp):
        def transform_images(self, x, **kwargs):
            if len(x) > 1:
                other = threading.Thread(target=self, args=({"images": images[:1], "labels": labels[:1]},))
                other.start()
                other.join()
            return super().transform_images(x, **kwargs)

    relabeler = fitted(images, target, gamma=1.0)
    mixed = Interrupted(relabeler, alpha=1.0, seed=1)({"images": images, "labels": labels})
    is_mixed = _differ(mixed["images"], images)
    torch.testing.assert_close(mixed["labels"][is_mixed], relabeler.posterior(mixed["images"])[is_mixed])


def test_workers_of_a_loader_draw_numbers_of_their_own(batch):
    images, target, labels = batch
    layer = GenLabelMixUp(fitted(images, target), alpha=1.0, seed=0)
    runs = []
    for _ in range(2):
        loader = DataLoader(
            [{"images": images, "labels": labels}] * 4,
            batch_size=None,
            num_workers=2,
            collate_fn=lambda batch: layer(batch)["images"],
            generator=torch.Generator().manual_seed(0),
        )
        runs.append(torch.stack(list(loader)).flatten(1))
    assert torch.equal(*runs)
    assert (torch.cdist(runs[0], runs[0]) + torch.eye(4) > 0.5).all()


@pytest.mark.parametrize("joint", [False, True])
def test_a_layer_made_anew_goes_on_with_the_same_labels(batch, joint):
    images, target, labels = batch
    batch = {"images": images, "labels": labels}

    def make(seed):
        density = None if joint else fitted(images, target, gamma=0.5)
        relabeling = Relabeling(3, relabeler=density, warmup_steps=5)
        return relabeling, GenLabelMixUp(relabeling, alpha=0.4, seed=seed)

    relabeling, layer = make(0)
    for _ in range(2):
        layer(batch)
    state = copy.deepcopy({"relabeling": relabeling.state_dict(), "draws": layer.generator.state.value.clone()})
    expected = [layer(batch)["labels"] for _ in range(2)]
    relabeling, layer = make(7)
    relabeling.load_state_dict(state["relabeling"])
    layer.generator.state.assign(state["draws"])
    for y in expected:
        assert torch.equal(layer(batch)["labels"], y)


def test_statistics_follow_clean_rows(batch):
    images, _, labels = batch
    relabeling = Relabeling(3)
    mixed = GenLabelMixUp(relabeling, seed=0)({"images": images, "labels": labels})
    torch.testing.assert_close(
        relabeling.relabeler.density.mean_.to(images)[1].flatten(), images[1::3].mean(0).flatten(), atol=1e-5, rtol=0
    )
    assert mixed["labels"].shape == (48, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: images, "a batch must be a dict with the keys 'images' and 'labels', got Tensor"),
        (lambda images, labels: {"images": images}, "got \\['images'\\]"),
        (lambda images, labels: {"images": images, "labels": labels.argmax(1)}, "labels must be one-hot rows"),
        (lambda images, labels: {"images": images[0], "labels": labels[0]}, "labels must be one-hot rows"),
        (lambda images, labels: {"images": images, "labels": 2 * labels}, "sum"),
        (
            lambda images, labels: {"images": images, "labels": labels, "bounding_boxes": {"boxes": images}},
            "bounding boxes",
        ),
        (
            lambda images, labels: {"images": images, "labels": labels, "segmentation_masks": images},
            "single pixels, not with masks",
        ),
    ],
)
def test_other_batches_are_refused(batch, change, message):
    images, target, labels = batch
    layer = GenLabelMixUp(fitted(images, target))
    with pytest.raises(ValueError, match=message):
        layer(change(images, labels))
    with pytest.raises(NotImplementedError, match="densities, which no config can"):
        layer.get_config()


def test_parents_are_the_rows_that_keras_mixed(batch):
    images, target, labels = batch
    fitted = GenLabel("nn", leave_parents_out=True).fit(images, target)
    mixed = GenLabelMixUp(fitted, alpha=1.0, seed=1)({"images": images, "labels": labels})
    plain = keras.layers.MixUp(alpha=1.0, seed=1)
    drawn = plain.get_random_transformation({"images": images, "labels": labels})
    partner = drawn["permutation_order"].long()
    for n in range(4):
        kept = torch.ones(48, dtype=torch.bool)
        kept[[n, int(partner[n])]] = False
        without = GenLabel("nn").fit(images[kept], target[kept])
        linear = keras.layers.MixUp(alpha=1.0, seed=1)({"images": images, "labels": labels})["labels"][n : n + 1]
        torch.testing.assert_close(mixed["labels"][n : n + 1], without.relabel(mixed["images"][n : n + 1], linear))
