"""The logits in front of a final softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

TensorFunction = Callable[[tf.Tensor], tf.Tensor]


def logits_function(
    model: keras.Model, in_inference: Callable[[Callable[[], keras.Model]], TensorFunction]
) -> TensorFunction | None:
    """Returns the logits of a model that ends in softmax, sharing its weights.

    Args:
        model: a functional or sequential model with one output, its last step a `Softmax` or
            `Activation("softmax")` layer, a `Dense(activation="softmax")`, `keras.ops.softmax`,
            or a nested model that ends so.
        in_inference: makes a function of a model, which it gets as a function without arguments.

    Returns:
        A function of images [N, H, W, C] to logits [N, classes] in inference mode; None when
        the model does not end in softmax, or in a way that cannot be taken apart.
    """
    # Keras says only here which step of a graph a tensor comes from.
    history = model.outputs[0]._keras_history
    sources = history.operation._inbound_nodes[history.node_index].input_tensors
    if isinstance(history.operation, keras.Model):
        nested = history.operation
        last = logits_function(nested, in_inference) if getattr(nested, "inputs", None) else None
    else:
        last = _without_softmax(history.operation)
    if last is None or len(sources) != 1:
        return None
    features = keras.Model(model.inputs[0], sources[0])
    return _chain(in_inference(lambda: features), last)


def _without_softmax(operation: Any) -> TensorFunction | None:
    """The last step of a model without its softmax; None when there is none to leave out."""
    if isinstance(operation, keras.layers.Softmax):
        return _identity
    # `keras.ops.softmax` in a graph is an operation without a public class.
    if not isinstance(operation, keras.layers.Layer):
        return _identity if type(operation).__name__ == "Softmax" else None
    if getattr(operation, "activation", None) is not keras.activations.softmax:
        return None
    if isinstance(operation, keras.layers.Activation):
        return _identity
    return _linear(operation) if type(operation) is keras.layers.Dense else None


def _identity(inputs: tf.Tensor) -> tf.Tensor:
    return inputs


def _linear(dense: keras.layers.Dense) -> TensorFunction:
    def call(inputs: tf.Tensor) -> tf.Tensor:
        outputs = keras.ops.matmul(inputs, keras.ops.cast(dense.kernel, inputs.dtype))
        if dense.bias is None:
            return outputs
        return outputs + keras.ops.cast(dense.bias, outputs.dtype)

    return call


def _chain(features: TensorFunction, last: TensorFunction) -> TensorFunction:
    return lambda images: last(features(images))
