"""`DeepSVDD`: features of normal images are pulled into a small sphere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.deep_svdd.sphere import DistanceToCenter
from anomaly.detection.contrast import ContrastDetector
from anomaly.detection.layers import NORM_MOMENTUM, crop
from anomaly.detection.reconstruction import Reconstruction
from anomaly.detection.training import Training, draw
from robustcls._settings import NonNegativeInt, PositiveFloat
from robustcls.distribution.replicas import share_of
from robustcls.models.reproducible import finish

# Paper's distance to the anomalies' centre is inverted; this keeps the inverse finite.
_NEAREST = 1e-6
_SLOPE = 0.1


@dataclass(kw_only=True, eq=False)
class DeepSVDD(ContrastDetector):
    """One-class Deep SVDD, scored by the squared distance to the centre.

    The encoder is first trained inside an autoencoder. The centre is the mean of its features of
    the training images from then on. No layer has a bias and no batch norm an affine part, so
    that the encoder cannot map every image to the centre.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images in the one-class training; None is 30, more where
            images are few (int >= 1 or None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        contrast_normalization: whether the encoder sees images of one mean and one contrast, as the
            paper has it (bool, default False).
        pretraining_epochs: passes in the training of the autoencoder before it; None as for
            `epochs` (int >= 0 or None, default None).
        learning_rate: of both Adams, with a weight decay of 1e-6 (float > 0, default 1e-3).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = DeepSVDD(image_shape=(28, 28, 1), epochs=1, pretraining_epochs=1)
        >>> detector.fit(images, verbose=0).score(images).shape
        (128,)

    Reference: Ruff et al., 2018, "Deep One-Class Classification", sections 3 and 4.
    """

    method: ClassVar[str] = "deep_svdd"

    usual: ClassVar[Mapping[str, int]] = {"epochs": 30, "pretraining_epochs": 30}

    pretraining_epochs: NonNegativeInt | None = None
    learning_rate: PositiveFloat = 1e-3

    def build(self) -> dict[str, keras.Model]:
        images, features, _ = _encoder(self.image_shape)
        distance = DistanceToCenter(name="sphere")(features)
        model = keras.Model(images, {"features": features, "distance": distance})
        return {"encoder": finish(model, self.seed), **self._build_contrast()}

    def train(self, training: Training) -> None:
        training = self._prepare_training(training)
        encoder = self.networks["encoder"]
        if self.pretraining_epochs:
            autoencoder = Reconstruction(Decoded(encoder, self._decoder()))
            autoencoder.compile(self._optimizer(), loss="mse")
            self.run_stage(training, "1_autoencoder", autoencoder, self.pretraining_epochs)
        features = self.run_batches("_features", training.images, 256)
        encoder.get_layer("sphere").set_center(features)
        model = self._sphere(training)
        model.compile(self._optimizer())
        self.run_stage(training, "2_sphere", model, int(self.epochs or 0))

    def _sphere(self, training: Training) -> Sphere:
        return Sphere(self.networks["encoder"])

    def _decoder(self) -> keras.Model:
        _, features, sizes = _encoder(self.image_shape)
        return finish(_decoder(features.shape[-1], sizes, self.image_shape), self.seed)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.learning_rate, weight_decay=1e-6)

    def _features(self, prepared: tf.Tensor) -> tf.Tensor:
        return self.networks["encoder"](prepared, training=False)["features"]

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self.networks["encoder"](self._prepare(images), training=False)["distance"]

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self._features(self._prepare(images))


class Sphere(keras.Model):
    """Trains an encoder to bring normal images to the centre, and anomalies away from it.

    Args:
        encoder: images to `features` and `distance`.
        anomalies: float32 [K, H, W, C] in [0, 1], or None.
        normal_count: images in the training set, for the share of the anomalies in the loss.
        eta: weight of an anomaly beside a normal image.
        seed: of the draws from `anomalies`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        anomalies: np.ndarray | None = None,
        normal_count: int = 0,
        eta: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.anomalies = None if anomalies is None else tf.constant(anomalies)
        self.share = 0.0
        if anomalies is not None:
            self.share = len(anomalies) / (len(anomalies) + normal_count)
        self.eta = eta
        self.seed = seed
        self.distance = keras.metrics.Mean("distance")

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = batch
        count = tf.shape(images)[0]
        if self.anomalies is not None:
            drawn = draw(self.anomalies, count, self.seed, self.optimizer.iterations)
            images = tf.concat([images, drawn], 0)
        variables = self.encoder.trainable_variables
        with tf.GradientTape() as tape:
            distances = self.encoder(images, training=True)["distance"]
            loss = (1 - self.share) * tf.reduce_mean(distances[:count])
            if self.anomalies is not None:
                inverse = 1 / (distances[count:] + _NEAREST)
                loss += self.share * self.eta * tf.reduce_mean(inverse)
            loss = share_of(loss)
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        self.distance.update_state(distances[:count])
        return self.get_metrics_result()

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        self.distance.update_state(self.encoder(batch[0], training=False)["distance"])
        return self.get_metrics_result()


class Decoded(keras.Model):
    """An encoder with a decoder on its features, for the pretraining.

    Args:
        encoder: images to `features`.
        decoder: features to images.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def call(self, images: Any, training: bool | None = None) -> Any:
        features = self.encoder(images, training=training)["features"]
        return self.decoder(features, training=training)


def _stages(image_shape: tuple[int, int, int]) -> tuple[tuple[int, ...], int]:
    """The paper's filters and feature size, those for MNIST where images are gray."""
    return ((8, 4), 32) if image_shape[-1] == 1 else ((32, 64, 128), 128)


def _encoder(image_shape: tuple[int, int, int]) -> tuple[Any, Any, list[Any]]:
    filters, size = _stages(image_shape)
    images = keras.Input(image_shape, dtype="float32", name="images")
    x, sizes = images, []
    for number, count in enumerate(filters, 1):
        sizes.append(x.shape[1:3])
        name = f"encoder_{number}"
        x = keras.layers.Conv2D(count, 5, padding="same", use_bias=False, name=name)(x)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{name}_pool")(_active(x, name))
    sizes.append(x.shape[1:3])
    x = keras.layers.Flatten(name="flatten")(x)
    return images, keras.layers.Dense(size, use_bias=False, name="features")(x), sizes


def _decoder(size: int, sizes: list[Any], image_shape: tuple[int, int, int]) -> keras.Model:
    filters, _ = _stages(image_shape)
    features = keras.Input((size,), dtype="float32", name="features")
    height, width = sizes[-1]
    x = keras.layers.Dense(height * width * filters[-1], use_bias=False, name="dense")(features)
    x = keras.layers.Reshape((height, width, filters[-1]), name="reshape")(x)
    for number in reversed(range(len(filters))):
        name = f"decoder_{number + 1}"
        x = keras.layers.UpSampling2D(2, name=f"{name}_up")(_active(x, name))
        x = crop(x, sizes[number], name)
        count = filters[number - 1] if number else image_shape[-1]
        x = keras.layers.Conv2DTranspose(count, 5, padding="same", use_bias=False, name=name)(x)
    return keras.Model(features, keras.layers.Activation("sigmoid", name="sigmoid")(x))


def _active(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(
        momentum=NORM_MOMENTUM, center=False, scale=False, name=f"{name}_norm"
    )(x)
    return keras.layers.LeakyReLU(negative_slope=_SLOPE, name=f"{name}_relu")(x)
