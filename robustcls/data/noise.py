"""Gaussian, Poisson, salt-and-pepper and speckle noise, each defined once.

Training (`AugmentationPolicy`) and evaluation draw from the same functions. They are stateless:
the same images, strength and seed give the same bits, in eager code, in a `tf.function` and in
`tf.data`. Images are float32 [N, H, W, C] in [0, 1] on the way in and, clipped, on the way out.
A strength is one number for the batch or a float32 tensor [N], one number for each image.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from robustcls._validation import InputError, check_number


def gaussian(images: Any, stddev: Any, seed: Any) -> tf.Tensor:
    """Adds N(0, stddev²) to every value: x + n.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        stddev: standard deviation in units of [0, 1], ≥ 0; scalar or [N].
        seed: int32 or int64 [2].

    Returns:
        float32 [N, H, W, C], clipped to [0, 1].

    Raises:
        InputError: images of another dtype or rank, or a negative `stddev`.
    """
    images, stddev = _inputs(images, "stddev", stddev, minimum=0)
    noise = tf.random.stateless_normal(tf.shape(images), seed, alg="philox")
    return _clip(images + stddev * noise)


def poisson(images: Any, photons: Any, seed: Any) -> tf.Tensor:
    """Shot noise: Poisson(x · photons) / photons, with mean x and variance x / photons.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        photons: events a pixel of value 1 collects on average, > 0; scalar or [N]. Fewer photons
            are more noise.
        seed: int32 or int64 [2].

    Returns:
        float32 [N, H, W, C], clipped to [0, 1].

    Raises:
        InputError: images of another dtype or rank, or `photons` not above 0.
    """
    images, photons = _inputs(images, "photons", photons, above=0)
    counts = tf.random.stateless_poisson(tf.shape(images), seed, images * photons, tf.float32)
    return _clip(counts / photons)


def salt_and_pepper(images: Any, amount: Any, seed: Any) -> tf.Tensor:
    """Impulse noise: a share `amount` of the values becomes 0 or 1, with equal chance.

    Every array element is drawn by itself, so a colour pixel usually loses one channel, not all:
    the corruption benchmarks (Hendrycks & Dietterich, 2019) do the same.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        amount: expected share of values replaced, in [0, 1]; scalar or [N].
        seed: int32 or int64 [2].

    Returns:
        float32 [N, H, W, C] in [0, 1].

    Raises:
        InputError: images of another dtype or rank, or `amount` outside [0, 1].
    """
    images, amount = _inputs(images, "amount", amount, minimum=0, maximum=1)
    draw = tf.random.stateless_uniform(tf.shape(images), seed, alg="philox")
    # One draw decides both: the lowest share is pepper, the next is salt, the rest stays.
    replaced = tf.where(draw < amount / 2, 0.0, 1.0)
    return _clip(tf.where(draw < amount, replaced, images))


def speckle(images: Any, stddev: Any, seed: Any) -> tf.Tensor:
    """Multiplicative noise: x + x · n with n ~ N(0, stddev²).

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        stddev: standard deviation relative to the pixel, ≥ 0; scalar or [N].
        seed: int32 or int64 [2].

    Returns:
        float32 [N, H, W, C], clipped to [0, 1].

    Raises:
        InputError: images of another dtype or rank, or a negative `stddev`.
    """
    images, stddev = _inputs(images, "stddev", stddev, minimum=0)
    noise = tf.random.stateless_normal(tf.shape(images), seed, alg="philox")
    return _clip(images + images * (stddev * noise))


NOISES: Mapping[str, Callable[[Any, Any, Any], tf.Tensor]] = {
    "gaussian": gaussian,
    "poisson": poisson,
    "salt_and_pepper": salt_and_pepper,
    "speckle": speckle,
}
"""The functions `noise(images, strength, seed)` by name."""

SEVERITIES: Mapping[str, Mapping[str, tuple[float, float, float, float, float]]] = {
    "cifar_c": {
        "gaussian": (0.04, 0.06, 0.08, 0.09, 0.10),
        "poisson": (500, 250, 100, 75, 50),
        "salt_and_pepper": (0.01, 0.02, 0.03, 0.05, 0.07),
        "speckle": (0.06, 0.10, 0.12, 0.16, 0.20),
    },
    "tiny_imagenet_c": {
        "gaussian": (0.04, 0.08, 0.12, 0.15, 0.18),
        "poisson": (250, 100, 50, 30, 15),
        "salt_and_pepper": (0.01, 0.02, 0.05, 0.08, 0.14),
        "speckle": (0.15, 0.20, 0.25, 0.30, 0.35),
    },
    "imagenet_c": {
        "gaussian": (0.08, 0.12, 0.18, 0.26, 0.38),
        "poisson": (60, 25, 12, 5, 3),
        "salt_and_pepper": (0.03, 0.06, 0.09, 0.17, 0.27),
        "speckle": (0.15, 0.20, 0.35, 0.45, 0.60),
    },
}
"""Strengths for severity 1 to 5 by scale and noise, as in the corruption benchmarks of that name
(Hendrycks & Dietterich, "Benchmarking Neural Network Robustness", 2019, and its code)."""


def as_image_batch(images: Any) -> tf.Tensor:
    """Returns `images` as a tensor.

    Raises:
        InputError: not float32, or not a batch [N, H, W, C]. Values are not looked at.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.float32 or images.shape.rank not in (4, None):
        raise InputError(
            "images must be float32 [N, H, W, C] in [0, 1]; "
            f"received {images.dtype.name} of shape {images.shape}."
        )
    return images


def _inputs(
    images: Any, argument: str, strength: Any, **bounds: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the images and the strength as a float32 tensor that broadcasts over them."""
    images = as_image_batch(images)
    if isinstance(strength, numbers.Real):
        check_number(argument, strength, **bounds)
    strength = tf.convert_to_tensor(strength, tf.float32)
    if strength.shape.rank not in (0, 1):
        raise InputError(
            f"{argument} must be a number or a tensor [N]; received shape {strength.shape}."
        )
    return images, tf.reshape(strength, [-1, 1, 1, 1])


def _clip(images: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(images, 0.0, 1.0)
