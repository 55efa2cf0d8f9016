"""What trains an energy-based GAN: energies, losses and models for Keras' `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.training import draw
from robustcls._validation import InputError
from robustcls.distribution.replicas import draw_for_replica, share_of


def energy(images: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """Returns D(x), the mean squared error of each image: [N] from two [N, H, W, C]."""
    return tf.reduce_mean(tf.math.squared_difference(images, reconstruction), [1, 2, 3])


def pulling_away(codes: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared cosine between different codes [N, D] of a batch, N ≥ 2."""
    unit = tf.nn.l2_normalize(codes, -1)
    cosines = tf.matmul(unit, unit, transpose_b=True)
    count = tf.cast(tf.shape(codes)[0], cosines.dtype)
    others = tf.reduce_sum(cosines**2) - tf.reduce_sum(tf.linalg.diag_part(cosines) ** 2)
    return others / (count * (count - 1))


class Energy(keras.Model):
    """Trains the discriminator as a plain autoencoder.

    Args:
        discriminator: of `build_autoencoder`.
    """

    def __init__(self, discriminator: keras.Model) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.real = keras.metrics.Mean("energy")

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = 2 * batch[0] - 1
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            loss = share_of(self.loss_of(images))
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return self.get_metrics_result()

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = 2 * batch[0] - 1
        outputs = self.discriminator(images, training=False)
        self.real.update_state(energy(images, outputs["reconstruction"]))
        return {self.real.name: self.real.result()}

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the loss of images [N, H, W, C] in [-1, 1] and counts their energy."""
        outputs = self.discriminator(images, training=True)
        low = energy(images, outputs["reconstruction"])
        self.real.update_state(low)
        return tf.reduce_mean(low)


class EnergyGAN(Energy):
    """Trains discriminator and generator against each other.

    Args:
        discriminator: of `build_autoencoder`.
        generator: of `build_generator`.
        margin: energy that generated images are raised to, > 0.
        pulling_weight: of the pulling-away term, ≥ 0.
        seed: of z.
    """

    def __init__(
        self,
        discriminator: keras.Model,
        generator: keras.Model,
        margin: float,
        pulling_weight: float,
        seed: int,
    ) -> None:
        super().__init__(discriminator)
        self.generator = generator
        self.margin = margin
        self.pulling_weight = pulling_weight
        self.seed = seed
        self.fake = keras.metrics.Mean("generated_energy")
        self.pulling = keras.metrics.Mean("pulling_away")

    def compile(self, optimizer: keras.optimizers.Optimizer, generator_optimizer: Any) -> None:
        super().compile(optimizer)
        optimizer.build(self.discriminator.trainable_variables)
        generator_optimizer.build(self.generator.trainable_variables)
        self.generator_optimizer = generator_optimizer
        # What the checkpoints keep.
        self.optimizers = [optimizer, generator_optimizer]

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = 2 * batch[0] - 1
        count = tf.shape(images)[0]
        # Keyed by the step, so a resumed training sees the draws of one that was not stopped.
        step = tf.cast(self.optimizer.iterations, tf.int64)
        key = tf.stack([tf.constant(self.seed, tf.int64), step])
        noise = draw_for_replica(
            lambda shape: tf.random.stateless_normal(shape, key),
            [count, self.generator.input_shape[-1]],
        )
        variables = self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            fake = self.generator(noise, training=True)
            with tape.stop_recording():
                self._train_discriminator(images, fake)
            # The updated discriminator, without averaging in a batch of generated images alone.
            outputs = self.discriminator(fake, training=False)
            pulling = pulling_away(outputs["code"])
            loss = tf.reduce_mean(energy(fake, outputs["reconstruction"]))
            loss = share_of(loss + self.pulling_weight * pulling)
        gradients = tape.gradient(loss, [v.value for v in variables])
        self.generator_optimizer.apply(gradients, variables)
        self.pulling.update_state(pulling)
        return self.get_metrics_result()

    def _train_discriminator(self, images: tf.Tensor, fake: tf.Tensor) -> None:
        variables = self.discriminator.trainable_variables
        both = tf.concat([images, fake], 0)
        with tf.GradientTape() as tape:
            outputs = self.discriminator(both, training=True)
            low, high = tf.split(energy(both, outputs["reconstruction"]), 2)
            loss = share_of(tf.reduce_mean(low) + tf.reduce_mean(tf.nn.relu(self.margin - high)))
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        self.real.update_state(low)
        self.fake.update_state(high)


class Unlearning(Energy):
    """Raises the energy of known anomalies to the margin, keeps that of normal images low.

    Args:
        discriminator: of `build_autoencoder`.
        anomalies: float32 [K, H, W, C] in [0, 1].
        margin: energy that the anomalies are raised to, > 0.
        seed: of the draws from `anomalies`.
    """

    def __init__(
        self, discriminator: keras.Model, anomalies: np.ndarray | None, margin: float, seed: int
    ) -> None:
        super().__init__(discriminator)
        if anomalies is None:
            raise InputError("anomalies must be images to unlearn; received None.")
        self.anomalies = tf.constant(2 * anomalies - 1)
        self.margin = margin
        self.seed = seed
        self.anomalous = keras.metrics.Mean("anomaly_energy")

    def loss_of(self, images: tf.Tensor) -> tf.Tensor:
        drawn = draw(self.anomalies, tf.shape(images)[0], self.seed, self.optimizer.iterations)
        both = tf.concat([images, drawn], 0)
        # Averages stay those of normal and generated images; a few anomalies would bend them.
        outputs = self.discriminator(both, training=False)
        low, high = tf.split(energy(both, outputs["reconstruction"]), 2)
        self.real.update_state(low)
        self.anomalous.update_state(high)
        return tf.reduce_mean(low) + tf.reduce_mean(tf.nn.relu(self.margin - high))
