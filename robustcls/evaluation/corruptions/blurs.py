"""Blurs as products with small matrices, batched over images.

A separable filter of an image is `rows @ image @ columnsᵀ`, and the matrices hold the border rule
too: any size works, even one smaller than the filter. For small images that is an order of
magnitude faster than a depthwise convolution on a CPU.

Images are float32 [N, H, W, C] in [0, 1] on the way in and out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import tensorflow as tf

from robustcls.data.noise import as_image_batch

# Of the largest singular value: what is below is float rounding.
_RANK_TOLERANCE = 1e-6


def gaussian_blur(images: Any, stddev: float) -> tf.Tensor:
    """Convolves with a Gaussian cut off at four standard deviations; the border is repeated.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        stddev: in pixels, > 0.

    Returns:
        float32 [N, H, W, C].
    """
    images = as_image_batch(images)
    radius = int(4 * stddev + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / stddev) ** 2)
    kernel /= kernel.sum()
    height, width = images.shape[1:3]
    return tf.clip_by_value(
        separable(
            images,
            [(_border_matrix(height, kernel, "edge"), _border_matrix(width, kernel, "edge"))],
        ),
        0.0,
        1.0,
    )


def defocus_blur(images: Any, radius: float, alias_blur: float) -> tf.Tensor:
    """Convolves with the image of a point out of focus, a disk with softened rim.

    The border is mirrored about the outermost pixels.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        radius: of the disk in pixels, > 0.
        alias_blur: standard deviation in pixels of the Gaussian that softens the rim.

    Returns:
        float32 [N, H, W, C].
    """
    images = as_image_batch(images)
    # A disk is a sum of a few separable kernels: its singular vectors.
    left, values, right = np.linalg.svd(disk(radius, alias_blur))
    rank = int((values > _RANK_TOLERANCE * values[0]).sum())
    height, width = images.shape[1:3]
    pairs = [
        (
            _border_matrix(height, values[place] * left[:, place], "reflect"),
            _border_matrix(width, right[place], "reflect"),
        )
        for place in range(rank)
    ]
    return tf.clip_by_value(separable(images, pairs), 0.0, 1.0)


@functools.lru_cache
def disk(radius: float, alias_blur: float) -> np.ndarray:
    """Returns the kernel of `defocus_blur`, float64 [K, K] with K odd.

    As in the benchmark's code: pixels within `radius` of the centre, equal and of sum 1, then
    blurred over 3×3 pixels, 5×5 for a radius above 8, within a square of at least 17×17.
    """
    reach = max(8, int(radius))
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    kernel = (distance <= radius).astype(np.float64)
    kernel /= kernel.sum()
    places = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    soft = np.exp(-0.5 * (places / alias_blur) ** 2)
    soft /= soft.sum()
    for axis in (0, 1):
        kernel = scipy.ndimage.correlate1d(kernel, soft, axis, mode="mirror")
    return kernel


def motion_blur(images: Any, radius: float, stddev: float, angles: Any) -> tf.Tensor:
    """Averages along a line that leaves each pixel in one direction, as ImageMagick does.

    The weights fall off as one half of a Gaussian over 2·⌈radius⌉ + 1 steps of one pixel, each
    rounded to the nearest pixel. The border is repeated.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        radius: in pixels, > 0.
        stddev: of the Gaussian in pixels, > 0.
        angles: float [N], direction of the line in degrees, clockwise from the right.

    Returns:
        float32 [N, H, W, C].
    """
    images = as_image_batch(images)
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-0.5 * (steps / stddev) ** 2)
    radians = tf.cast(angles, tf.float32) * (np.pi / 180)
    zeros, ones = tf.zeros_like(radians), tf.ones_like(radians)
    blurred: Any = 0.0
    for step, weight in enumerate(weights / weights.sum()):
        down = tf.math.ceil(step * tf.sin(radians) - 0.5)
        right = tf.math.ceil(step * tf.cos(radians) - 0.5)
        # The one operation that moves every image of a batch by an offset of its own.
        shifted = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack([ones, zeros, right, zeros, ones, down, zeros, zeros], axis=1),
            output_shape=tf.shape(images)[1:3],
            interpolation="NEAREST",
            fill_mode="NEAREST",
            fill_value=0.0,
        )
        blurred += weight * shifted
    return tf.clip_by_value(tf.ensure_shape(blurred, images.shape), 0.0, 1.0)


def separable(
    images: tf.Tensor, pairs: Sequence[tuple[np.ndarray | None, np.ndarray | None]]
) -> tf.Tensor:
    """Returns the sum of rows @ image @ columnsᵀ over pairs of matrices, for every channel.

    Args:
        images: float32 [N, H, W, C].
        pairs: (rows, columns), [H', H] and [W', W]; None is the identity.

    Returns:
        float32 [N, H', W', C].
    """
    total: Any = 0.0
    for rows, columns in pairs:
        # Not `tf.matmul`, which crashes TensorFlow 2.21 where one side is a single matrix.
        product = images
        if rows is not None:
            product = tf.tensordot(product, tf.constant(rows, tf.float32), [[1], [1]])
            product = tf.transpose(product, [0, 3, 1, 2])
        if columns is not None:
            product = tf.tensordot(product, tf.constant(columns, tf.float32), [[2], [1]])
            product = tf.transpose(product, [0, 1, 3, 2])
        total += product
    return total


def _border_matrix(side: int, kernel: np.ndarray, border: Any) -> np.ndarray:
    """Returns [side, side]: correlation with a centred `kernel` under a `border` of `np.pad`."""
    reach = len(kernel) // 2
    sources = np.pad(np.arange(side), reach, border)
    matrix = np.zeros((side, side))
    for place in range(side):
        np.add.at(matrix[place], sources[place : place + len(kernel)], kernel)
    return matrix
