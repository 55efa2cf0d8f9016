"""What attacks raise: one number for each image, from its logits."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns cross-entropy in the form of log-odds, log((1 - p) / p), float32 [N].

    Cross-entropy, -log(p), rises with them and has a gradient of the same direction, which is
    all that the attacks go by. But its gradient loses its digits as p comes within 1e-7 of 1 and
    is 0 soon after, so that a model looks robust because it is sure; the log-odds keep theirs.

    Args:
        logits: float32 [N, classes].
        labels: int64 [N].
    """
    own = tf.gather(logits, labels, batch_dims=1)
    is_own = tf.one_hot(labels, tf.shape(logits)[1], True, False, dtype=tf.bool)
    return tf.reduce_logsumexp(tf.where(is_own, -np.inf, logits), -1) - own


def dlr(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the difference of logits ratio, float32 [N]; arguments as `cross_entropy`.

    The margin by which the model is wrong, over the distance from the first to the third logit:
    unlike cross-entropy it neither vanishes nor grows when the logits are scaled.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020, section 4; at least three classes.
    """
    top = tf.math.top_k(logits, 3).values
    own = tf.gather(logits, labels, batch_dims=1)
    is_top = tf.equal(tf.argmax(logits, -1), labels)
    other = tf.where(is_top, top[:, 1], top[:, 0])
    return (other - own) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the ratio with a target in the place of the best other class, float32 [N].

    Source: as `dlr`; at least four classes.

    Args:
        logits: float32 [N, classes].
        labels: int64 [N], the class to leave.
        targets: int64 [N], the class to reach.
    """
    top = tf.math.top_k(logits, 4).values
    difference = logit_difference(logits, labels, targets)
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def logit_difference(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the target's logit minus the label's, float32 [N]; arguments as `targeted_dlr`."""
    own = tf.gather(logits, labels, batch_dims=1)
    return tf.gather(logits, targets, batch_dims=1) - own
