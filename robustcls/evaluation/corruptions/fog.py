"""Fog of fractal clouds, batched over images."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from robustcls.data.noise import as_image_batch


def fog(images: Any, thickness: float, clouds: Any) -> tf.Tensor:
    """Adds `thickness` · clouds and scales the sum so that its ceiling is the image's maximum.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        thickness: > 0.
        clouds: float32 [N, H, W] in [0, 1], for example a part of a `plasma_fractal`.
    """
    images = as_image_batch(images)
    brightest = tf.reduce_max(images, [1, 2, 3], keepdims=True)
    foggy = images + thickness * tf.convert_to_tensor(clouds)[..., None]
    return tf.clip_by_value(foggy * brightest / (brightest + thickness), 0.0, 1.0)


def plasma_fractal(draws: Any, decay: float) -> tf.Tensor:
    """Cloud-like maps by the diamond-square algorithm on a torus.

    Args:
        draws: float32 [N, M, M], uniform in [-1, 1): what each point departs from the mean of its
            four neighbours by, before scaling. M is a power of two.
        decay: > 0; the departures shrink by it with each halving of the step. A small one gives
            fine structure.

    Returns:
        float32 [N, M, M], each map from 0 to 1.
    """
    draws = tf.convert_to_tensor(draws, tf.float32)
    side = draws.shape[1]
    points = tf.zeros_like(draws[:, :1, :1])
    for level in range(int(math.log2(side))):
        step = side >> level
        half = step // 2
        amplitude = (100.0 / decay**level) ** 2
        centres = _mean_of_corners(points) + amplitude * draws[:, half::step, half::step]
        above = (centres + tf.roll(centres, 1, 1) + points + tf.roll(points, -1, 2)) / 4
        above += amplitude * draws[:, ::step, half::step]
        beside = (centres + tf.roll(centres, 1, 2) + points + tf.roll(points, -1, 1)) / 4
        beside += amplitude * draws[:, half::step, ::step]
        points = _interleave(_interleave(points, above, 2), _interleave(beside, centres, 2), 1)
    points -= tf.reduce_min(points, [1, 2], keepdims=True)
    return tf.math.divide_no_nan(points, tf.reduce_max(points, [1, 2], keepdims=True))


def _mean_of_corners(points: tf.Tensor) -> tf.Tensor:
    pairs = points + tf.roll(points, -1, 1)
    return (pairs + tf.roll(pairs, -1, 2)) / 4


def _interleave(first: tf.Tensor, second: tf.Tensor, axis: int) -> tf.Tensor:
    shape = first.shape.as_list()
    shape[0], shape[axis] = -1, 2 * shape[axis]
    return tf.reshape(tf.stack([first, second], axis + 1), shape)
