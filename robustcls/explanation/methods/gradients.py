"""Gradients of a class's logit, plain, and their mean and variance over noisy copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
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

    def noisy(sample: int) -> np.ndarray:
        noise = draws.normal(draws.derive(key, sample), images.shape[1:])
        return (images + explainer.noise * ranges * noise).astype(np.float32)

    def find() -> tuple[np.ndarray, np.ndarray]:
        mean, squares = np.zeros_like(images), np.zeros_like(images)
        found = gradients_of_copies(explainer, explainer.samples, noisy, classes)
        for sample, gradient in enumerate(found):
            # Welford's way, which does not lose what is small beside the mean.
            step = gradient - mean
            mean += step / (sample + 1)
            squares += step * (gradient - mean)
        return mean, squares / explainer.samples

    return explainer.shared.once("noisy gradients", images, classes, find)


def gradients_of_copies(
    explainer: Any, count: int, copy: Callable[[int], np.ndarray], classes: np.ndarray
) -> Iterator[np.ndarray]:
    """Yields the gradients of copies of images, float32 [n, H, W, C] each.

    As many copies go through the model at once as fill a batch, so that one image with many copies
    is as quick as many images; of large images fewer.

    Args:
        explainer: an `Explainer`.
        count: of the copies.
        copy: the number of a copy to its images, float32 [n, H, W, C].
        classes: int64 [n].
    """
    points = [copy(0)]
    size = min(explainer.batch_size, explainer.passes_at_a_time(points[0]))
    some = max(1, size // len(classes))
    for first in range(0, count, some):
        last = min(first + some, count)
        points = [*points, *(copy(number) for number in range(first + len(points), last))]
        together = np.concatenate(points), np.tile(classes, len(points))
        found = _gradients(explainer, *together)
        yield from np.split(found, len(points))
        points = []


def class_gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the gradient of the class's logit for each image, float32 [n, H, W, C].

    Args:
        explainer: an `Explainer`.
        images: float32 [n, H, W, C] in [0, 1].
        classes: int64 [n].

    Raises:
        InputError: the model has no gradient with respect to the images.
    """
    return explainer.shared.once(
        "gradients", images, classes, lambda: _gradients(explainer, images, classes)
    )


def _gradients(explainer: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    if not explainer.classifier.differentiable:
        raise InputError(
            "model must be a Keras model or a SavedModel for methods that need gradients; received "
            f"the function {explainer.classifier.name}. Did you mean "
            "methods=['occlusion', 'rise', 'kernel_shap']?"
        )

    def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        def score(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = explainer.logits(points)
            return tf.gather(logits, classes, batch_dims=1), logits

        return value_and_gradient(score, images)[2]

    return explainer.compiled("gradients", gradients, images)(images, classes).numpy()


def _largest(gradients: np.ndarray) -> Maps:
    return Maps(np.maximum(gradients, 0).max(-1), np.maximum(-gradients, 0).max(-1))
