"""Class activation maps: tf-keras-vis' Grad-CAM family in one compiled graph each; Score-CAM."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.explanation.methods._tf_keras_vis import Gradcam, GradcamPlusPlus, Layercam
from robustcls.explanation.methods.resampling import enlarge

Compiled = Callable[[np.ndarray, np.ndarray], tf.Tensor]


class _Gradcam(Gradcam):
    """Weighs in TensorFlow what tf-keras-vis weighs in NumPy, which cannot be compiled."""

    def _calculate_cam(
        self, gradients: tf.Tensor, features: tf.Tensor, _: Any, activation: Any
    ) -> tf.Tensor:
        weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)
        return activation(tf.reduce_sum(weights * features, axis=-1))


class _Layercam(Layercam):
    """As `_Gradcam`."""

    def _calculate_cam(
        self, gradients: tf.Tensor, features: tf.Tensor, _: Any, activation: Any
    ) -> tf.Tensor:
        return activation(tf.reduce_sum(tf.nn.relu(gradients) * features, axis=-1))


GRADIENT_CAMS = {
    "grad_cam": _Gradcam,
    "grad_cam_plus_plus": GradcamPlusPlus,
    "layer_cam": _Layercam,
}


def compile_cam(
    method: str, network: keras.Model, layer: keras.layers.Layer, batch_size: int
) -> Compiled:
    """Returns (images, classes) to maps float32 [batch_size, h, w] in the size of the layer.

    Args:
        method: a key of `GRADIENT_CAMS`.
        network: a flat graph from images to logits.
        layer: of the network, with a feature map.
        batch_size: of every call.
    """
    visualization = GRADIENT_CAMS[method](network)
    signature = [
        tf.TensorSpec([batch_size, *network.input_shape[1:]], tf.float32),
        tf.TensorSpec([batch_size], tf.int64),
    ]

    def cam(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with warnings.catch_warnings():
            # tf-keras-vis hands the model a list of one input.
            warnings.filterwarnings("ignore", "The structure of `inputs`", UserWarning)
            return visualization(
                lambda logits: _score(logits, classes),
                images,
                penultimate_layer=layer,
                seek_penultimate_conv_layer=False,
                expand_cam=False,
                normalize_cam=False,
            )

    return tf.function(cam, input_signature=signature, autograph=False)


def _score(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """The logits of the classes, with value 0 and their own gradient.

    tf-keras-vis multiplies Grad-CAM++ by exp(logit), which is one number for an image and
    overflows for logits above 88. The other methods go by the gradient alone.
    """
    scores = tf.gather(logits, classes, batch_dims=1)
    return scores - tf.stop_gradient(scores)


def score_cam(
    images: np.ndarray,
    classes: np.ndarray,
    *,
    features: Callable[[np.ndarray], tf.Tensor],
    predict: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """Returns Score-CAM maps, float32 [N, h, w]: channels weighed by what they show alone.

    Source: Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural
    networks", 2020, as tf-keras-vis has it: a channel's weight is the probability of the class
    for the image times the channel, enlarged and scaled to [0, 1].

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        classes: int64 [N].
        features: images to the layer's feature maps [N, h, w, channels].
        predict: images to logits [N, classes].
        batch_size: masked images a forward pass.
    """
    height, width = images.shape[1:3]
    maps = []
    for image, label, channels in zip(images, classes, np.asarray(features(images)), strict=True):
        masks = enlarge(np.moveaxis(channels, -1, 0), height, width)
        low = masks.min(axis=(1, 2), keepdims=True)
        high = masks.max(axis=(1, 2), keepdims=True)
        masks = (masks - low) / (high - low + keras.config.epsilon())
        weights = []
        for start in range(0, len(masks), batch_size):
            chosen = masks[start : start + batch_size, :, :, None]
            probabilities = tf.nn.softmax(predict(image * chosen))
            weights.append(probabilities.numpy()[:, label])
        maps.append(np.maximum(channels @ np.concatenate(weights), 0))
    return np.stack(maps)
