"""Gradients of a class's logit, plain, and their mean and variance over noisy copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.attacks import draws
from robustcls.attacks.gradient import value_and_gradient
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation


@register_explanation()
def gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The largest gradient over the channels, of either sign.

    Source: Simonyan et al., "Deep inside convolutional networks", 2013.
    """
    return _largest(class_gradients(explainer, images, classes))


@register_explanation()
def smoothgrad(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `gradients`, of the mean gradient of noisy copies.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
    """
    return _largest(_mean_and_variance(explainer, images, classes)[0])


@register_explanation()
def vargrad(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """The variance of the gradient over the noisy copies of `smoothgrad`, largest of the channels.

    Source: Adebayo et al., "Local explanation methods for deep neural networks lack sensitivity to
    parameter values", 2018.
    """
    return Maps(_mean_and_variance(explainer, images, classes)[1].max(-1))


def _mean_and_variance(
    explainer: Any, images: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the gradients of noisy copies, each float32 [n, H, W, C]."""
    # All images get the same noise, so that what differs between maps is not the draw.
    key = np.array([explainer.seed], np.uint64)
    axes = (1, 2, 3)
    ranges = images.max(axes, keepdims=True) - images.min(axes, keepdims=True)
    mean, squares = np.zeros_like(images), np.zeros_like(images)
    for sample in range(explainer.samples):
        noise = draws.normal(draws.derive(key, sample), images.shape[1:])
        noisy = (images + explainer.noise * ranges * noise).astype(np.float32)
        found = class_gradients(explainer, noisy, classes)
        # Welford's way, which does not lose what is small beside the mean.
        step = found - mean
        mean += step / (sample + 1)
        squares += step * (found - mean)
    return mean, squares / explainer.samples


def class_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the gradient of the class's logit for each image, float32 [n, H, W, C].

    Args:
        explainer: an `Explainer`.
        images: float32 [n, H, W, C] in [0, 1].
        classes: int64 [n].

    Raises:
        InputError: the model has no gradient with respect to the images.
    """
    explainer.require_gradients()

    def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        def score(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = explainer.logits(points)
            return tf.gather(logits, classes, batch_dims=1), logits

        return value_and_gradient(score, images)[2]

    return explainer.compiled("gradients", gradients, images)(images, classes).numpy()


def _largest(gradients: np.ndarray) -> Maps:
    return Maps(np.maximum(gradients, 0).max(-1), np.maximum(-gradients, 0).max(-1))
