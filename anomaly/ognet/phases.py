"""The two phases of Old is Gold as models that Keras' `fit` trains."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from anomaly.ognet.pieces import join_pieces
from robustcls.distribution.replicas import draw_for_replica, share_of


def signed(images: tf.Tensor) -> tf.Tensor:
    """Returns images in [0, 1] as [-1, 1], where the networks work."""
    return 2 * images - 1


def cross_entropy(logits: tf.Tensor, target: float) -> tf.Tensor:
    """Returns the mean binary cross entropy of logits [N] against one target."""
    targets = tf.fill(tf.shape(logits), target)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))


class PhaseOne(keras.Model):
    """Trains the generator to denoise and to pass for an image, the discriminator to tell.

    The discriminator is updated first, the generator then goes through the updated one.

    Args:
        generator: G, of `build_generator`.
        discriminator: D, of `build_discriminator`.
        noise: standard deviation, for images in [-1, 1], ≥ 0.
        adversarial_weight: of D's verdict in G's loss, in [0, 1]; the reconstruction has the rest.
        seed: of the noise.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        noise: float,
        adversarial_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.noise = noise
        self.adversarial_weight = adversarial_weight
        self.seed = seed
        names = ("reconstruction_error", "generator_loss", "discriminator_loss")
        self.means = [keras.metrics.Mean(name) for name in names]

    def compile(self, optimizer: keras.optimizers.Optimizer, discriminator_optimizer: Any) -> None:
        super().compile(optimizer)
        optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.discriminator_optimizer = discriminator_optimizer
        # What the checkpoints keep.
        self.optimizers = [optimizer, discriminator_optimizer]

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = signed(batch[0])
        # Keyed by the step, so a resumed training sees the noise of one that was not stopped.
        step = tf.cast(self.optimizer.iterations, tf.int64)
        key = tf.stack([tf.constant(self.seed, tf.int64), step])
        noise = draw_for_replica(
            lambda shape: tf.random.stateless_normal(shape, key, stddev=self.noise),
            tf.shape(images),
        )
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in self.generator.trainable_variables])
            fake = self.generator(tf.clip_by_value(images + noise, -1, 1), training=True)
            with tape.stop_recording():
                judged = self._train_discriminator(images, fake)
            error = tf.reduce_mean(tf.math.squared_difference(fake, images))
            passing = cross_entropy(self.discriminator(fake, training=True), 0.0)
            loss = (1 - self.adversarial_weight) * error + self.adversarial_weight * passing
            scaled = share_of(loss)
        variables = [v.value for v in self.generator.trainable_variables]
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply(gradients, self.generator.trainable_variables)
        for mean, value in zip(self.means, (error, loss, judged), strict=True):
            mean.update_state(value)
        return self.get_metrics_result()

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = signed(batch[0])
        fake = self.generator(images, training=False)
        self.means[0].update_state(tf.reduce_mean(tf.math.squared_difference(fake, images)))
        return {self.means[0].name: self.means[0].result()}

    def _train_discriminator(self, images: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            loss = cross_entropy(self.discriminator(images, training=True), 0.0)
            loss += cross_entropy(self.discriminator(fake, training=True), 1.0)
            scaled = share_of(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.discriminator_optimizer.apply(gradients, variables)
        return loss


class PhaseTwo(keras.Model):
    """Trains the discriminator alone to tell good from bad reconstructions.

    What is trained is a copy of D. D itself becomes the average of what the copy was step by step.

    Args:
        generator: G, which is not changed.
        old: G_old, a copy of G from its beginning, which is not changed.
        discriminator: D, which is.
        old_weight: of G_old(x) among bad reconstructions, in [0, 1].
        image_weight: of the images among good ones, in [0, 1].
        pseudo_anomalies: "pieces" or "means".
        averaging: what D's running average keeps of itself at a step, in [0, 1].
        seed: of the pieces.
        apart: whether D's batch norm averages over each kind of images alone, as in the authors'
            code, instead of over all of them (bool, default False).
    """

    def __init__(
        self,
        generator: keras.Model,
        old: keras.Model,
        discriminator: keras.Model,
        old_weight: float,
        image_weight: float,
        pseudo_anomalies: str,
        averaging: float,
        seed: int,
        *,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.learner = keras.models.clone_model(discriminator)
        self.learner.set_weights(discriminator.get_weights())
        self.old_weight = old_weight
        self.image_weight = image_weight
        self.pseudo_anomalies = pseudo_anomalies
        self.averaging = averaging
        self.seed = seed
        self.apart = apart
        self.loss_mean = keras.metrics.Mean("discriminator_loss")
        # Functions, so that Keras does not count them among what is trained and checkpointed.
        self._reconstruct = lambda images: generator(images, training=False)
        self._reconstruct_badly = lambda images: old(images, training=False)

    def compile(self, optimizer: keras.optimizers.Optimizer) -> None:
        super().compile(optimizer)
        optimizer.build(self.learner.trainable_variables)

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        step = self.optimizer.iterations
        parts = self._parts(signed(batch[0]), step)
        # The first steps count little for the average, or it would long stay what phase one left.
        done = tf.cast(step, tf.float32)
        kept = tf.minimum(self.averaging, done / (done + 10))
        variables = self.learner.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(self.learner, parts, training=True)
            scaled = share_of(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        self.optimizer.apply(gradients, variables)
        for mean, now in zip(self.discriminator.weights, self.learner.weights, strict=True):
            mean.assign(kept * mean + (1 - kept) * now)
        self.loss_mean.update_state(loss)
        return self.get_metrics_result()

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        parts = self._parts(signed(batch[0]), 0)
        self.loss_mean.update_state(self._loss(self.discriminator, parts, training=False))
        return self.get_metrics_result()

    def _parts(self, images: tf.Tensor, step: Any) -> list[tf.Tensor]:
        good, bad = self._reconstruct(images), self._reconstruct_badly(images)
        if self.pseudo_anomalies == "pieces":
            mixed = join_pieces(images, self.seed, step)
        else:
            # Each image with the next: never with itself in a batch of two or more.
            mixed = (bad + tf.roll(bad, 1, 0)) / 2
        return [images, good, bad, self._reconstruct(mixed)]

    def _loss(self, judge: Any, parts: list[tf.Tensor], training: bool) -> tf.Tensor:
        weights = (self.image_weight, 1 - self.image_weight, self.old_weight, 1 - self.old_weight)
        if self.apart:
            logits = [judge(part, training=training) for part in parts]
        else:
            # One batch, so that batch norm has the same averages for all and as at inference.
            logits = tf.split(judge(tf.concat(parts, 0), training=training), 4)
        losses = [
            weight * cross_entropy(values, target)
            for weight, values, target in zip(weights, logits, (0.0, 0.0, 1.0, 1.0), strict=True)
        ]
        return tf.add_n(losses)
