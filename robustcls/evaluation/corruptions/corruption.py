"""The corruptions of CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C at their published severities.

Names and constants are those of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (ICLR 2019), and of the code its authors made the three sets
with. Noises are the functions that training uses too. Two differences from the published files:
values stay float32, where the files hold them cut down to 8 bits (up to 1/255 darker), and
ImageNet-C's and Tiny-ImageNet-C's files were stored as JPEG of quality 85 after that.

Lengths in pixels (blurs) do not change with the size of the images. Fog is drawn on the smallest
square with a power of two as its side that covers the image, and pixelation shrinks to a share of
each side; at 32×32, 64×64 and 224×224 pixels both are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
import tensorflow as tf

from robustcls._settings import Choice, Severity, checked
from robustcls._user_code import called
from robustcls._validation import InputError
from robustcls.data import noise
from robustcls.evaluation.corruptions import blurs, digital, fog, scenes, tones, warps, weather
from robustcls.evaluation.corruptions.registry import CORRUPTIONS
from robustcls.evaluation.corruptions.severities import NOISE_CORRUPTIONS as NOISE_CORRUPTIONS
from robustcls.evaluation.corruptions.severities import SCALES, SEVERITIES


def _gaussian_blur(images: Any, stddev: float, _: Any) -> tf.Tensor:
    return blurs.gaussian_blur(images, stddev)


def _defocus_blur(images: Any, strength: Any, _: Any) -> tf.Tensor:
    return blurs.defocus_blur(images, *strength)


def _motion_blur(images: Any, strength: Any, seed: Any) -> tf.Tensor:
    angles = tf.random.stateless_uniform(tf.shape(images)[:1], seed, -45.0, 45.0, alg="philox")
    radius, stddev = strength
    return blurs.motion_blur(images, radius, stddev, angles)


def _fog(images: Any, strength: Any, seed: Any) -> tf.Tensor:
    thickness, decay = strength
    height, width = images.shape[1:3]
    side = 1 << (max(height, width) - 1).bit_length()
    shape = [tf.shape(images)[0], side, side]
    draws = tf.random.stateless_uniform(shape, seed, -1.0, 1.0, alg="philox")
    draws = tf.ensure_shape(draws, [None, side, side])
    clouds = fog.plasma_fractal(draws, decay)
    return fog.fog(images, thickness, clouds[:, :height, :width])


def _brightness(images: Any, shift: float, _: Any) -> tf.Tensor:
    return tones.brightness(images, shift)


def _contrast(images: Any, factor: float, _: Any) -> tf.Tensor:
    return tones.contrast(images, factor)


def _saturate(images: Any, strength: Any, _: Any) -> tf.Tensor:
    return tones.saturate(images, *strength)


def _pixelate(images: Any, fraction: float, _: Any) -> tf.Tensor:
    return digital.pixelate(images, fraction)


def _jpeg_compression(images: Any, quality: int, _: Any) -> tf.Tensor:
    return digital.jpeg_compression(images, quality)


def _zoom_blur(images: Any, strength: Any, _: Any) -> tf.Tensor:
    return warps.zoom_blur(images, *strength)


def _drawn(function: Callable[..., np.ndarray]) -> Callable[[Any, Any, Any], tf.Tensor]:
    """Makes a corruption of a function of NumPy images, a strength and a generator."""

    def corruption(images: Any, strength: Any, seed: Any) -> tf.Tensor:
        def call(images: np.ndarray, seed: np.ndarray) -> np.ndarray:
            parts = np.asarray(seed, np.int64).view(np.uint32)
            changed = function(images, strength, np.random.default_rng(parts))
            return changed.astype(np.float32)

        changed = tf.numpy_function(call, [images, tf.cast(seed, tf.int64)], tf.float32)
        return tf.ensure_shape(changed, images.shape)

    return corruption


_glass_blur = _drawn(warps.glass_blur)
_elastic_transform = _drawn(warps.elastic_transform)
_snow = _drawn(weather.snow)
_frost = _drawn(weather.frost)
_spatter = _drawn(weather.spatter)
_background = _drawn(scenes.background)
_occlusion = _drawn(scenes.occlusion)

Function = TypeVar("Function", bound=Callable[..., Any])


def register_corruption(
    *, severities: Sequence[Any] | Mapping[str, Sequence[Any]], name: str | None = None
) -> Callable[[Function], Function]:
    """Makes a function a corruption like every other: a decorator.

    The corruption is then one of `CORRUPTIONS`: `corrupt(images, name, severity)` and
    `robustcls evaluate --corruptions NAME` apply it. The published sets stay as they are: a scale
    alone does not measure it.

        @rc.register_corruption(severities=(0.1, 0.2, 0.3, 0.4, 0.5))
        def haze(images, strength, seed):
            return (1 - strength) * images + strength

    Args:
        severities: the strengths of severity 1 to 5, or such strengths by scale ("cifar_c",
            "tiny_imagenet_c" and "imagenet_c").
        name: in `CORRUPTIONS`; the function's when None (str or None, default None).

    Returns:
        The decorator of a function `corruption(images, strength, seed)`: images are a float32
        tensor [N, H, W, C] in [0, 1], a strength one of `severities`, a seed int [2] for
        `tf.random.stateless_uniform` and the like. It returns images of the same shape, which
        are clipped to [0, 1].

    Raises:
        InputError: the name is taken, or the severities are not five for every scale.
    """
    by_scale = severities if isinstance(severities, Mapping) else dict.fromkeys(SCALES, severities)
    strengths = {scale: tuple(given) for scale, given in by_scale.items()}
    if strengths.keys() != set(SCALES) or {len(five) for five in strengths.values()} != {5}:
        raise InputError(
            f"severities must be five strengths, or five for each of {', '.join(SCALES)}; "
            f"received {severities!r}."
        )

    def register(function: Function) -> Function:
        own = function.__name__ if name is None else name
        CORRUPTIONS.add(own, function)
        for scale, five in strengths.items():
            SEVERITIES[scale][own] = five
        return function

    return register


@checked
def corrupt(
    images: Any,
    name: Annotated[str, Choice(CORRUPTIONS)],
    severity: Severity,
    scale: Annotated[str, Choice(SEVERITIES)] = "cifar_c",
    seed: int | Sequence[int] = 0,
) -> tf.Tensor:
    """Corrupts a batch; the same images and arguments give the same bits.

    Args:
        images: float32 [N, H, W, C] in [0, 1], C is 1 or 3.
        name: one of `CORRUPTIONS`, for example "motion_blur" (str).
        severity: how strong (int in [1, 5]).
        scale: whose severities ("cifar_c", "tiny_imagenet_c" or "imagenet_c", default "cifar_c").
        seed: of noises, fog and the direction of motion; one integer or two. What an image gets
            depends on its place in the batch (default 0).

    Returns:
        float32 [N, H, W, C] in [0, 1].

    Raises:
        InputError: an unknown name or scale, or images of another dtype or rank.
    """
    images = noise.as_image_batch(images)
    if images.shape[-1] not in (1, 3):
        raise InputError(f"images must have 1 or 3 channels; received shape {images.shape}.")
    pair = (seed, 0) if isinstance(seed, int) else seed
    return apply(name, images, SEVERITIES[scale][name][severity - 1], pair)


def apply(name: str, images: Any, strength: Any, seed: Any) -> tf.Tensor:
    """Returns what one of `CORRUPTIONS` makes of images, in [0, 1] whatever its code does.

    Raises:
        InputError: it fails, or returns no images of the same shape.
    """
    function = CORRUPTIONS[name]
    with called(f"corruption '{name}'", function):
        corrupted = tf.convert_to_tensor(function(images, strength, seed))
    if not corrupted.shape.is_compatible_with(images.shape):
        raise InputError(
            f"corruption '{name}' must return images of shape {tuple(images.shape)}; received "
            f"shape {tuple(corrupted.shape)}."
        )
    corrupted = tf.ensure_shape(tf.cast(corrupted, tf.float32), images.shape)
    return tf.clip_by_value(corrupted, 0.0, 1.0)
