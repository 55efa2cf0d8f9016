"""What attacks raise: one number for each image, from its logits.

Labels are class ids, int64 [N], or multi-hot rows, bool [N, classes]: whether an image is of each
class, which the sign of its logit answers.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns cross-entropy in the form of log-odds, log((1 - p) / p), float32 [N].

    Cross-entropy, -log(p), rises with them and has a gradient of the same direction, which is
    all that the attacks go by. But its gradient loses its digits as p comes within 1e-7 of 1 and
    is 0 soon after, so that a model looks robust because it is sure; the log-odds keep theirs.

    Of multi-hot labels it is the logarithm of binary cross-entropy summed over the classes, which
    rises with the sum and keeps its digits likewise.

    Args:
        logits: float32 [N, classes].
        labels: int64 [N], or bool [N, classes].
    """
    if labels.shape.rank == 2:
        return tf.reduce_logsumexp(_log_binary(_turned(logits, labels)), -1)
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
    logits, labels = _one_class(logits, labels)
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
        labels: int64 [N], the class to leave; or bool [N, classes].
        targets: int64 [N], the class to reach; of multi-hot labels, 1 + the class to answer wrong.
    """
    logits, labels = _one_class(logits, labels)
    top = tf.math.top_k(logits, 4).values
    difference = logit_difference(logits, labels, targets)
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def logit_difference(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the target's logit minus the label's, float32 [N]; arguments as `targeted_dlr`."""
    logits, labels = _one_class(logits, labels)
    own = tf.gather(logits, labels, batch_dims=1)
    return tf.gather(logits, targets, batch_dims=1) - own


def raised(logits: tf.Tensor, batch: dict[str, tf.Tensor], name: str, aimed: bool) -> tf.Tensor:
    """Returns what Auto-PGD raises, float32 [N].

    Args:
        logits: float32 [N, classes].
        batch: its `labels`, int64 [N] or bool [N, classes], and where `aimed` its `targets`, int64
            [N], as for `targeted_dlr`.
        name: "ce" or "dlr".
        aimed: the ratio of one target rather than of the likeliest class.
    """
    if name == "ce":
        return cross_entropy(logits, batch["labels"])
    if aimed:
        return targeted_dlr(logits, batch["labels"], batch["targets"])
    return dlr(logits, batch["labels"])


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the highest other logit minus the label's, float32 [N]; arguments as `cross_entropy`.

    Its gradient does not vanish as the model gets sure, nor shrink near the boundary.
    """
    logits, labels = _one_class(logits, labels)
    is_own = tf.one_hot(labels, tf.shape(logits)[1], True, False, dtype=tf.bool)
    others = tf.reduce_max(tf.where(is_own, -np.inf, logits), -1)
    return others - tf.gather(logits, labels, batch_dims=1)


def weighted(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the logits, each times a weight of its own, float32 [N].

    Args:
        logits: float32 [N, classes].
        labels: int64 [N], or bool [N, classes].
        weights: float32 [N, classes]; of multi-hot labels [N, 1 + classes], as `targeted_dlr`'s
            targets.
    """
    return tf.reduce_sum(weights * _one_class(logits, labels)[0], -1)


def fooled(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns where the model is wrong about an image, bool [N]; arguments as `cross_entropy`."""
    if labels.shape.rank == 2:
        return tf.reduce_any(tf.not_equal(logits > 0, labels), -1)
    return tf.not_equal(tf.argmax(logits, -1), labels)


def _one_class(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits and labels of one class an image; of multi-hot labels as `margins.all_right_first`."""
    if labels.shape.rank == 1:
        return logits, labels
    turned = tf.pad(_turned(logits, labels), [[0, 0], [1, 0]])
    return turned, tf.zeros_like(turned[:, 0], tf.int64)


def _turned(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logit of each class, turned so that it rises where the answer gets wrong."""
    return tf.where(labels, -logits, logits)


def _log_binary(turned: tf.Tensor) -> tf.Tensor:
    """The logarithm of log(1 + exp(x)), which is x itself far below 0."""
    low = turned < -15.0
    return tf.where(low, turned, tf.math.log(tf.nn.softplus(tf.where(low, 0.0, turned))))
