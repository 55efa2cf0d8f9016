"""`ReconstructionDetector`: detectors that give images back, so they can say where they fail."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.maps import MapDetector
from anomaly.detection.views import ImageView
from robustcls.data.augment import AugmentationPolicy
from robustcls.distribution.replicas import draw_for_replica


@dataclass(kw_only=True, eq=False)
class ReconstructionDetector(MapDetector):
    """A detector with a network that gives images back, by the hook `reconstruct_batch`.

    An image's map is the length of each pixel's residual over the channels. Its score is the root
    mean square of the map, where a method has no score of its own.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images; None is 20, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.
    """

    @abc.abstractmethod
    def reconstruct_batch(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images [B, H, W, C] to reconstructions of the same shape.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """

    def reconstruct(self, images: Any, *, batch_size: int = 256) -> np.ndarray:
        """Returns the reconstructions, float32 [N, H, W, C], not clipped to [0, 1].

        Args:
            images: float32 [N, H, W, C] in [0, 1], of `image_shape`.
            batch_size: images a forward pass (int >= 1, default 256).

        Raises:
            InputError: unusable images, or no `fit` yet.
        """
        return self.run_batches("reconstruct_batch", images, batch_size)

    def anomaly_map_batch(self, images: tf.Tensor) -> tf.Tensor:
        return tf.norm(images - self.reconstruct_batch(images), axis=-1)

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        return root_mean_square(images - self.reconstruct_batch(images))

    def view_images(self, images: np.ndarray) -> ImageView:
        """Returns the reconstructions of images [N, H, W, C], their maps and boxes.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        view = super().view_images(images)
        reconstructions = np.clip(self.reconstruct(images), 0, 1)
        pictures: Mapping[str, np.ndarray] = {"reconstruction": reconstructions, **view.pictures}
        return dataclasses.replace(view, pictures=pictures)


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
        noise: an `AugmentationPolicy` that puts noise on the input of each step; None puts none.
            Default None.
        seed: of the noise and the turns, an integer. Default 0.
        rotations: whether the input of each step is turned, as `quarter_turns` does. Default False.
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
    turns = draw_for_replica(
        lambda shape: tf.random.stateless_uniform(shape, seed, 0, 4, tf.int32),
        [tf.shape(images)[0]],
    )
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
