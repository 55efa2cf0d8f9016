"""What attacks raise: one number for each image, from its logits."""

from __future__ import annotations

import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns -log of the label's probability, float32 [N].

    Args:
        logits: float32 [N, classes].
        labels: int64 [N].
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


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
