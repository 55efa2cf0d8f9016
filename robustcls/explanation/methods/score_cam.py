"""Score-CAM."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation
from robustcls.explanation.methods.resampling import enlarge


@register_explanation(uses_layer=True, one_by_one=True)
def score_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """Channels of the layer's feature map, weighed by what they show alone.

    Source: Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural
    networks", 2020, as tf-keras-vis has it: a channel's weight is the probability of the class
    for the image times the channel, enlarged and scaled to [0, 1].
    """
    network, layer = explainer.network_and_layer()
    lower = explainer.remember("lower", lambda: keras.Model(network.inputs[0], layer.output))

    def features(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.cast(lower(images, training=False), tf.float32)

    found = np.asarray(explainer.compiled("features", features, images)(images, classes))
    logits = explainer.as_keras_model(images.shape[1:])
    height, width = images.shape[1:3]
    size, read = 4 * explainer.batch_size, explainer.classifier.outputs
    maps = []
    for image, label, channels in zip(images, classes, found, strict=True):
        # What is 0 everywhere adds nothing, whatever its weight; behind a ReLU that is many.
        channels = channels[..., channels.any(axis=(0, 1))]
        masks = enlarge(np.moveaxis(channels, -1, 0), height, width)
        low = masks.min(axis=(1, 2), keepdims=True)
        high = masks.max(axis=(1, 2), keepdims=True)
        masks = (masks - low) / (high - low + keras.config.epsilon())
        weights = []
        for start in range(0, len(masks), size):
            chosen = masks[start : start + size, :, :, None]
            probabilities = read.probabilities(logits([image * chosen])[0])
            weights.append(probabilities.numpy()[:, label])
        weight = np.concatenate([np.zeros(0, np.float32), *weights])
        maps.append(np.maximum(channels @ weight, 0))
    small = np.stack(maps)
    return Maps(enlarge(small, height, width), resolution=small.shape[1:])
