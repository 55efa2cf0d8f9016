"""JPEG compression and pixelation, batched over images, on 8-bit pixels as in the benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.data.noise import as_image_batch
from robustcls.evaluation.corruptions.blurs import separable


def jpeg_compression(images: Any, quality: int) -> tf.Tensor:
    """Writes and reads each image as JPEG, with colour at half the resolution.

    Args:
        images: float32 [N, H, W, C] in [0, 1], rounded to multiples of 1/255; C is 1 or 3.
        quality: 1 to 100, the larger the better.

    Returns:
        float32 [N, H, W, C], multiples of 1/255.
    """
    images = as_image_batch(images)
    pixels = tf.cast(tf.round(255 * images), tf.uint8)
    decoded = _recompressed(pixels, tf.constant(quality))
    return tf.ensure_shape(tf.cast(decoded, tf.float32) / 255, images.shape)


def pixelate(images: Any, fraction: float) -> tf.Tensor:
    """Shrinks to a `fraction` of each side and back, both by box filters on 8-bit pixels.

    As Pillow's `BOX` filter, to the last bit: when shrinking, each new pixel is the plain mean of
    the whole pixels whose centres lie in its box, rounded after each axis; when growing, the
    nearest one.

    Args:
        images: float32 [N, H, W, C] in [0, 1], rounded to multiples of 1/255.
        fraction: in (0, 1]; a side has ⌊fraction · side⌋ pixels in between, at least one.

    Returns:
        float32 [N, H, W, C], multiples of 1/255.
    """
    pixels = tf.round(255 * as_image_batch(images))
    height, width = pixels.shape[1:3]
    rows, columns = (_box_matrix(side, fraction) for side in (height, width))
    # Halves go up, where `tf.round` would take the even neighbour.
    pixels = tf.floor(separable(pixels, [(None, columns)]) + 0.5)
    pixels = tf.floor(separable(pixels, [(rows, None)]) + 0.5)
    for axis, side, matrix in ((1, height, rows), (2, width, columns)):
        nearest = ((np.arange(side) + 0.5) * len(matrix) / side).astype(int)
        pixels = tf.gather(pixels, nearest, axis=axis)
    return pixels / 255


def _box_matrix(side: int, fraction: float) -> np.ndarray:
    """Returns [small, side]: the mean of the pixels whose centres lie in each box."""
    small = max(1, int(side * fraction))
    edges = (np.arange(small + 1) * (side / small) + 0.5).astype(int)
    places = np.arange(side)
    inside = (places >= edges[:-1, None]) & (places < edges[1:, None])
    return inside / inside.sum(1, keepdims=True)


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None, None, None], tf.uint8),
        tf.TensorSpec([], tf.int32),
    ]
)
def _recompressed(pixels: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    def one(picture: tf.Tensor) -> tf.Tensor:
        # The one encoder that takes the quality as a tensor: a single graph serves all.
        written = tf.raw_ops.EncodeJpegVariableQuality(images=picture, quality=quality)
        # The accurate transform is what other decoders use by default.
        return tf.io.decode_jpeg(written, dct_method="INTEGER_ACCURATE")

    return tf.map_fn(one, pixels, fn_output_signature=tf.uint8)
