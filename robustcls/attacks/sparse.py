"""Changes of few values: projections to the balls of norms 1 and 0."""

from __future__ import annotations

import tensorflow as tf


def project(points: tf.Tensor, centers: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Returns the nearest points of the L1 balls around `centers` and of [0, 1] at once.

    Source: Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", 2021, proposition 2.1: each change is made smaller by one amount for all values of
    an image, and no larger than the box has room for.

    Args:
        points: float32 [N, H, W, C].
        centers: float32 [N, H, W, C] in [0, 1].
        epsilon: float32 scalar, or [N, 1, 1, 1].
    """
    offsets = points - centers
    rooms = tf.where(offsets > 0, 1 - centers, centers)
    return tf.clip_by_value(centers + _shrunk(offsets, rooms, epsilon), 0.0, 1.0)


def into_ball(offsets: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Returns the nearest points of the L1 ball around 0, whatever the box.

    Source: Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions",
    2008, figure 1.

    Args:
        offsets: float32 [N, H, W, C].
        epsilon: float32 scalar, or [N, 1, 1, 1].
    """
    return _shrunk(offsets, tf.abs(offsets), epsilon)


def keep_largest(offsets: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns the `count` largest values of each image by their size, and 0 for the others.

    Args:
        offsets: float32 [N, H, W, C].
        count: float32 scalar, or [N, 1, 1, 1]; what is not whole counts as the next less.
    """
    shape = tf.shape(offsets)
    sizes = tf.abs(tf.reshape(offsets, [shape[0], -1]))
    order = tf.argsort(sizes, direction="DESCENDING", stable=True)
    ranks = tf.reshape(tf.argsort(order, stable=True), shape)
    return tf.where(tf.cast(ranks, tf.float32) < tf.floor(count), offsets, 0.0)


def _shrunk(offsets: tf.Tensor, rooms: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Offsets cut to their rooms, or, where that is longer than epsilon, made smaller before.

    The length is a falling function of the amount by which all become smaller, made of straight
    pieces. They begin where a value gets less than its room and end where it gets 0.
    """
    shape = tf.shape(offsets)
    flat = [shape[0], tf.reduce_prod(shape[1:])]
    sizes = tf.reshape(tf.abs(offsets), flat)
    room = tf.reshape(rooms, flat)
    epsilon = tf.reshape(epsilon + tf.zeros([shape[0], 1, 1, 1]), [-1, 1])
    full = tf.maximum(sizes - room, 0.0)
    ends = tf.concat([sizes, full, tf.zeros([shape[0], 1])], 1)
    changes = tf.concat([tf.ones_like(sizes), -tf.ones_like(sizes), epsilon * 0], 1)
    order = tf.argsort(ends, direction="DESCENDING", stable=True)
    ends = tf.gather(ends, order, batch_dims=1)
    # How many values shrink between an end and the next, and the length at the next.
    moving = tf.cumsum(tf.gather(changes, order, batch_dims=1), 1)[:, :-1]
    lengths = tf.cumsum(moving * (ends[:, :-1] - ends[:, 1:]), 1)
    reached = lengths >= epsilon
    piece = tf.argmax(tf.cast(reached, tf.int32), 1)[:, None]

    def at(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, piece, batch_dims=1)

    over = tf.math.divide_no_nan(at(lengths) - epsilon, at(moving))
    amount = tf.where(tf.reduce_any(reached, 1, keepdims=True), at(ends[:, 1:]) + over, 0.0)
    left = tf.minimum(tf.maximum(sizes - amount, 0.0), room)
    return tf.sign(offsets) * tf.reshape(left, shape)
