"""AugMix's views: an image mixed with chains of augmentations of itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from robustcls.distribution.replicas import draw_for_replica

Draw = Callable[[], tf.Tensor]
_OPERATIONS = 9
_LEVELS = 10.0


def mixed_views(
    images: tf.Tensor, draw: Draw, severity: float, width: int, depth: int
) -> tf.Tensor:
    """Returns m * x + (1 - m) * sum of w_i * chain_i(x), float32 [N, H, W, C] in [0, 1].

    m is uniform, w from a flat Dirichlet distribution. A chain applies 1 to `depth` of: equalize,
    autocontrast, posterize, solarize, rotate, shear and translate along either axis; none of
    them a corruption of CIFAR-10-C or ImageNet-C.

    Source: Hendrycks et al., "AugMix", 2020, algorithm 1, with the ranges of the authors' code.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        draw: returns a new seed, int32 [2].
        severity: 1 to 10.
        width: chains.
        depth: longest chain.
    """
    count = tf.shape(images)[0]
    seed = draw()
    # Exponential draws over their sum are flat Dirichlet.
    weights = -tf.math.log(_uniform(seed, 0, [width, count], 1e-7, axis=1))
    weights /= tf.reduce_sum(weights, 0)
    mixture = tf.zeros_like(images)
    for chain in range(width):
        length = tf.cast(_uniform(seed, 2 + chain, [count]) * depth, tf.int32) + 1
        view = images
        for place in range(depth):
            longer = tf.reshape(place < length, [-1, 1, 1, 1])
            view = tf.where(longer, _augment(view, draw(), severity), view)
        mixture += tf.reshape(weights[chain], [-1, 1, 1, 1]) * view
    share = _uniform(seed, 1, [count, 1, 1, 1])
    return share * images + (1.0 - share) * mixture


# A function of its own, so that it is traced once and not for every link of every chain.
@tf.function(autograph=False)
def _augment(images: tf.Tensor, seed: tf.Tensor, severity: float) -> tf.Tensor:
    """Applies one operation to each image, drawn for it alone."""
    count = tf.shape(images)[0]
    chosen = tf.cast(_uniform(seed, 0, [count]) * _OPERATIONS, tf.int32)
    level = _uniform(seed, 1, [count], 0.1, severity) / _LEVELS
    sign = tf.where(_uniform(seed, 2, [count]) < 0.5, -1.0, 1.0)
    changed = _warp(images, chosen, level * sign)
    tones = (_equalize, _autocontrast, _posterize, _solarize)
    for number, tone in enumerate(tones):
        is_this = tf.reshape(chosen == number, [-1, 1, 1, 1])
        changed = tf.where(is_this, tone(images, tf.reshape(level, [-1, 1, 1, 1])), changed)
    return changed


def _warp(images: tf.Tensor, chosen: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Operations 4 to 8: rotate by up to 30 degrees, shear by .3, translate by a third."""
    height, width = images.shape[1], images.shape[2]

    def amount(number: int, largest: float) -> tf.Tensor:
        return tf.where(chosen == number, level * largest, 0.0)

    angle = amount(4, math.pi / 6)
    shear_x, shear_y = amount(5, 0.3), amount(6, 0.3)
    shift_x, shift_y = amount(7, width / 3), amount(8, height / 3)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    rows = [
        cosine,
        -sine + shear_x,
        middle_x - cosine * middle_x + sine * middle_y + shift_x,
        sine + shear_y,
        cosine,
        middle_y - sine * middle_x - cosine * middle_y + shift_y,
        tf.zeros_like(angle),
        tf.zeros_like(angle),
    ]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(rows, 1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _equalize(images: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Spreads each channel's 256 tones evenly, as Pillow does."""
    shape = tf.shape(images)
    tones = tf.cast(tf.round(images * 255), tf.int32)
    tones = tf.reshape(tf.transpose(tones, [0, 3, 1, 2]), [shape[0] * shape[3], -1])
    counts = tf.math.bincount(tones, minlength=256, maxlength=256, axis=-1)
    last = tf.gather(counts, tf.reduce_max(tones, -1), batch_dims=1)
    step = (tf.shape(tones)[1] - last) // 255
    before = tf.cumsum(counts, axis=-1, exclusive=True)
    table = tf.minimum((before + step[:, None] // 2) // tf.maximum(step[:, None], 1), 255)
    # A channel of one tone has nothing to spread.
    table = tf.where(step[:, None] > 0, table, tf.range(256)[None])
    spread = tf.cast(tf.gather(table, tones, batch_dims=1), tf.float32) / 255
    spread = tf.reshape(spread, [shape[0], shape[3], shape[1], shape[2]])
    return tf.ensure_shape(tf.transpose(spread, [0, 2, 3, 1]), images.shape)


def _autocontrast(images: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    low = tf.reduce_min(images, [1, 2], keepdims=True)
    high = tf.reduce_max(images, [1, 2], keepdims=True)
    return tf.where(high > low, (images - low) / tf.maximum(high - low, 1e-6), images)


def _posterize(images: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Keeps the upper 4 bits at level 0 and none at level 1."""
    steps = 2.0 ** (4.0 + tf.floor(4.0 * level))
    return tf.floor(tf.round(images * 255) / steps) * steps / 255


def _solarize(images: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return tf.where(images < 1.0 - level, images, 1.0 - images)


def _uniform(
    seed: tf.Tensor,
    number: int,
    shape: list,
    low: float = 0.0,
    high: float = 1.0,
    *,
    axis: int = 0,
) -> tf.Tensor:
    seed = tf.random.experimental.stateless_fold_in(seed, number)
    return draw_for_replica(
        lambda whole: tf.random.stateless_uniform(whole, seed, low, high), shape, axis
    )
