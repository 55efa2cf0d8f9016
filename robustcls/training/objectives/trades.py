"""Clean accuracy and the smoothness around each image, weighed against each other."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from robustcls._settings import Epsilon, NonNegativeFloat, PositiveInt, check_settings
from robustcls.training.objectives.objective import (
    Batch,
    Objective,
    cross_entropy,
    divergence,
)
from robustcls.training.objectives.perturbing import ascend_from_gaussian, check_step


@dataclass(frozen=True, kw_only=True)
class TRADES(Objective):
    """CE(f(x), y) + beta * KL(p(x) ‖ p(x')), where x' maximizes the divergence.

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy",
    2019, equation 5 and algorithm 1. The attack starts from Gaussian noise of .001 and sees the
    model in inference mode, as in the authors' code.

    Args:
        epsilon: radius of the L-infinity ball for images in [0, 1] (float in (0, 1],
            default 8/255).
        steps: gradient steps (int >= 1, default 10).
        step_size: length of a step; epsilon / 4 when None (float in (0, 1] or None, default None).
        beta: weight of the divergence; 1 to 6 in the paper (float >= 0, default 6.0).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "trades"

    epsilon: Epsilon = 8 / 255
    steps: PositiveInt = 10
    step_size: Epsilon | None = None
    beta: NonNegativeFloat = 6.0

    def __post_init__(self) -> None:
        check_settings(self)
        check_step(self.step_size, self.epsilon)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        clean = tf.stop_gradient(batch.logits(batch.images, training=False))
        points = ascend_from_gaussian(
            batch,
            lambda logits: divergence(clean, logits),
            epsilon=self.epsilon,
            step_size=self.step_size,
            steps=self.steps,
        )
        logits = batch.logits(batch.images, training=True)
        moved = batch.logits(points, training=True)
        losses = cross_entropy(logits, batch.labels) + self.beta * divergence(logits, moved)
        return losses, logits
