"""Score-CAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.classifiers.compiling import compile_once
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation
from robustcls.explanation.methods.resampling import enlarge, interpolation


@register_explanation(uses_layer=True)
def score_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """Channels of the layer's feature map, weighed by what they show alone.

    The channels of all images go through the model in batches of one size.

    Source: Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural
    networks", 2020, as tf-keras-vis has it: a channel's weight is the probability of the class
    for the image times the channel, enlarged and scaled to [0, 1].
    """
    network, layer = explainer.network_and_layer()
    lower = explainer.remember("lower", lambda: keras.Model(network.inputs[0], layer.output))

    def features(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.cast(lower(images, training=False), tf.float32)

    found = explainer.compiled("features", features, images)(images, classes).numpy()
    # What is 0 everywhere adds nothing, whatever its weight; behind a ReLU that is many.
    which, channels = np.nonzero(found.any(axis=(1, 2)))
    weights = np.zeros((len(images), found.shape[-1]), np.float32)
    score = _scorer(explainer, images.shape[1:], found.shape[1:3])
    size = explainer.passes_at_a_time(images)
    for start in range(0, len(which), size):
        # The last batch is filled up, so that all have one size.
        at = np.minimum(np.arange(start, start + size), len(which) - 1)
        image, channel = which[at], channels[at]
        weights[image, channel] = score(images, classes, found[image, :, :, channel], image)
    small = np.maximum(np.einsum("nhwc,nc->nhw", found, weights), 0)
    return Maps(enlarge(small, *images.shape[1:3]), resolution=small.shape[1:])


def _scorer(
    explainer: Any, shape: tuple[int, ...], small: tuple[int, ...]
) -> Callable[..., tf.Tensor]:
    """(images, classes, channels [k, h, w], whose they are [k]) to probabilities [k]."""
    rows, columns = (interpolation(*sides) for sides in zip(small, shape[:2], strict=True))

    def score(
        images: tf.Tensor, classes: tf.Tensor, channels: tf.Tensor, which: tf.Tensor
    ) -> tf.Tensor:
        masks = rows @ channels @ tf.transpose(columns)
        low = tf.reduce_min(masks, (1, 2), keepdims=True)
        high = tf.reduce_max(masks, (1, 2), keepdims=True)
        masks = (masks - low) / (high - low + keras.config.epsilon())
        logits = explainer.logits(tf.gather(images, which) * masks[..., None])
        probabilities = explainer.classifier.outputs.probabilities(logits)
        return tf.gather(probabilities, tf.gather(classes, which), batch_dims=1)

    signature = [
        tf.TensorSpec([None, *shape], tf.float32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None, *small], tf.float32),
        tf.TensorSpec([None], tf.int64),
    ]
    return explainer.remember(("channels", shape), lambda: compile_once(score, signature))
