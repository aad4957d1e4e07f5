"""Keras' MixUp with GenLabel's labels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from genlabel_plugins import Parents
from genlabel_plugins.labels import PosteriorLabel

try:
    import keras
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope
except ModuleNotFoundError as error:
    if error.name == "keras":
        message = "genlabel_keras needs keras: pip install 'genlabel-plugins[keras]'"
    elif error.name in ("tensorflow", "jax"):
        message = "genlabel_keras runs on Keras' torch backend: set KERAS_BACKEND=torch before the first import"
    else:
        raise
    raise ModuleNotFoundError(message) from error


class GenLabelMixUp(keras.layers.MixUp):  # type: ignore[misc]
    """`keras.layers.MixUp`, with the labels of mixed images corrected by GenLabel.

    It mixes with Keras' code: the same images and draws, and with `gamma=0` the same labels, bit for bit. Rows that
    were not mixed keep their label. `training=False` leaves a batch as it is. In a DataLoader's workers, which all
    hold a copy of one seed of Keras, draws follow from the seeds that the loader gives them.

    Args:
        relabeler: Fitted relabeler, such as `GenLabel("gm").fit(images, target)`, or a `Relabeling`, whose `state_dict`
            is its own to save. It knows images as this layer returns them: channels as in `data_format`, values as they
            come in.
        embed: Callable from images to the features that the relabeler was fitted on (Algorithm 2), such as a frozen
            Keras model; called without gradient. By default the images themselves.
        **kwargs: Keyword arguments of `keras.layers.MixUp`: `alpha`, `data_format`, `seed`.

    Raises:
        ValueError: On another backend than torch, labels that are no probabilities `(B, C)`, bounding boxes or masks.

    Example:
        >>> from genlabel_plugins import GenLabel
        >>> images, target = torch.randn(40, 4, 4, 3), torch.arange(40) % 2
        >>> layer = GenLabelMixUp(GenLabel("nn").fit(images, target), alpha=0.2, seed=0)
        >>> labels = torch.nn.functional.one_hot(target, 2).float()
        >>> mixed = layer({"images": images[:8], "labels": labels[:8]})
        >>> tuple(mixed["images"].shape), tuple(mixed["labels"].shape)
        ((8, 4, 4, 3), (8, 2))

    Reference:
        Sohn et al., GenLabel: Mixup Relabeling using Generative Models, ICML 2022, Algorithms 1 and 2.
    """

    def __init__(self, relabeler: Any, *, embed: Callable[[Any], Tensor] | None = None, **kwargs: Any) -> None:
        if keras.backend.backend() != "torch":
            raise ValueError(f"GenLabelMixUp runs on Keras' torch backend, got {keras.backend.backend()!r}")
        super().__init__(**kwargs)
        # Not a submodule: Keras would wrap it as a layer with weights to train.
        self.__dict__["_label"] = PosteriorLabel(relabeler, embed)
        self.__dict__["_drawn"] = threading.local()  # PyDataset mixes in threads
        self.__dict__["_worker_seed"] = None

    def call(self, data: Any, training: bool = True) -> Any:
        """Mix images `(B, H, W, 3)` and labels `(B, C)` of a dict with the keys `images` and `labels`."""
        if not training:
            return data
        labels = _checked(data)
        if "bounding_boxes" in data:
            raise ValueError("a mixed image with bounding boxes has no class posterior: use keras.layers.MixUp")
        if "segmentation_masks" in data:
            raise ValueError(
                "Keras' MixUp blends segmentation_masks with single pixels, not with masks: use genlabel_plugins.CutMix"
            )
        if in_symbolic_scope():  # Keras asks for shapes alone, by values that it makes up
            return super().call({**data, "labels": labels}, training=training)
        label: PosteriorLabel = self.__dict__["_label"]
        images = keras.ops.convert_to_tensor(data["images"])
        label.to(images.device)
        label.observe(self.backend.cast(images, self.compute_dtype), labels.to(images.device).argmax(1))
        mixed = super().call({**data, "labels": labels}, training=training)
        drawn = self.__dict__["_drawn"]
        parents = None
        if label.wants_parents:
            clean = label.features(self.backend.cast(images, self.compute_dtype))
            parents = Parents.in_batch(clean, labels.to(images.device).argmax(1), drawn.partner.to(images.device))
        with torch.no_grad():
            y = label.relabel(
                mixed["images"], mixed["labels"].to(images.device), drawn.mixed.to(images.device), parents
            )
        return {**mixed, "labels": y}

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Keras' draw, of which it is kept which rows it mixes."""
        worker = get_worker_info()
        if worker is not None and worker.seed != self.__dict__["_worker_seed"]:
            self.__dict__["_worker_seed"] = worker.seed
            self.generator.state.assign([worker.seed % 2**31, 0])
        drawn = super().get_random_transformation(data, training=training, seed=seed)
        weight, partner = drawn["mix_weight"], drawn["permutation_order"]
        row = torch.arange(len(partner), device=partner.device)
        self.__dict__["_drawn"].mixed = (weight > 0) & (weight < 1) & (partner != row)
        self.__dict__["_drawn"].partner = partner
        return drawn

    def get_config(self) -> dict[str, Any]:
        """Refuse: densities are no JSON.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "GenLabelMixUp holds densities, which no config can: save them with genlabel_plugins.save, and make the "
            "layer anew"
        )


def _checked(data: Any) -> Tensor:
    """Labels `(B, C)` of a batch.

    Raises:
        ValueError: If it is no batch of torch tensors or arrays with soft labels.
    """
    if not isinstance(data, dict) or not {"images", "labels"} <= set(data):
        seen = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"a batch must be a dict with the keys 'images' and 'labels', got {seen}")
    labels: Tensor = keras.ops.convert_to_tensor(data["labels"])
    if labels.ndim != 2 or not labels.is_floating_point() or labels.shape[1] < 2:
        raise ValueError(
            f"labels must be one-hot rows of floating point, (B, C), as keras.ops.one_hot makes, got {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    return labels
