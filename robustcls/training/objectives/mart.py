"""More weight for the images that the model gets wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
class MART(Objective):
    """BCE(p(x'), y) + weight * KL(p(x) ‖ p(x')) * (1 - p_y(x)), where x' maximizes cross-entropy.

    The boosted cross-entropy is BCE = -log p_y(x') - log(1 - max p_k(x')), k other than y.

    Source: Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified
    Examples", 2020, equation 11. The attack starts from Gaussian noise of .001 and sees the model
    in inference mode, as in the authors' code.

    Args:
        epsilon: radius of the L-infinity ball for images in [0, 1] (float in (0, 1],
            default 8/255).
        steps: gradient steps (int >= 1, default 10).
        step_size: length of a step; epsilon / 4 when None (float in (0, 1] or None, default None).
        weight: of the divergence; 5 or 6 in the paper (float >= 0, default 5.0).

    Raises:
        InputError: a setting is out of its range.
    """

    name = "mart"

    epsilon: Epsilon = 8 / 255
    steps: PositiveInt = 10
    step_size: Epsilon | None = None
    weight: NonNegativeFloat = 5.0

    def __post_init__(self) -> None:
        check_settings(self)
        check_step(self.step_size, self.epsilon)

    def loss(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        points = ascend_from_gaussian(
            batch,
            lambda logits: cross_entropy(logits, batch.labels),
            epsilon=self.epsilon,
            step_size=self.step_size,
            steps=self.steps,
        )
        logits = batch.logits(batch.images, training=True)
        moved = batch.logits(points, training=True)
        right = tf.exp(-cross_entropy(logits, batch.labels))
        losses = boosted_cross_entropy(moved, batch.labels)
        return losses + self.weight * divergence(logits, moved) * (1.0 - right), logits


def boosted_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns -log p_y - log(1 - max p_k), k other than y, of each image, float32 [N].

    Args:
        logits: float32 [N, classes].
        labels: int64 [N].
    """
    classes = tf.shape(logits)[1]
    others = tf.where(tf.one_hot(labels, classes, True, False, dtype=tf.bool), -np.inf, logits)
    is_rival = tf.one_hot(tf.argmax(others, -1), classes, True, False, dtype=tf.bool)
    # 1 - p of the rival as the others' share: no digits are lost when the rival is sure.
    share = tf.reduce_logsumexp(tf.where(is_rival, -np.inf, logits), -1)
    return cross_entropy(logits, labels) + tf.reduce_logsumexp(logits, -1) - share
