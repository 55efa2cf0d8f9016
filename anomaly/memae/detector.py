"""`MemAE`: an autoencoder that may only use what its memory of normal images holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.layers import decode_image, encode_image
from anomaly.detection.reconstruction import Reconstruction, split_noise
from anomaly.detection.residual import ResidualDetector
from anomaly.detection.sphere import DistanceToCenter
from anomaly.detection.training import Training
from anomaly.memae.memory import (
    ItemCount,
    MemoryModule,
    MemoryUsage,
    Shrinkage,
    Similarity,
    address_entropy,
)
from robustcls._settings import Choice, NonNegativeFloat
from robustcls.data.augment import AugmentationPolicy
from robustcls.models.reproducible import finish


@dataclass(kw_only=True, eq=False)
class MemAE(ResidualDetector):
    """Memory-augmented autoencoder, scored by its residual.

    The decoder sees, in place of the encoder's features, what `MemoryModule` reads for them, so
    anomalies are rebuilt from normal parts. The loss is the mean squared error plus
    `entropy_weight` times the mean entropy of the addresses.

    `entropy_weight=0, shrinkage=0` is the control without sparse addresses.

    Attributes:
        items: items in the memory; None is 100 for gray and 500 for colour images.
        shrinkage: λ of `MemoryModule`; None is 1 / items, the low end of the paper's range.
        entropy_weight: α.
        similarity: "dot" or "cosine", how `MemoryModule` compares.
        query: "image" asks the memory once for all features of an image, as a vector; "position"
            for those of each position on its own, which holds more detail and more anomalies.
        svdd_weight: adds that multiple of the squared distance of the encoder's mean features to
            their centre of before the training, in the loss and in the score (Ruff et al., 2018);
            0 leaves it out.
        (others): as for `ResidualDetector`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = MemAE(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.memory.shape
        ((128,), (100, 576))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection", sections 3 and 4.1.
    """

    method: ClassVar[str] = "memae"

    items: ItemCount | None = None
    shrinkage: Shrinkage | None = None
    entropy_weight: NonNegativeFloat = 0.0002
    similarity: Similarity = "dot"
    query: Annotated[str, Choice(("image", "position"))] = "image"
    svdd_weight: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.items is None:
            self.items = 100 if self.image_shape[-1] == 1 else 500
        if self.shrinkage is None:
            self.shrinkage = 1 / self.items

    @property
    def memory(self) -> np.ndarray:
        """The items, float32 [items, D].

        Raises:
            InputError: no `fit` yet.
        """
        self._check_fitted("memory")
        return np.asarray(self._networks["memae"].get_layer("memory").memory)

    def memory_usage(self, images: Any, *, batch_size: int = 256) -> dict[str, float]:
        """Returns how the memory serves images: a sound one uses many items, a few a query.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.

        Returns:
            `used_items`, how many items any query reads; `effective_items`, as `MemoryUsage`
            counts; `entropy`, of the addresses of one query in nats, on average.
        """
        usage, entropies, read = MemoryUsage(int(self.items or 0)), [], 0.0
        addresses = self._apply("_address", images, batch_size)
        for start in range(0, len(addresses), batch_size):
            batch = tf.constant(addresses[start : start + batch_size])
            usage.update_state(batch)
            entropies.append(np.asarray(address_entropy(batch)).ravel())
        read = addresses.reshape(-1, addresses.shape[-1]).max(0)
        return {
            "used_items": int((read > 0).sum()),
            "effective_items": float(usage.result()),
            "entropy": float(np.concatenate(entropies).mean()),
        }

    def _build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        code, sizes = encode_image(images, self.image_shape, self.code_size)
        items, shrinkage = int(self.items or 0), float(self.shrinkage or 0)
        memory = MemoryModule(items, shrinkage, self.similarity, name="memory")
        queries = code
        if self.query == "image":
            queries = keras.layers.Reshape((1, 1, math.prod(code.shape[1:])))(code)
        read, addresses = memory(queries)
        if self.query == "image":
            read = keras.layers.Reshape(code.shape[1:])(read)
        outputs = {
            "reconstruction": decode_image(read, sizes, self.image_shape),
            "addresses": addresses,
            "code": code,
        }
        if self.svdd_weight:
            pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(code)
            outputs["distance"] = DistanceToCenter(name="sphere")(pooled)
        network = finish(keras.Model(images, outputs), self.seed)
        return {"memae": network, **self._build_contrast(), **self._build_neighbors(code)}

    def _train(self, training: Training) -> None:
        prepared = self._prepare_training(training)
        noise, _ = split_noise(self.augmentation)
        network = self._networks["memae"]
        if self.svdd_weight:
            codes = self._apply("_code", training.images, 256)
            network.get_layer("sphere").set_center(codes.mean((1, 2)))
        model = MemoryReconstruction(
            network,
            self.entropy_weight,
            self.svdd_weight,
            noise,
            self.seed,
            self.restore_rotations,
        )
        self._fit_network(prepared, model)
        self._keep_codes(training.images)

    def _outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._networks["memae"](self._prepare(images), training=False)

    def _reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        return self._restore(self._outputs(images)["reconstruction"], images)

    def _address(self, images: tf.Tensor) -> tf.Tensor:
        return self._outputs(images)["addresses"]

    def _code(self, images: tf.Tensor) -> tf.Tensor:
        return self._outputs(images)["code"]

    def _score(self, images: tf.Tensor) -> tf.Tensor:
        prepared = self._prepare(images)
        outputs = self._networks["memae"](prepared, training=False)
        score = self._residual_score(prepared, outputs["reconstruction"])
        if self.svdd_weight:
            score += self.svdd_weight * outputs["distance"]
        if self.code_neighbors:
            score *= self._neighbor_distance(_vectors(outputs["code"]))
        return score

    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return _vectors(self._code(images))


def _vectors(codes: tf.Tensor) -> tf.Tensor:
    return tf.reshape(codes, [-1, math.prod(codes.shape[1:])])


class MemoryReconstruction(Reconstruction):
    """Trains MemAE's network; logs the reconstruction error and how the memory is used.

    Args:
        network: images to `reconstruction`, `addresses` and, with `svdd_weight`, `distance`.
        entropy_weight: of the mean entropy of the addresses.
        svdd_weight: of the mean squared distance to the centre.
        noise: puts noise on the input of each step; None puts none.
        seed: of the noise and the turns.
        rotations: whether the input of each step is turned by quarter turns.
    """

    def __init__(
        self,
        network: keras.Model,
        entropy_weight: float,
        svdd_weight: float = 0.0,
        noise: AugmentationPolicy | None = None,
        seed: int = 0,
        rotations: bool = False,
    ) -> None:
        super().__init__(network, noise, seed, rotations)
        self.entropy_weight = entropy_weight
        self.svdd_weight = svdd_weight
        self.error = keras.metrics.Mean("reconstruction_error")
        self.entropy = keras.metrics.Mean("address_entropy")
        self.usage = MemoryUsage(network.get_layer("memory").items)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        error = tf.reduce_mean(tf.math.squared_difference(y, y_pred["reconstruction"]))
        entropy = tf.reduce_mean(address_entropy(y_pred["addresses"]))
        self.error.update_state(error)
        self.entropy.update_state(entropy)
        self.usage.update_state(y_pred["addresses"])
        loss = error + self.entropy_weight * entropy
        if self.svdd_weight:
            loss += self.svdd_weight * tf.reduce_mean(y_pred["distance"])
        return loss
