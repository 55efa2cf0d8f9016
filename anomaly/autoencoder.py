"""`AutoEncoder`: what an autoencoder of normal images cannot reconstruct is anomalous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import keras
import tensorflow as tf

from anomaly.detection.layers import decode_image, encode_image
from anomaly.detection.reconstruction import Reconstruction, split_noise
from anomaly.detection.residual import ResidualDetector
from anomaly.detection.training import Training
from robustcls.models.reproducible import finish


@dataclass(kw_only=True, eq=False)
class AutoEncoder(ResidualDetector):
    """A plain convolutional autoencoder, scored by its residual.

    The networks are MemAE's for images without the memory. It learns to give back images in the
    mean square; an image's map is the length of each pixel's residual over the channels.

    Attributes:
        (all): as for `ResidualDetector`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = AutoEncoder(image_shape=(28, 28, 1), epochs=1).fit(images, verbose=0)
        >>> detector.score(images).shape, detector.anomaly_map(images).shape
        ((128,), (128, 28, 28))

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection" (its baseline AE).
    """

    method: ClassVar[str] = "autoencoder"

    def _build(self) -> dict[str, keras.Model]:
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        code, sizes = encode_image(images, self.image_shape, self.code_size)
        outputs = decode_image(code, sizes, self.image_shape)
        network = finish(keras.Model(images, outputs), self.seed)
        parts = {**self._build_contrast(), **self._build_neighbors(code)}
        return {"autoencoder": network, **parts}

    def _train(self, training: Training) -> None:
        prepared = self._prepare_training(training)
        noise, _ = split_noise(self.augmentation)
        network = self._networks["autoencoder"]
        model = Reconstruction(network, noise, self.seed, self.restore_rotations)
        self._fit_network(prepared, model)
        self._keep_codes(training.images)

    def _reconstruct_prepared(self, prepared: tf.Tensor) -> tf.Tensor:
        return self._networks["autoencoder"](prepared, training=False)

    def _reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        return self._restore(self._reconstruct_prepared(self._prepare(images)), images)

    def _score(self, images: tf.Tensor) -> tf.Tensor:
        prepared = self._prepare(images)
        score = self._residual_score(prepared, self._reconstruct_prepared(prepared))
        if self.code_neighbors:
            score *= self._neighbor_distance(self._encode_prepared(prepared))
        return score

    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return self._encode_prepared(self._prepare(images))

    def _encode_prepared(self, prepared: tf.Tensor) -> tf.Tensor:
        network = self._networks["autoencoder"]
        last = [layer for layer in network.layers if layer.name.startswith("encoder")][-1]
        code = keras.Model(network.input, last.output)(prepared, training=False)
        return tf.reshape(code, [-1, math.prod(code.shape[1:])])
