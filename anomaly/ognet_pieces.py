"""Pseudo-anomalies put together from pieces of two different images."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

#: Range of a piece's sides, as shares of the image's.
_SIDES = (0.25, 0.55)
_SCALES = (0.7, 1.3)
_SHIFT = 0.1


def join_pieces(images: tf.Tensor, seed: int, step: Any) -> tf.Tensor:
    """Replaces a piece of each image.

    Equally likely, a rectangle becomes background (the mean of the image's border), or a
    rectangle or all on one side of a line becomes what another image, turned, scaled and shifted,
    has there. Strokes and textures stay as sharp as they are in good images; what is wrong is how
    they are put together.

    Args:
        images: float32 [B, H, W, C]; image i gets its piece from image i - 1.
        seed: of everything drawn.
        step: also decides what is drawn.

    Returns:
        float32 [B, H, W, C].
    """
    count = tf.shape(images)[0]
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
    kind, *draws = tf.unstack(tf.random.stateless_uniform([11, count], key))
    kind = kind[:, None, None, None]
    rectangle, beyond = _pieces(images.shape, draws[6:])
    others = _warp(tf.roll(images, 1, 0), draws[:6])
    rows, columns = images[:, :: images.shape[1] - 1], images[:, :, :: images.shape[2] - 1]
    border = (tf.reduce_mean(rows, [1, 2]) + tf.reduce_mean(columns, [1, 2])) / 2
    content = tf.where(kind < 1 / 3, border[:, None, None], others)
    return tf.where(tf.where(kind < 2 / 3, rectangle, beyond), content, images)


def _warp(images: tf.Tensor, draws: list[tf.Tensor]) -> tf.Tensor:
    """Turns by any angle, may mirror, scales each axis and shifts."""
    height, width = images.shape[1:3]
    angle = 2 * math.pi * draws[0]
    scale_x, scale_y = (_between(draw, _SCALES) for draw in draws[1:3])
    scale_x *= tf.where(draws[3] < 0.5, -1.0, 1.0)
    a, b = scale_x * tf.cos(angle), -scale_y * tf.sin(angle)
    c, d = scale_x * tf.sin(angle), scale_y * tf.cos(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    shift_x = middle_x - a * middle_x - b * middle_y + _between(draws[4], (-1, 1)) * _SHIFT * width
    shift_y = middle_y - c * middle_x - d * middle_y + _between(draws[5], (-1, 1)) * _SHIFT * height
    zeros = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, shift_x, c, d, shift_y, zeros, zeros], 1),
        output_shape=tf.constant([height, width]),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def _pieces(shape: Any, draws: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns rectangles and sides of lines, bool [B, H, W, 1]; coordinates are in [-1, 1]."""
    y = tf.linspace(-1.0, 1.0, shape[1])[None, :, None, None]
    x = tf.linspace(-1.0, 1.0, shape[2])[None, None, :, None]
    first, second, third, fourth = (draw[:, None, None, None] for draw in draws)
    rectangle = tf.abs(y - _between(first, (-0.6, 0.6))) < _between(third, _SIDES)
    rectangle &= tf.abs(x - _between(second, (-0.6, 0.6))) < _between(fourth, _SIDES)
    angle = 2 * math.pi * first
    beyond = tf.cos(angle) * y + tf.sin(angle) * x > _between(second, (-0.3, 0.3))
    return rectangle, beyond


def _between(uniform: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    low, high = bounds
    return low + (high - low) * uniform
