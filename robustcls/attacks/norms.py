"""Balls around images: directions of steepest ascent, projections, random points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from robustcls.attacks import draws, sparse

NORMS = ("inf", "2")
"""In which every attack knows the ball."""

ALL_NORMS = ("inf", "2", "1", "0")
"""In which some attack does."""


def lengths(vectors: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the norm of each image, float32 [N, 1, 1, 1], of float32 [N, H, W, C].

    Args:
        vectors: float32 [N, H, W, C].
        norm: one of `ALL_NORMS`; "0" counts the values that are not 0.
    """
    if norm == "inf":
        return tf.reduce_max(tf.abs(vectors), [1, 2, 3], keepdims=True)
    if norm == "1":
        return tf.reduce_sum(tf.abs(vectors), [1, 2, 3], keepdims=True)
    if norm == "0":
        return tf.reduce_sum(tf.cast(vectors != 0, tf.float32), [1, 2, 3], keepdims=True)
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
    scaled = tf.math.divide_no_nan(gradients, lengths(gradients, "inf"))
    return tf.math.divide_no_nan(scaled, lengths(scaled, "2"))


def project(images: tf.Tensor, centers: tf.Tensor, epsilon: tf.Tensor, norm: str) -> tf.Tensor:
    """Moves `images` into the ball of radius `epsilon` around `centers` and into [0, 1].

    The ball comes first: since the centers lie in [0, 1], clipping cannot leave the ball again. Of
    norm "1" it is the nearest point of the ball and the cube at once; of norm "0" the largest
    changes stay.

    Args:
        images: float32 [N, H, W, C].
        centers: float32 [N, H, W, C] in [0, 1].
        epsilon: float32 scalar, or [N, 1, 1, 1].
        norm: one of `ALL_NORMS`.
    """
    if norm == "1":
        return sparse.project(images, centers, epsilon)
    if norm == "0":
        images = centers + sparse.keep_largest(images - centers, epsilon)
    elif norm == "inf":
        images = tf.clip_by_value(images, centers - epsilon, centers + epsilon)
    else:
        offsets = images - centers
        long = lengths(offsets, "2")
        images = tf.where(long > epsilon, centers + offsets * (epsilon / long), images)
    return tf.clip_by_value(images, 0.0, 1.0)


def random_in_ball(keys: np.ndarray, shape: Sequence[int], epsilon: float, norm: str) -> np.ndarray:
    """Returns uniform draws from the ball around 0, float32 [N, *shape].

    Args:
        keys: uint64 [N], one for each image; see `draws`.
        shape: (H, W, C).
        epsilon: radius of the ball.
        norm: "inf" or "2".
    """
    if norm == "inf":
        return (epsilon * (2 * draws.uniform(keys, shape) - 1)).astype(np.float32)
    size = int(np.prod(shape))
    radii = draws.uniform(draws.derive(keys, 1), (1, 1, 1)) ** (1 / size)
    return random_on_sphere(keys, shape, epsilon, norm) * radii.astype(np.float32)


def random_on_sphere(
    keys: np.ndarray, shape: Sequence[int], epsilon: float, norm: str
) -> np.ndarray:
    """Returns random points at distance `epsilon` from 0; arguments as `random_in_ball`.

    For norm "2" they are uniform on the sphere; for "inf" a uniform draw from the ball is
    stretched until it touches the surface, for "1" a normal one.
    """
    if norm == "inf":
        offsets = 2 * draws.uniform(keys, shape) - 1
        sizes = np.abs(offsets).max((1, 2, 3), keepdims=True)
    elif norm == "1":
        offsets = draws.normal(keys, shape)
        sizes = np.abs(offsets).sum((1, 2, 3), keepdims=True)
    else:
        offsets = draws.normal(keys, shape)
        sizes = np.sqrt(np.square(offsets).sum((1, 2, 3), keepdims=True))
    return (epsilon * offsets / sizes).astype(np.float32)
