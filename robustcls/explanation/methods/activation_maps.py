"""Class activation maps: feature maps of a layer, weighed by the gradient of the class's logit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import register_explanation
from robustcls.explanation.methods.resampling import enlarge

#: Features and the logit's gradient, both float32 [n, h, w, channels], to maps [n, h, w].
Rule = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
_SPACE = (1, 2)


@register_explanation(uses_layer=True)
def grad_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """Channels of the layer's feature map, weighed by their mean gradients.

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via
    gradient-based localization", 2016.
    """

    def rule(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        weights = tf.reduce_mean(gradients, _SPACE, keepdims=True)
        return tf.reduce_sum(weights * features, -1)

    return _maps(rule, explainer, images, classes)


@register_explanation(uses_layer=True)
def grad_cam_plus_plus(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `grad_cam`, with places weighed by higher derivatives.

    Source: Chattopadhyay et al., "Grad-CAM++", 2017, equations 16 and 19, whose factor exp(logit)
    is one number for an image and is left out.
    """

    def rule(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        second, third = gradients**2, gradients**3
        sums = tf.reduce_sum(features, _SPACE, keepdims=True)
        shares = tf.math.divide_no_nan(second, 2 * second + third * sums)
        shares = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, _SPACE, keepdims=True))
        weights = tf.reduce_sum(tf.nn.relu(gradients) * shares, _SPACE, keepdims=True)
        return tf.reduce_sum(weights * features, -1)

    return _maps(rule, explainer, images, classes)


@register_explanation(uses_layer=True)
def layer_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `grad_cam`, each place weighed by its own gradient where that is positive.

    Source: Jiang et al., "LayerCAM: exploring hierarchical class activation maps", 2021.
    """

    def rule(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.relu(gradients) * features, -1)

    return _maps(rule, explainer, images, classes)


@register_explanation(uses_layer=True)
def hires_cam(explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    """As `grad_cam`, each place weighed by its own gradient, of either sign.

    Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", 2020, equation 3. With one dense layer behind the feature map
    the map before it is cut at 0 adds up to the logit without its bias.
    """

    def rule(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(gradients * features, -1)

    return _maps(rule, explainer, images, classes)


def _maps(rule: Rule, explainer: Any, images: np.ndarray, classes: np.ndarray) -> Maps:
    network, layer = explainer.network_and_layer()

    def both(images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _features_and_gradients(network, layer, images, classes)

    compiled = explainer.compiled("features and gradients", both, images)
    found = explainer.shared.once(
        "features and gradients", images, classes, lambda: compiled(images, classes)
    )
    maps = tf.nn.relu(rule(*found)).numpy()
    return Maps(enlarge(maps, *images.shape[1:3]), resolution=maps.shape[1:])


def _features_and_gradients(
    graph: keras.Model, layer: keras.layers.Layer, images: tf.Tensor, classes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The feature map of a layer and the gradient of the classes' logits with respect to it.

    The gradient begins at the layer: what lies below costs nothing, and need not be
    differentiable.
    """
    found = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def call(operation: Any, *arguments: Any, **settings: Any) -> Any:
            outputs = operation(*arguments, **settings)
            if operation is layer:
                tape.watch(outputs)
                found.append(outputs)
            return outputs

        (logits,) = tf.nest.flatten(graph._run_through_graph([images], call_fn=call))
        score = tf.gather(logits, classes, batch_dims=1)
    gradients = tape.gradient(score, found[0])
    if gradients is None:
        raise InputError(
            "model must be differentiable; its logits have no gradient with respect to layer "
            f"'{layer.name}'."
        )
    return tf.cast(found[0], tf.float32), tf.cast(gradients, tf.float32)
