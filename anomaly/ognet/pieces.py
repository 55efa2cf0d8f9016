"""Pseudo-anomalies made of images: pieces of two, one turned or bent, two laid over each other."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from robustcls.distribution.replicas import draw_for_replica

#: Range of a piece's sides, as shares of the image's.
_SIDES = (0.25, 0.55)
_SCALES = (0.7, 1.3)
_SHIFT = 0.1
#: Standard deviation of the bending, as a share of the image's side, at points of a 4×4 grid.
_BEND = 0.18
_GRID = 4
#: Kinds are equally likely, but overlays half as likely as the others.
_SHARES = {"erased": 2, "patched": 2, "joined": 2, "warped": 2, "bent": 2, "both": 2, "overlaid": 1}


def join_pieces(images: tf.Tensor, seed: int, step: Any) -> tf.Tensor:
    """Makes a pseudo-anomaly of each image.

    Each is of one kind, drawn for it alone. "The other" is another image, turned, scaled and
    shifted, and background is the mean of the image's border:

    - erased: a rectangle is background;
    - patched: a rectangle is the other's;
    - joined: all on one side of a line is the other's;
    - warped: the image itself turned, scaled and shifted;
    - bent: the image itself under a smooth random displacement;
    - both: joined, then bent;
    - overlaid: of image and other each pixel takes what is further from background.

    Strokes and textures stay nearly as sharp as they are in good images; what is wrong is how they
    are put together.

    Args:
        images: float32 [B, H, W, C]; the other of image i is made of image i - 1.
        seed: of everything drawn.
        step: also decides what is drawn.

    Returns:
        float32 [B, H, W, C].
    """
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
    drawn = draw_for_replica(
        lambda shape: tf.random.stateless_uniform(shape, key), [17, tf.shape(images)[0]], axis=1
    )
    kind, *draws = tf.unstack(drawn)
    rectangle, beyond = _pieces(images.shape, draws[6:10])
    other, background = _warp(tf.roll(images, 1, 0), draws[:6]), _background(images)
    joined = tf.where(beyond, other, images)
    further = tf.abs(other - background) > tf.abs(images - background)
    # One bending serves both kinds: no image is of both.
    shares = tf.constant(list(_SHARES.values()), tf.float32)
    chosen = tf.searchsorted(tf.cumsum(shares) / tf.reduce_sum(shares), kind, side="right")
    is_kind = {name: (chosen == index)[:, None, None, None] for index, name in enumerate(_SHARES)}
    bent = _bend(tf.where(is_kind["both"], joined, images), key)
    made = {
        "erased": tf.where(rectangle, background, images),
        "patched": tf.where(rectangle, other, images),
        "joined": joined,
        "warped": _warp(images, draws[10:]),
        "bent": bent,
        "both": bent,
        "overlaid": tf.where(further, other, images),
    }
    result = images
    for name, values in made.items():
        result = tf.where(is_kind[name], values, result)
    return result


def _background(images: tf.Tensor) -> tf.Tensor:
    """Returns the mean of each image's border, [B, 1, 1, C]."""
    rows, columns = images[:, :: images.shape[1] - 1], images[:, :, :: images.shape[2] - 1]
    return ((tf.reduce_mean(rows, [1, 2]) + tf.reduce_mean(columns, [1, 2])) / 2)[:, None, None]


def _bend(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Moves pixels by a smooth field that is drawn on a coarse grid, bilinearly."""
    height, width = images.shape[1:3]
    field = draw_for_replica(
        lambda shape: tf.random.stateless_normal(shape, key),
        [tf.shape(images)[0], _GRID, _GRID, 2],
    )
    field = tf.image.resize(field, [height, width], "bicubic")
    y = tf.range(height, dtype=tf.float32)[:, None] + _BEND * height * field[..., 0]
    x = tf.range(width, dtype=tf.float32) + _BEND * width * field[..., 1]
    y, x = tf.clip_by_value(y, 0, height - 1), tf.clip_by_value(x, 0, width - 1)
    # The last pixel is between the last two.
    top, left = tf.minimum(tf.floor(y), height - 2), tf.minimum(tf.floor(x), width - 2)
    down, right = (y - top)[..., None], (x - left)[..., None]

    def take(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        places = tf.cast(tf.stack([rows, columns], -1), tf.int32)
        return tf.gather_nd(images, places, batch_dims=1)

    upper = (1 - right) * take(top, left) + right * take(top, left + 1)
    lower = (1 - right) * take(top + 1, left) + right * take(top + 1, left + 1)
    return (1 - down) * upper + down * lower


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
