"""Gradients of a class's logit, plain and averaged over noisy copies."""

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
    # All images get the same noise, so that what differs between maps is not the draw.
    key = np.array([explainer.seed], np.uint64)
    axes = (1, 2, 3)
    ranges = images.max(axes, keepdims=True) - images.min(axes, keepdims=True)
    total = np.zeros_like(images)
    for sample in range(explainer.samples):
        noise = draws.normal(draws.derive(key, sample), images.shape[1:])
        noisy = (images + explainer.noise * ranges * noise).astype(np.float32)
        total += class_gradients(explainer, noisy, classes)
    return _largest(total / explainer.samples)


def class_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the gradient of the class's logit for each image, float32 [n, H, W, C].

    Args:
        explainer: an `Explainer`.
        images: float32 [n, H, W, C] in [0, 1].
        classes: int64 [n].
    """

    def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        def score(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = explainer.logits(points)
            return tf.gather(logits, classes, batch_dims=1), logits

        return value_and_gradient(score, images)[2]

    return explainer.compiled("gradients", gradients, images)(images, classes).numpy()


def _largest(gradients: np.ndarray) -> Maps:
    return Maps(np.maximum(gradients, 0).max(-1), np.maximum(-gradients, 0).max(-1))
