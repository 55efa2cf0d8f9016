"""`PatchMemory`: patches of a pretrained network's features, remembered from normal images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.maps import MapDetector
from anomaly.detection.training import Training
from anomaly.patch_memory.memory import Memory, greedy_coreset
from robustcls._progress import tqdm
from robustcls._settings import Choice, Flag, PositiveInt, Range
from robustcls._validation import InputError, check_choice
from robustcls.models.building import build_classifier

#: By backbone, the last layer of what is 4, 16 and 32 pixels apart: torchvision's blocks 3, 8
#: and 14 of MobileNetV2.
LAYERS = {
    "mobilenet_v2": ("block_2_add", "block_7_add", "block_13_project_BN"),
    "efficientnet_lite0": ("lite_block_2_add", "lite_block_7_add", "lite_block_11_project_bn"),
}
# What the network needs, and what it gets where images are smaller.
_SMALLEST_SIDE, _SMALL_SIDE = 32, 64


@dataclass(kw_only=True, eq=False)
class PatchMemory(MapDetector):
    """Scores patches of an image by their distance to the nearest patches of normal images.

    The features of some blocks of an ImageNet network, each averaged over 3×3 neighbours, are
    brought to one grid and joined. A greedy coreset of the normal images' patches is remembered.
    A patch's value is its distance to the nearest remembered one; an image's score is that of its
    most distant patch, less where the patches remembered near the nearest one are as far away
    (equation 7 of the paper). Nothing is trained: one pass over the images.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: none (None, default None); patches are remembered as they are.
        epochs: the one pass (int in [1, 1], default 1).
        batch_size: images a forward pass (int >= 2, default 16).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of the coreset and the held-out images (int >= 0, default 0).
        backbone: the network ("mobilenet_v2" or "efficientnet_lite0", default "mobilenet_v2").
        layers: names of the network's layers whose features make a patch; None takes those of
            `LAYERS`, of torchvision's blocks 3, 8 and 14 for MobileNetV2 (default None).
        grid: the patches' distance in pixels of the image that the network sees (int >= 1,
            default 8).
        resize_to: side that the network resizes images to; None keeps their size, and makes 64 of
            sides below 32 (int >= 32 or None, default None).
        coreset: share of the normal patches to remember (float in (0, 1], default 0.02).
        max_patches: patches to remember at most (int >= 9, default 4000).
        neighbors: remembered patches that an image's score is weighed by (int >= 1, default 9); 1
            weighs by nothing.
        whiten: whether features are decorrelated and scaled to one variance first (bool, default
            False).
        weights: of the network ("imagenet" or "random", default "imagenet"); random ones show
            what ImageNet's are worth.

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Raises:
        InputError: a setting out of range, or no ImageNet weights to be had (in `fit`).

    Reference: Roth et al., 2022, "Towards Total Recall in Industrial Anomaly Detection".
    """

    method: ClassVar[str] = "patch_memory"
    counts_epochs: ClassVar[bool] = False

    epochs: Annotated[int, Range(minimum=1, maximum=1)] = 1
    batch_size: Annotated[int, Range(minimum=2)] = 16
    backbone: Annotated[str, Choice(tuple(LAYERS))] = "mobilenet_v2"
    layers: Sequence[str] | None = None
    grid: PositiveInt = 8
    resize_to: Annotated[int, Range(minimum=32)] | None = None
    coreset: Annotated[float, Range(above=0, maximum=1)] = 0.02
    max_patches: Annotated[int, Range(minimum=9)] = 4000
    neighbors: PositiveInt = 9
    whiten: Flag = False
    weights: Annotated[str, Choice(("imagenet", "random"))] = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers = tuple(LAYERS[self.backbone] if self.layers is None else self.layers)
        if self.augmentation is not None:
            raise InputError("augmentation must be None for patch_memory; received a policy.")
        if self.neighbors > self.max_patches:
            raise InputError(
                f"neighbors must be at most max_patches, {self.max_patches}; received "
                f"{self.neighbors}."
            )

    @property
    def _seen(self) -> tuple[int, int]:
        height, width, _ = self.image_shape
        return (height, width) if self._side is None else (self._side, self._side)

    @property
    def _side(self) -> int | None:
        if self.resize_to is None and min(self.image_shape[:2]) < _SMALLEST_SIDE:
            return _SMALL_SIDE
        return self.resize_to

    def build(self) -> dict[str, keras.Model]:
        features = self._features(None)
        patches = keras.Input(features.output_shape[1:], name="patches")
        memory = Memory(self.max_patches, self.neighbors, name="memory")
        return {"features": features, "memory": keras.Model(patches, memory(patches))}

    def train(self, training: Training) -> None:
        network = self.networks["features"]
        if self.weights == "imagenet":
            network.set_weights(self._features("imagenet").get_weights())
        embed = tf.function(partial(network, training=False)).get_concrete_function(
            tf.TensorSpec([None, *self.image_shape], tf.float32)
        )
        starts = range(0, len(training.images), self.batch_size)
        _, rows, columns, size = network.output_shape
        # Filled piece by piece: a list of them would take the memory twice.
        found = np.empty((len(training.images), rows, columns, size), np.float32)
        for start in tqdm(starts, "Features", disable=training.verbose != 1):
            piece = slice(start, start + self.batch_size)
            found[piece] = embed(tf.constant(training.images[piece])).numpy()
        patches = found.reshape(-1, size)
        memory = self.networks["memory"].get_layer("memory")
        patches = memory.scale(patches, whiten=self.whiten)
        count = min(self.max_patches, max(self.neighbors, round(self.coreset * len(patches))))
        chosen = greedy_coreset(patches, count, self.seed, progress=training.verbose == 1)
        memory.remember(patches[chosen])

    def anomaly_map_batch(self, images: tf.Tensor) -> tf.Tensor:
        distances, _ = self.networks["memory"](self.networks["features"](images, training=False))
        return tf.image.resize(distances[..., None], self.image_shape[:2])[..., 0]

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        _, scores = self.networks["memory"](self.networks["features"](images, training=False))
        return scores

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.networks["features"](images, training=False), [1, 2])

    def _features(self, weights: str | None) -> keras.Model:
        classifier = build_classifier(
            self.backbone,
            input_shape=self.image_shape,
            num_classes=2,
            weights=weights,
            output_stride=32,
            resize_to=self._side,
            seed=self.seed,
        )
        known = [layer.name for layer in classifier.layers if len(layer.output.shape) == 4]
        height, width = (-(-side // self.grid) for side in self._seen)
        parts = []
        for name in self.layers or ():
            check_choice("layers", name, known)
            x = keras.layers.AveragePooling2D(3, 1, "same")(classifier.get_layer(name).output)
            parts.append(keras.layers.Resizing(height, width)(x))
        if not parts:
            raise InputError("layers must name at least one layer; received none.")
        joined = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
        return keras.Model(classifier.input, joined, name="features")
