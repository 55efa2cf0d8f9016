"""Training on PGD's images."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import Epsilon, Flag, PositiveInt, check_settings
from robustcls.training.objectives.objective import Batch, Objective, cross_entropy
from robustcls.training.objectives.perturbing import ascend, check_step, project, uniform


@dataclass(frozen=True, kw_only=True)
class PGDTraining(Objective):
    """Cross-entropy of images that projected gradient descent has moved, and of them alone.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018,
    section 2.1. The attack sees batch norm as in training, as in the authors' code, so its images
    enter the moving statistics.

    Args:
        epsilon: radius of the L-infinity ball for images in [0, 1] (float in (0, 1],
            default 8/255).
        steps: gradient steps (int >= 1, default 10).
        step_size: length of a step; epsilon / 4 when None (float in (0, 1] or None, default None).
        random_start: begin at a uniform point of the ball; else at the image (bool, default True).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "pgd"

    epsilon: Epsilon = 8 / 255
    steps: PositiveInt = 10
    step_size: Epsilon | None = None
    random_start: Flag = True

    def __post_init__(self) -> None:
        check_settings(self)
        check_step(self.step_size, self.epsilon)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        points = batch.images
        if self.random_start:
            points = project(points + uniform(batch, self.epsilon), batch.images, self.epsilon)
        points = ascend(
            batch,
            lambda logits: cross_entropy(logits, batch.labels),
            points,
            epsilon=self.epsilon,
            step_size=self.epsilon / 4 if self.step_size is None else self.step_size,
            steps=self.steps,
            training=True,
        )
        logits = batch.logits(points, training=True)
        return cross_entropy(logits, batch.labels), logits
