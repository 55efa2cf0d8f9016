"""Training on images moved by one step; cheap, and to be watched (see `RobustnessWatch`)."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import Epsilon, Flag, NonNegativeFloat, check_settings
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy
from robustcls.training.objectives.perturbing import (
    ascend,
    check_step,
    direction,
    project,
    uniform,
)


@dataclass(frozen=True, kw_only=True)
class RandomStartFGSM(Objective):
    """Cross-entropy of images after a uniform start and one step, projected.

    Source: Wong et al., "Fast is better than free: Revisiting adversarial training", 2020,
    section 4. The attack sees batch norm as in training. Robustness to longer attacks may vanish
    within an epoch where epsilon is large.

    Args:
        epsilon: radius of the L-infinity ball for images in [0, 1] (float in (0, 1],
            default 8/255).
        step_size: length of the step; 1.25 * epsilon when None (float in (0, 1] or None, default
            None).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "fgsm_rs"

    epsilon: Epsilon = 8 / 255
    step_size: Epsilon | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        check_step(self.step_size, self.epsilon)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        start = project(batch.images + uniform(batch, self.epsilon), batch.images, self.epsilon)
        points = ascend(
            batch,
            lambda logits: cross_entropy(logits, batch.labels),
            start,
            epsilon=self.epsilon,
            step_size=1.25 * self.epsilon if self.step_size is None else self.step_size,
            steps=1,
            training=True,
        )
        logits = batch.logits(points, training=True)
        return cross_entropy(logits, batch.labels), logits


@dataclass(frozen=True, kw_only=True)
class NoiseFGSM(Objective):
    """Cross-entropy of images after strong noise and one step, not projected to the ball.

    Source: de Jorge et al., "Make Some Noise: Reliable and Efficient Single-Step Adversarial
    Training", 2022, section 4. The attack sees batch norm as in training.

    Args:
        epsilon: length of the step, the radius that the model is to withstand (float in (0, 1],
            default 8/255).
        noise: the start is uniform within `noise * epsilon` (float >= 0, default 2.0).
        clip: clip the images to [0, 1] after the step (bool, default True).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "n_fgsm"

    epsilon: Epsilon = 8 / 255
    noise: NonNegativeFloat = 2.0
    clip: Flag = True

    def __post_init__(self) -> None:
        check_settings(self)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        def raised(logits: tf.Tensor) -> tf.Tensor:
            return cross_entropy(logits, batch.labels)

        start = batch.images + uniform(batch, self.noise * self.epsilon)
        points = start + self.epsilon * direction(batch, raised, start, training=True)
        if self.clip:
            points = tf.clip_by_value(points, 0.0, 1.0)
        logits = batch.logits(points, training=True)
        return cross_entropy(logits, batch.labels), logits
