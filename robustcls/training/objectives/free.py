"""Adversarial training at the price of plain training."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import Epsilon, PositiveInt, check_settings
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy


@dataclass(frozen=True, kw_only=True)
class FreeTraining(Objective):
    """Each batch is replayed; one backward pass moves the weights and the perturbation.

    Source: Shafahi et al., "Adversarial Training for Free!", 2019, algorithm 1. The perturbation
    is carried from batch to batch and starts at 0 each epoch. For the price of plain training
    divide its epochs by `replays`.

    Args:
        epsilon: radius of the L-infinity ball for images in [0, 1], and the length of the
            perturbation's steps (float in (0, 1], default 8/255).
        replays: passes over each batch (int >= 1, default 8).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "free"

    epsilon: Epsilon = 8 / 255
    replays: PositiveInt = 8

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def weight_steps(self) -> int:
        return self.replays

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        logits = batch.logits(batch.images, training=True)
        return cross_entropy(logits, batch.labels), logits

    def start(self, batch: Batch) -> tf.Tensor:
        return tf.clip_by_value(batch.images + self._perturbation(batch), 0.0, 1.0)

    def moved(self, batch: Batch, gradient: tf.Tensor) -> None:
        kept = batch.keep("perturbation")
        perturbation = self._perturbation(batch)
        moved = batch.images + perturbation
        # Where the image was clipped, the perturbation has no part in the loss.
        gradient = tf.where((moved >= 0) & (moved <= 1), gradient, 0.0)
        perturbation = tf.clip_by_value(
            perturbation + self.epsilon * tf.sign(gradient), -self.epsilon, self.epsilon
        )
        kept.assign(tf.concat([perturbation, kept[tf.shape(perturbation)[0] :]], 0))

    def _perturbation(self, batch: Batch) -> tf.Tensor:
        count = tf.shape(batch.images)[0]
        return tf.ensure_shape(batch.keep("perturbation")[:count], batch.images.shape)
