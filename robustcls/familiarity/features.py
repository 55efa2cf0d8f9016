"""The features that a classifier decides by: what goes into its last layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.flattening import flat_logits
from robustcls.classifiers.logits import find_ending
from robustcls.classifiers.outputs import ToLogits
from robustcls.evaluation.prediction import floats
from robustcls.models.folding import fold_batch_norm

# By how much features times weights may miss the logits, of the largest.
_TOLERANCE = 1e-2

Tensors = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclass(frozen=True, eq=False)
class Features:
    """A classifier as a function from images to features and logits.

    Attributes:
        function: images float32 [N, H, W, C] in [0, 1] to features [N, D] and logits [N, K]; of
            arrays where the classifier is no TensorFlow function.
        weights: float32 [D, K], the last layer's.
        bias: float32 [K].
        of_layer: the features go into a last layer that was found; else they are the logits.
        differentiable: `function` is one of tensors.
    """

    function: Callable[[Any], tuple[Any, Any]]
    weights: np.ndarray
    bias: np.ndarray
    of_layer: bool
    differentiable: bool

    def of(self, images: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the features, float32 [N, D], and the logits, float32 [N, K].

        Args:
            images: uint8, or float32 in [0, 1], [N, H, W, C].
            batch_size: images the model sees at a time.
        """
        parts = [
            self.function(floats(images[start : start + batch_size]))
            for start in range(0, len(images), batch_size)
        ]
        features, logits = (
            np.concatenate([np.asarray(x) for x in xs]) for xs in zip(*parts, strict=False)
        )
        return features, logits


def features_of(classifier: Classifier, images: np.ndarray) -> Features:
    """Returns what methods see of a classifier, as it is now: later training changes nothing.

    Args:
        classifier: one that `prepare` has seen.
        images: float32 [n, H, W, C] in [0, 1], a few to look at its layers with.
    """
    flat = flat_logits(classifier, images)
    network = None if flat is None else fold_batch_norm(flat)
    found = None if network is None else _last_layer(network, images)
    if found is not None and network is not None:
        both = tf.function(features_and_logits(network), [_spec(images)], autograph=False)
        return Features(both, *found, of_layer=True, differentiable=True)
    centre = classifier.outputs.are_probabilities
    logits_of: Callable[[Any], Any] = classifier.predict
    if classifier.differentiable:
        logits_of = classifier.logits if network is None else _in_inference(network)

    def alone(batch: Any) -> tuple[Any, Any]:
        return logits_twice(logits_of(batch), centre=centre)

    eye = np.eye(classifier.num_classes, dtype=np.float32)
    function: Callable[[Any], tuple[Any, Any]] = alone
    if classifier.differentiable:
        function = tf.function(alone, [_spec(images)], autograph=False)
    return Features(function, eye, eye[0] * 0, False, classifier.differentiable)


def features_and_logits(network: keras.Model) -> Tensors:
    """Returns the function of a network that ends in a layer that `features_of` found.

    Args:
        network: flat and functional, images [N, H, W, C] in [0, 1] to logits [N, K].
    """
    _, source = _layer_and_source(network)
    both = keras.Model(network.inputs[0], [source, network.outputs[0]])

    def call(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, logits = both(images, training=False)
        features = tf.reshape(features, [-1, features.shape[-1]])
        return tf.cast(features, tf.float32), logits

    return call


def logits_twice(logits: Any, *, centre: bool) -> tuple[Any, Any]:
    """Returns logits as features and as logits.

    Args:
        logits: float32 [N, K].
        centre: they were recovered from probabilities, which say nothing of their mean; it is made
            0.
    """
    if centre:
        logits = logits - tf.reduce_mean(logits, -1, keepdims=True)
    return logits, logits


def _in_inference(network: keras.Model) -> Callable[[Any], Any]:
    return lambda images: network(images, training=False)


def _spec(images: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *images.shape[1:]], tf.float32)


def _layer_and_source(network: keras.Model) -> tuple[Any, Any]:
    """The last step that changes values, and the tensor that goes into it."""
    ending = find_ending(network)
    if isinstance(ending.operation, ToLogits) and not ending.operation.outputs.are_probabilities:
        ending = find_ending(keras.Model(network.inputs[0], ending.source))
    return ending.operation, ending.source


def _last_layer(network: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights [D, K] and bias [K] of the last layer; None where it is no linear one of a vector."""
    layer, source = _layer_and_source(network)
    is_dense = isinstance(layer, keras.layers.Dense) and len(source.shape) == 2
    # As MobileNet's: a convolution of what is one pixel by then.
    is_pixel = isinstance(layer, keras.layers.Conv2D) and tuple(source.shape[1:3]) == (1, 1)
    if not (is_dense or is_pixel) or layer.activation is not keras.activations.linear:
        return None
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)
    weights = kernel.reshape(-1, kernel.shape[-1])
    bias = np.zeros(weights.shape[1], np.float32)
    if layer.use_bias:
        bias = np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float32)
    if weights.shape[1] == 1:  # the logit of class 1; that of class 0 is 0
        weights, bias = np.pad(weights, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    features, logits = (np.asarray(x) for x in features_and_logits(network)(images[:2]))
    if features.shape[1] != len(weights) or logits.shape[1] != weights.shape[1]:
        return None
    scale = max(1.0, float(np.abs(logits).max()))
    agree = np.abs(features @ weights + bias - logits).max() <= _TOLERANCE * scale
    return (weights, bias) if agree else None
