"""Class activation maps: tf-keras-vis' Grad-CAM family in one compiled graph each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.classifiers.compiling import compile_once
from robustcls.explanation.methods._tf_keras_vis import Gradcam, GradcamPlusPlus, Layercam
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation
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


@register_explanation(uses_layer=True)
def grad_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """Channels of the layer's feature map, weighed by their mean gradients.

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via
    gradient-based localization", 2016.
    """
    return _maps(_Gradcam, explainer, images, classes)


@register_explanation(uses_layer=True)
def grad_cam_plus_plus(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `grad_cam`, with places weighed by higher derivatives.

    Source: Chattopadhyay et al., "Grad-CAM++", 2017.
    """
    return _maps(GradcamPlusPlus, explainer, images, classes)


@register_explanation(uses_layer=True)
def layer_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `grad_cam`, each place weighed by its own gradient.

    Source: Jiang et al., "LayerCAM: exploring hierarchical class activation maps", 2021.
    """
    return _maps(_Layercam, explainer, images, classes)


def _maps(kind: Any, explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    def make() -> Compiled:
        network, layer = explainer.network_and_layer()
        _require_gradient(network, layer, images[:1])
        return _compile(kind, network, layer, len(images))

    cam = explainer.remember((kind.__name__, images.shape), make)
    maps = np.asarray(cam(images, classes)).astype(np.float32)
    return Maps(enlarge(maps, *images.shape[1:3]), resolution=maps.shape[1:])


def _compile(
    kind: Any, network: keras.Model, layer: keras.layers.Layer, batch_size: int
) -> Compiled:
    """Returns (images, classes) to maps float32 [batch_size, h, w] in the size of the layer.

    Args:
        kind: tf-keras-vis' class of the method.
        network: a flat graph from images to logits.
        layer: of the network, with a feature map.
        batch_size: of every call.
    """
    visualization = kind(network)
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

    return compile_once(cam, signature)


def _require_gradient(network: keras.Model, layer: keras.layers.Layer, images: np.ndarray) -> None:
    """Refuses a layer that the logits have no gradient of, as where pixels are rounded after it."""
    both = keras.Model(network.inputs[0], [layer.output, network.outputs[0]])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        watched = tf.convert_to_tensor(images)
        tape.watch(watched)
        features, logits = both(watched, training=False)
        # A constant stands for features that no gradient flows to from the images.
    if tape.gradient(logits, features) is None:
        raise InputError(
            "model must be differentiable; its logits have no gradient with respect to layer "
            f"'{layer.name}'."
        )


def _score(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """The logits of the classes, with value 0 and their own gradient.

    tf-keras-vis multiplies Grad-CAM++ by exp(logit), which is one number for an image and
    overflows for logits above 88. The other methods go by the gradient alone.
    """
    scores = tf.gather(logits, classes, batch_dims=1)
    return scores - tf.stop_gradient(scores)
