"""Adversarial regularization beside the other objectives."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import Flag, NonNegativeFloat, PositiveInt, check_settings
from robustcls.training.adversarial.neighbours import Neighbours
from robustcls.training.config import GradNorm, StepSize
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy


@dataclass(frozen=True, kw_only=True)
class NeighbourRegularization(Objective):
    """CE(f(x)) + multiplier * CE(f(x')), where x' is an adversarial neighbour of x.

    What `AdversarialRegularization` trains, image by image, with the neighbours of Neural
    Structured Learning; that one takes the gradient of the images from the backward pass of the
    weights, and so costs a pass less. Neighbours are kept in [0, 1].

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015, section 6.

    Args:
        multiplier: weight of the neighbours' loss (float >= 0, default 0.2).
        step_size: length of each step (float in (0, 1], default 8/255).
        grad_norm: of the gradient ("infinity", "l2" or "l1", default "infinity").
        iterations: number of steps (int >= 1, default 1).
        epsilon: radius of the ball that each step is projected to; None does not project (float in
            (0, 1] or None, default None).
        random_start: begin at a random point of the ball, which needs `epsilon` (bool, default
            False).

    Raises:
        InputError: a setting is out of its range; `epsilon` or `random_start` with "l1", or
            `random_start` without `epsilon`.
    """

    name = "nsl"

    multiplier: NonNegativeFloat = 0.2
    step_size: StepSize = 8 / 255
    grad_norm: GradNorm = "infinity"
    iterations: PositiveInt = 1
    epsilon: StepSize | None = None
    random_start: Flag = False

    def __post_init__(self) -> None:
        check_settings(self)
        self._neighbours()

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        def losses_of(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = batch.logits(points, training=True)
            return cross_entropy(logits, batch.labels), logits

        # Gradients of the weights would double the work.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch.images)
            losses, logits = losses_of(batch.images)
            total = batch.scale_loss(tf.reduce_mean(losses))
        moved = self._neighbours().of(
            batch.images,
            {"": tape.gradient(total, batch.images)},
            lambda points: tf.reduce_mean(losses_of(points)[0]),
            batch.draw,
        )
        return losses + self.multiplier * losses_of(moved)[0], logits

    def _neighbours(self) -> Neighbours:
        return Neighbours(
            step_size=self.step_size,
            grad_norm=self.grad_norm,
            iterations=self.iterations,
            epsilon=self.epsilon,
            random_start=self.random_start,
            clip_value_min=0.0,
            clip_value_max=1.0,
        )
