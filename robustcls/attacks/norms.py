"""Balls around images: directions of steepest ascent, projections, random points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

NORMS = ("inf", "2")


def _lengths(vectors: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), [1, 2, 3], keepdims=True))


def steepest_ascent(gradients: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns, for each image, the vector of length 1 in `norm` along which the loss grows most.

    Args:
        gradients: float32 [N, H, W, C].
        norm: "inf" (the sign) or "2" (the normalized gradient; a zero gradient stays zero).
    """
    if norm == "inf":
        return tf.sign(gradients)
    # A gradient's square can underflow in float32, so it is scaled by its largest entry first.
    largest = tf.reduce_max(tf.abs(gradients), [1, 2, 3], keepdims=True)
    scaled = tf.math.divide_no_nan(gradients, largest)
    return tf.math.divide_no_nan(scaled, _lengths(scaled))


def project(images: tf.Tensor, centers: tf.Tensor, epsilon: tf.Tensor, norm: str) -> tf.Tensor:
    """Moves `images` into the ball of radius `epsilon` around `centers` and into [0, 1].

    The ball comes first: since the centers lie in [0, 1], clipping cannot leave the ball again.

    Args:
        images: float32 [N, H, W, C].
        centers: float32 [N, H, W, C] in [0, 1].
        epsilon: float32 scalar.
        norm: "inf" or "2".
    """
    if norm == "inf":
        images = tf.clip_by_value(images, centers - epsilon, centers + epsilon)
    else:
        offsets = images - centers
        lengths = _lengths(offsets)
        images = tf.where(lengths > epsilon, centers + offsets * (epsilon / lengths), images)
    return tf.clip_by_value(images, 0.0, 1.0)


def random_in_ball(
    shape: Sequence[int], epsilon: float, norm: str, seed: Sequence[int]
) -> np.ndarray:
    """Returns a uniform draw from the ball around 0, float32 of `shape`, one image.

    The draw is a function of `seed` alone, so an image's random start does not depend on its
    batch.
    """
    generator = np.random.default_rng(seed)
    if norm == "inf":
        return generator.uniform(-epsilon, epsilon, shape).astype(np.float32)
    direction = generator.standard_normal(shape)
    length = epsilon * generator.uniform() ** (1 / direction.size)
    return (direction * (length / np.linalg.norm(direction))).astype(np.float32)
