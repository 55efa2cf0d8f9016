"""Images of one mean and one contrast, for the detectors that can take them so."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.training import Training
from robustcls._settings import Flag

# Of an image in one colour, which has no contrast.
_SMALLEST = 1e-6


@keras.saving.register_keras_serializable(package="anomaly")
class ContrastNormalization(keras.layers.Layer):
    """Subtracts each image's mean, divides by its mean absolute deviation, and rescales.

    The rescaling maps the range that the images of `adapt` have to [0, 1]; what other images have
    beyond that is clipped.

    Input shape: [N, H, W, C]. Output shape: the input's, in [0, 1].

    Reference: Ruff et al., 2018, "Deep One-Class Classification", section 4.1: global contrast
    normalization in the L1 norm, then min-max scaling.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.low = self.add_weight(name="low", shape=(), initializer="zeros", trainable=False)
        self.high = self.add_weight(name="high", shape=(), initializer="ones", trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, contrast = _moments(inputs)
        scaled = ((inputs - mean) / contrast - self.low) / (self.high - self.low)
        return tf.clip_by_value(scaled, 0.0, 1.0)

    def in_stock_layers(self, inputs: Any) -> Any:
        """As `call`, for `save_classifier`."""
        offset = inputs - keras.ops.mean(inputs, [1, 2, 3], keepdims=True)
        contrast = keras.ops.mean(keras.ops.abs(offset), [1, 2, 3], keepdims=True)
        low, high = float(self.low), float(self.high)
        scaled = offset / keras.ops.maximum(contrast, _SMALLEST) - low
        return keras.ops.clip(scaled / float(np.float32(high) - np.float32(low)), 0.0, 1.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return input_shape

    def adapt(self, images: np.ndarray, batch_size: int = 256) -> None:
        """Takes the range of images [N, H, W, C]."""
        lows, highs = [], []
        for start in range(0, len(images), batch_size):
            batch = tf.constant(images[start : start + batch_size])
            mean, contrast = _moments(batch)
            scaled = (batch - mean) / contrast
            lows.append(float(tf.reduce_min(scaled)))
            highs.append(float(tf.reduce_max(scaled)))
        self.low.assign(min(lows))
        self.high.assign(max(highs))

    def undo(self, normalized: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Gives `normalized` [N, H, W, C] the mean and the contrast that `images` had."""
        mean, contrast = _moments(images)
        return (normalized * (self.high - self.low) + self.low) * contrast + mean


@dataclass(kw_only=True, eq=False)
class ContrastDetector(OneClassDetector):
    """A detector whose networks can take images through `ContrastNormalization`.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images; None is 20, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        contrast_normalization: whether the networks see images of one mean and one contrast (bool,
            default False).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
    """

    contrast_normalization: Flag = False

    def _build_contrast(self) -> dict[str, keras.Model]:
        """Returns the network that `_prepare` needs, by its name in `networks`."""
        if not self.contrast_normalization:
            return {}
        images = keras.Input(self.image_shape, dtype="float32", name="images")
        return {"contrast": keras.Model(images, ContrastNormalization(name="contrast")(images))}

    def _contrast(self) -> ContrastNormalization:
        return self.networks["contrast"].get_layer("contrast")

    def _prepare(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to what the other networks take."""
        return self._contrast()(images) if self.contrast_normalization else images

    def _prepare_training(self, training: Training) -> Training:
        """Returns the training on prepared images, after the range of its own is known."""
        if not self.contrast_normalization:
            return training
        self._contrast().adapt(training.images)
        parts: dict[str, Any] = {
            name: self.run_batches("_prepare", images, 256)
            for name in ("images", "validation", "anomalies")
            if (images := getattr(training, name)) is not None
        }
        return dataclasses.replace(training, **parts)


def _moments(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    mean = tf.reduce_mean(images, [1, 2, 3], keepdims=True)
    contrast = tf.reduce_mean(tf.abs(images - mean), [1, 2, 3], keepdims=True)
    return mean, tf.maximum(contrast, _SMALLEST)
