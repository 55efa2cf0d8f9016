"""`ReconstructionDetector`: detectors that give images back, so they can say where they fail."""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.thresholds import conformal_threshold
from anomaly.localization.boxes import Box, find_boxes, smooth
from robustcls.data.augment import AugmentationPolicy

Detector = TypeVar("Detector", bound="ReconstructionDetector")


@dataclass(kw_only=True, eq=False)
class ReconstructionDetector(OneClassDetector):
    """A detector with a network that gives images back.

    An image's map is the length of each pixel's residual over the channels. Its score is the root
    mean square of the map, where a method has no score of its own.

    Attributes:
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.
        (others): as for `OneClassDetector`.
    """

    _thresholds: ClassVar[tuple[str, ...]] = ("threshold", "pixel_threshold")

    pixel_threshold: float = field(default=math.nan, init=False)

    @abc.abstractmethod
    def _reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to reconstructions of the same shape."""

    def reconstruct(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns the reconstructions, float32 [N, H, W, C], not clipped to [0, 1].

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self._apply("_reconstruct", images, batch_size)

    def anomaly_map(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns how anomalous each pixel is, float32 [N, H, W], ≥ 0.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self._apply("_anomaly_map", images, batch_size)

    def boxes(self, images: Any, *, batch_size: int = 256) -> list[list[Box]]:
        """Returns the boxes around what is anomalous in each image, the most anomalous first.

        At most a share `false_alarm_rate` of normal images has any, on average.
        An image need not have boxes because `predict` says so, nor the other way round.

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        maps = self.anomaly_map(images, batch_size=batch_size)
        return find_boxes(smooth(maps), self.pixel_threshold)

    def calibrate(
        self: Detector, normal_images: Any, false_alarm_rate: float | None = None
    ) -> Detector:
        """Takes the thresholds of images and pixels anew, or for another false-alarm rate.

        Args:
            normal_images: float32 [N, H, W, C] in [0, 1], never trained on.
            false_alarm_rate: kept from now on (float in (0, 1) or None, default None); None
                stays with the present one.

        Raises:
            InputError: unusable or too few images, or a training that diverged.
        """
        super().calibrate(normal_images, false_alarm_rate)
        # An image has boxes where its highest pixel is above, so this too counts images.
        highest = smooth(self.anomaly_map(normal_images)).max(axis=(1, 2))
        self.pixel_threshold = conformal_threshold(highest, self.false_alarm_rate)
        return self

    def _anomaly_map(self, images: tf.Tensor) -> tf.Tensor:
        return tf.norm(images - self._reconstruct(images), axis=-1)

    def _score(self, images: tf.Tensor) -> tf.Tensor:
        return root_mean_square(images - self._reconstruct(images))


def root_mean_square(residuals: tf.Tensor, pooling: int = 1) -> tf.Tensor:
    """Returns the root mean square over the pixels of each residual's length, [N].

    With `pooling` above 1 it is over cells of that many pixels a side, of their mean residual.
    """
    if pooling > 1:
        residuals = tf.nn.avg_pool2d(residuals, pooling, pooling, "SAME")
    return tf.sqrt(tf.reduce_mean(tf.reduce_sum(residuals**2, -1), [1, 2]))


class Reconstruction(keras.Model):
    """Trains a network to give images back, the clean ones where noise was put in.

    Args:
        network: images [N, H, W, C] to reconstructions of the same shape.
        noise: puts noise on the input of each step; None puts none.
        seed: of the noise and the turns.
        rotations: whether the input of each step is turned, as `quarter_turns` does.
    """

    def __init__(
        self,
        network: keras.Model,
        noise: AugmentationPolicy | None = None,
        seed: int = 0,
        rotations: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.noise = noise
        self.seed = seed
        self.rotations = rotations

    def call(self, images: Any, training: bool | None = None) -> Any:
        return self.network(images, training=training)

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = batch
        inputs = images
        # Keyed by the step, so a resumed training sees the draws of one that was not stopped.
        step = tf.cast(self.optimizer.iterations, tf.int64)
        key = tf.stack([tf.constant(self.seed, tf.int64), step])
        if self.rotations:
            inputs = quarter_turns(inputs, key)
        if self.noise is not None:
            inputs = self.noise(inputs, seed=key)
        return super().train_step((inputs, images))

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, _ = batch
        return super().test_step((images, images))


def quarter_turns(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Turns each of images [N, S, S, C] by 0, 90, 180 or 270 degrees, drawn evenly.

    Args:
        images: of one height and width.
        seed: int64 [2].
    """
    turns = tf.random.stateless_uniform([tf.shape(images)[0]], seed, 0, 4, tf.int32)
    mirrored = tf.transpose(images, [0, 2, 1, 3])
    quarters = [images, tf.reverse(mirrored, [1]), tf.reverse(images, [1, 2])]
    turned = tf.stack([*quarters, tf.reverse(mirrored, [2])], 1)
    return tf.gather(turned, turns, batch_dims=1)


def split_noise(
    policy: AugmentationPolicy | None,
) -> tuple[AugmentationPolicy | None, AugmentationPolicy | None]:
    """Returns the noise of a policy, and the policy without noise; None where there is none."""
    if policy is None:
        return None, None
    geometry_and_colour = dataclasses.replace(policy, noise_probability=0)
    if not policy.noises:
        return None, geometry_and_colour
    noise = dataclasses.replace(
        AugmentationPolicy.none(),
        noise_probability=policy.noise_probability,
        gaussian_stddev=policy.gaussian_stddev,
        poisson_photons=policy.poisson_photons,
        salt_and_pepper_amount=policy.salt_and_pepper_amount,
        speckle_stddev=policy.speckle_stddev,
    )
    return noise, geometry_and_colour
