"""Brightness, contrast and saturation, batched over images.

Images are float32 [N, H, W, C] in [0, 1] on the way in and out.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from robustcls.data.noise import as_image_batch


def brightness(images: Any, shift: float) -> tf.Tensor:
    """Adds `shift` to the value of each pixel's HSV, its largest channel.

    Hue and saturation stay, so the channels keep their ratios; black becomes gray.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        shift: in [-1, 1].
    """
    images = as_image_batch(images)
    value = tf.reduce_max(images, -1, keepdims=True)
    shifted = tf.clip_by_value(value + shift, 0.0, 1.0)
    ratio = tf.math.divide_no_nan(images, value)
    return tf.clip_by_value(tf.where(value > 0, ratio * shifted, shifted), 0.0, 1.0)


def contrast(images: Any, factor: float) -> tf.Tensor:
    """Multiplies the distance of each value to its channel's mean over the image by `factor`.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        factor: ≥ 0.
    """
    images = as_image_batch(images)
    # One axis after the other: a single sum over a large image loses digits of float32.
    means = tf.reduce_mean(tf.reduce_mean(images, 2, keepdims=True), 1, keepdims=True)
    return tf.clip_by_value((images - means) * factor + means, 0.0, 1.0)


def saturate(images: Any, factor: float, shift: float) -> tf.Tensor:
    """Makes each pixel's HSV saturation s · factor + shift, clipped to [0, 1].

    Gray pixels have the hue of red, as HSV conversions have it, so a `shift` tints them. Images
    with one channel have no saturation and stay as they are.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        factor: ≥ 0.
        shift: in [-1, 1].
    """
    images = as_image_batch(images)
    if images.shape[-1] == 1:
        return images
    value = tf.reduce_max(images, -1, keepdims=True)
    chroma = value - tf.reduce_min(images, -1, keepdims=True)
    saturation = tf.math.divide_no_nan(chroma, value)
    changed = tf.clip_by_value(saturation * factor + shift, 0.0, 1.0)
    # A channel is value · (1 − saturation · depth), and its depth is a matter of hue alone.
    depth = tf.where(
        chroma > 0, tf.math.divide_no_nan(value - images, chroma), tf.constant([0.0, 1.0, 1.0])
    )
    return tf.clip_by_value(value * (1 - changed * depth), 0.0, 1.0)
