"""What a Keras classifier returns: logits, softmax or sigmoids; one number or one a class."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

Returned = Literal["logits", "softmax", "sigmoid"]

_TINY = np.finfo(np.float32).tiny
_layers = keras.layers
# What hands on the values it gets, at inference.
_PASSING = (
    _layers.ActivityRegularization,
    _layers.AlphaDropout,
    _layers.Dropout,
    _layers.Flatten,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.Identity,
    _layers.Permute,
    _layers.Reshape,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
)
# What makes numbers without bounds of logits, and something else of probabilities.
_SCALING = (_layers.Rescaling, _layers.Normalization, _layers.BatchNormalization)
_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "sigmoid",
}


def returned(model: Any) -> Returned | None:
    """Returns what a model's graph ends in, behind dropout, reshaping, scaling and nested models.

    Args:
        model: anything.

    Returns:
        "logits", "softmax" or "sigmoid"; None when the graph does not say, as of a subclassed
        model, or when there are several outputs.
    """
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1:
        return None
    tensor, scaled = outputs[0], False
    while True:
        # Keras says only here which step of a graph a tensor comes from.
        history = getattr(tensor, "_keras_history", None)
        if history is None:
            return None
        operation = history.operation
        if isinstance(operation, keras.Model):
            inner = getattr(operation, "outputs", None) or []
            if len(inner) != 1:
                return None
            tensor = inner[0]
            continue
        kind = _kind(operation)
        if kind is not None:
            return None if scaled and kind != "logits" else kind
        sources = operation._inbound_nodes[history.node_index].input_tensors
        linear = getattr(operation, "activation", None) is keras.activations.linear
        if len(sources) != 1 or not (linear or isinstance(operation, _PASSING + _SCALING)):
            return None
        scaled |= isinstance(operation, _SCALING)
        tensor = sources[0]


def logits_of(outputs: tf.Tensor, kind: Returned | None) -> tf.Tensor:
    """Returns logits, float32 [N, classes], of what a classifier returned.

    Logarithms of probabilities differ from the logits by one number for each image, which changes
    neither cross-entropy nor margins. One number stands for two classes: 0 beside it.

    Args:
        outputs: float [N, classes], or [N, 1] for two classes.
        kind: what they are; None counts as logits.
    """
    outputs = tf.cast(outputs, tf.float32)
    if outputs.shape[-1] == 1:
        if kind == "sigmoid":
            outputs = _log(outputs) - _log(1.0 - outputs)
        return tf.concat([tf.zeros_like(outputs), outputs], -1)
    return outputs if kind in (None, "logits") else _log(outputs)


def outputs_of(logits: tf.Tensor, kind: Returned | None, width: int | None) -> tf.Tensor:
    """Returns what the classifier would return for logits; the inverse of `logits_of`.

    Args:
        logits: float32 [N, classes].
        kind: what it returns.
        width: 1 when it returns one number for two classes.
    """
    if width == 1:
        logits = logits[:, 1:] - logits[:, :1]
        return tf.sigmoid(logits) if kind == "sigmoid" else logits
    return tf.nn.softmax(logits) if kind == "softmax" else logits


def _kind(operation: Any) -> Returned | None:
    """What the values are that an operation makes; None when it hands them on or is unknown."""
    if isinstance(operation, _layers.Softmax):
        return "softmax"
    activation = getattr(operation, "activation", None)
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation]  # type: ignore[return-value]
    # `keras.ops.softmax` and `sigmoid` in a graph are operations without a public class.
    if not isinstance(operation, _layers.Layer):
        name = type(operation).__name__.lower()
        return name if name in ("softmax", "sigmoid") else None  # type: ignore[return-value]
    weighted = bool(operation.weights) and not isinstance(operation, _SCALING)
    return "logits" if weighted and activation is keras.activations.linear else None


def _log(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.math.log(tf.maximum(probabilities, _TINY))
