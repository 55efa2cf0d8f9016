"""`PatchMemory`: patches of a pretrained network's features, remembered from normal images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.maps import MapDetector
from anomaly.detection.training import Training
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
# Farther than any patch is, and its square still a float.
_UNUSED = 1e18
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


@keras.saving.register_keras_serializable(package="anomaly")
class Memory(keras.layers.Layer):
    """Distances of patches to the nearest remembered ones.

    Args:
        count: patches to remember at most.
        neighbors: remembered patches that an image's score is weighed by, ≥ 1.

    Input shape: [N, H, W, D]. Output shapes: distances [N, H, W] and scores [N].
    """

    def __init__(self, count: int, neighbors: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.count = count
        self.neighbors = neighbors

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        self.mean = self.add_weight(name="mean", shape=(size,), initializer="zeros")
        self.rotation = self.add_weight(name="rotation", shape=(size, size), initializer="identity")
        self.patches = self.add_weight(
            name="patches", shape=(self.count, size), initializer="zeros"
        )
        self.used = self.add_weight(name="used", shape=(), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(inputs)
        flat = tf.reshape(inputs, [shape[0], -1, inputs.shape[-1]]) - self.mean
        flat = tf.einsum("npd,de->npe", flat, tf.convert_to_tensor(self.rotation))
        memory = tf.convert_to_tensor(self.patches)

        def one(patches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Image by image, or a batch's distances to all that is remembered fill the memory.
            nearest = tf.argmin(self._squares(patches, memory), -1)
            distances = tf.norm(patches - tf.gather(memory, nearest), axis=-1)
            worst = tf.argmax(distances)
            return distances, self._weighed(
                patches[worst], memory, nearest[worst], distances[worst]
            )

        distances, scores = tf.map_fn(one, flat, fn_output_signature=(tf.float32, tf.float32))
        return tf.reshape(distances, shape[:3]), scores

    def _squares(self, patches: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """Squared distances but for a constant of each patch, [P, count]."""
        squares = tf.reduce_sum(memory**2, -1) - 2 * tf.matmul(patches, memory, transpose_b=True)
        unused = tf.cast(tf.range(self.count), tf.float32) >= self.used
        return tf.where(unused, _UNUSED, squares)

    def _weighed(
        self, patch: tf.Tensor, memory: tf.Tensor, nearest: tf.Tensor, distance: tf.Tensor
    ) -> tf.Tensor:
        """Equation 7: 1 - softmax of the distances to the neighbours of the nearest, times it."""
        if self.neighbors == 1:
            return distance
        center = tf.gather(memory, nearest)
        _, around = tf.math.top_k(-self._squares(center[None], memory)[0], self.neighbors)
        others = tf.norm(patch - tf.gather(memory, around), axis=-1)
        return distance * (1 - tf.exp(distance - tf.reduce_logsumexp(others)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return tuple(input_shape[:-1]), tuple(input_shape[:1])

    def scale(self, patches: np.ndarray, *, whiten: bool) -> np.ndarray:
        """Learns the mean of patches [M, D], and their rotation to white; returns them so.

        The patches are centred in place.
        """
        self.mean.assign(patches.mean(0))
        patches -= self.mean.numpy()
        if whiten:
            covariance = patches.T @ patches / len(patches)
            values, vectors = np.linalg.eigh(covariance.astype(np.float64))
            # Directions of next to no variance are noise.
            scales = 1 / np.sqrt(values + 1e-3 * values.mean())
            self.rotation.assign((vectors * scales).astype(np.float32))
            patches = patches @ self.rotation.numpy()
        return patches

    def remember(self, patches: np.ndarray) -> None:
        """Keeps patches [M, D], M at most `count`, as `scale` returned them."""
        padding = ((0, self.count - len(patches)), (0, 0))
        self.patches.assign(np.pad(patches, padding))
        self.used.assign(len(patches))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count, "neighbors": self.neighbors}


def greedy_coreset(
    patches: np.ndarray, count: int, seed: int = 0, *, size: int = 64, progress: bool = False
) -> np.ndarray:
    """Chooses patches that leave no other far from all of them.

    Each next one is the farthest from those chosen before, after a random projection that keeps
    distances nearly (algorithm 1 of the paper).

    Args:
        patches: float32 [M, D].
        count: how many, in [1, M].
        seed: of the projection and the first patch; default 0.
        size: dimensions of the projection; default 64. D or more projects nothing.
        progress: show a progress bar; default False.

    Returns:
        int64 [count], in the order of their choice.
    """
    generator = np.random.default_rng(seed)
    if size < patches.shape[1]:
        projection = generator.normal(0, size**-0.5, (patches.shape[1], size))
        patches = patches @ projection.astype(np.float32)
    squares = np.einsum("md,md->m", patches, patches)
    chosen = np.empty(count, np.int64)
    chosen[0] = generator.integers(len(patches))
    nearest = np.full(len(patches), np.inf, np.float32)
    for place in tqdm(range(count), "Coreset", disable=not progress):
        if place:
            chosen[place] = np.argmax(nearest)
        latest = chosen[place]
        distances = squares - 2 * (patches @ patches[latest]) + squares[latest]
        np.minimum(nearest, distances, out=nearest)
        nearest[latest] = -np.inf
    return chosen
