"""Climbing to a class's image by the waves that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.attacks.gradient import value_and_gradient
from robustcls.classifiers.compiling import compile_once

# What colours of photographs have in common, as Lucid has it: what is climbed in is independent.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], np.float32)
# The share of a side that an image is shifted by at most.
_SHIFT = 1 / 16
_START = 0.01
# Adam's, as published.
_DECAYS = (0.9, 0.999)
_TINY = 1e-7


class Waves:
    """Images as sums of waves: those of low frequency change most in a step, as in photographs.

    Source: Olah et al., "Feature visualization", 2017, "preconditioning and parameterization".

    Args:
        image_shape: (H, W, C) of the images.
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        height, width, channels = image_shape
        self._sides = height, width
        frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
        scale = np.sqrt(height * width) / np.maximum(frequencies, 1 / max(height, width)) / 4
        self._scale = scale.astype(np.complex64)
        self._shape = channels, *frequencies.shape, 2
        colours = _COLOURS / np.linalg.norm(_COLOURS, axis=0).max()
        self._colours = colours if channels == 3 else np.eye(channels, dtype=np.float32)

    def start(self, count: int, seed: int) -> np.ndarray:
        """Returns waves of images that are nearly gray, float32 [count, C, H, W // 2 + 1, 2].

        Args:
            count: of the images.
            seed: of the little that they are not.
        """
        # All begin alike, so that what differs between images is what the class, or the model, is.
        one = np.random.default_rng(seed).standard_normal(self._shape)
        return np.repeat(_START * one[None], count, axis=0).astype(np.float32)

    def images(self, waves: tf.Tensor) -> tf.Tensor:
        """Returns the images, float32 [N, H, W, C] in [0, 1].

        Args:
            waves: float32 [N, C, H, W // 2 + 1, 2].
        """
        spectrum = tf.complex(waves[..., 0], waves[..., 1]) * self._scale
        planes = tf.transpose(tf.signal.irfft2d(spectrum, self._sides), [0, 2, 3, 1])
        return tf.sigmoid(planes @ tf.transpose(self._colours))


def by_waves(
    explainer: Any,
    classes: tf.Tensor,
    image_shape: tuple[int, int, int],
    *,
    steps: int,
    step_size: float,
    smoothness: float,
    seed: int,
) -> np.ndarray:
    """Returns images whose class has a high logit, float32 [N, H, W, C] in [0, 1].

    Adam, with all images shifted alike and at random at each step; one compiled loop.

    Args:
        explainer: an `Explainer` that knows the model.
        classes: int64 [N].
        image_shape: (H, W, C).
        steps: of the ascent.
        step_size: Adam's.
        smoothness: weight of the total variation, which is held against an image.
        seed: of the start and the shifts.
    """
    waves = Waves(image_shape)
    farthest = max(1, round(_SHIFT * min(image_shape[:2])))
    pixels = float(np.prod(image_shape))

    def goodness(points: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = waves.images(points)
        shift = tf.random.stateless_uniform(
            [2], [seed % 2**31, step], -farthest, farthest + 1, tf.int32
        )
        logits = explainer.logits(tf.roll(images, shift, [1, 2]))
        rough = tf.image.total_variation(images) / pixels
        return tf.gather(logits, classes, batch_dims=1) - smoothness * rough, logits

    def step_on(step: tf.Tensor, points: tf.Tensor, mean: tf.Tensor, square: tf.Tensor) -> Any:
        gradient = value_and_gradient(lambda points: goodness(points, step), points)[2]
        mean = _DECAYS[0] * mean + (1 - _DECAYS[0]) * gradient
        square = _DECAYS[1] * square + (1 - _DECAYS[1]) * gradient**2
        count = tf.cast(step + 1, tf.float32)
        whole = [moment / (1 - d**count) for moment, d in zip((mean, square), _DECAYS, strict=True)]
        points += step_size * whole[0] / (tf.sqrt(whole[1]) + _TINY)
        return step + 1, points, mean, square

    def ascend(start: tf.Tensor) -> tf.Tensor:
        zero = tf.zeros_like(start)
        state = (0, start, zero, zero)
        found = tf.while_loop(lambda step, *_: step < steps, step_on, state, parallel_iterations=1)
        return waves.images(found[1])

    start = waves.start(len(classes), seed)
    ascent: Callable[..., tf.Tensor] = compile_once(ascend, [tf.TensorSpec(start.shape)])
    return np.asarray(ascent(start), np.float32)
