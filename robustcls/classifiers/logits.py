"""The logits in front of a final softmax or sigmoid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

TensorFunction = Callable[[tf.Tensor], tf.Tensor]

_LINEAR = keras.activations.linear

_layers = keras.layers
# In inference they hand on what they get.
_IDLE = (
    _layers.ActivityRegularization,
    _layers.AlphaDropout,
    _layers.Dropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.Identity,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
)
# They make logits of logits, and something else of probabilities.
_SCALING = (_layers.Rescaling, _layers.Normalization, _layers.BatchNormalization)
# What returns numbers without bounds where its activation is linear; a subclass may compute
# something else.
_WEIGHTED = (
    _layers.Dense,
    _layers.EinsumDense,
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.DepthwiseConv2D,
    _layers.SeparableConv2D,
)
# What joins branches that all end alike, and what they may end in to end so together.
_MERGED = {
    _layers.Add: ("linear",),
    _layers.Average: ("linear", "sigmoid", "softmax"),
    _layers.Concatenate: ("linear", "sigmoid"),
}
_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    _LINEAR: "linear",
}


@dataclass(frozen=True, eq=False)
class Ending:
    """How a graph ends.

    Attributes:
        kind: "softmax", "sigmoid" or "linear"; "nested" where a model within decides; "unknown".
        operation: the step that does it; None when unknown.
        source: the tensor that goes into it.
        tail: the steps after it, which at most shape what it returns.
        scaled: what follows scales, too; only of logits, and of what a model within returns.
    """

    kind: str
    operation: Any = None
    source: Any = None
    tail: tuple[Any, ...] = ()
    scaled: bool = False


def find_ending(model: keras.Model) -> Ending:
    """Returns how a graph of one output ends, whatever comes after it that changes no value.

    Args:
        model: a functional or sequential model.
    """
    tensor, scaled = model.outputs[0], False
    tail: list[Any] = []
    while True:
        # Keras says only here which step of a graph a tensor comes from.
        history = tensor._keras_history
        operation = history.operation
        sources = operation._inbound_nodes[history.node_index].input_tensors
        if len(sources) != 1 or len(keras.tree.flatten(operation.output)) != 1:
            return Ending("unknown", operation, sources, tuple(tail), scaled)
        if _is_shaping(operation, sources[0], tensor):
            tail.insert(0, operation)
        elif isinstance(operation, _SCALING):
            scaled = True
        elif not _is_idle(operation):
            break
        tensor = sources[0]
    kind = _kind(operation)
    if scaled and kind not in ("linear", "nested"):
        return Ending("unknown")
    return Ending(kind, operation, sources[0], tuple(tail), scaled)


def ending_kind(model: Any) -> str:
    """Returns how a graph ends, whatever model within or branches before it decide it.

    Args:
        model: anything.

    Returns:
        "softmax", "sigmoid" or "linear"; "unknown" too for what is no graph of one output.
    """
    if len(getattr(model, "outputs", None) or []) != 1:
        return "unknown"
    ending = find_ending(model)
    kind = ending.kind
    if kind == "nested":
        kind = ending_kind(ending.operation)
    elif type(ending.operation) in _MERGED:
        kinds = {ending_kind(keras.Model(model.inputs, source)) for source in ending.source}
        same = kinds.pop() if len(kinds) == 1 else "unknown"
        kind = same if same in _MERGED[type(ending.operation)] else "unknown"
    return "unknown" if ending.scaled and kind != "linear" else kind


def logits_function(
    model: keras.Model, in_inference: Callable[[Callable[[], keras.Model]], TensorFunction]
) -> tuple[TensorFunction | None, str]:
    """Returns the logits of a model that ends in softmax or sigmoid, sharing its weights.

    Args:
        model: a functional or sequential model with one output. Its end may be a layer, an
            activation of a `Dense` layer, an operation of `keras.ops` or a nested model's, and
            dropout, reshaping and the like may follow.
        in_inference: makes a function of a model, which it gets as a function without arguments.

    Returns:
        A function of images [N, H, W, C] to logits [N, K] in inference mode, and "softmax" or
        "sigmoid", what it leaves out. None, and "linear" when the model returns logits, "unknown"
        when it ends in a way that cannot be taken apart.
    """
    ending = find_ending(model)
    kind: str = ending.kind
    last: TensorFunction | None
    if kind == "nested":
        kind = ending_kind(model)
        if kind not in ("softmax", "sigmoid"):
            return None, kind
        last, kind = logits_function(ending.operation, in_inference)
    else:
        is_dense = isinstance(ending.operation, _layers.Dense)
        last = _linear(ending.operation) if is_dense else _identity
    if kind not in ("softmax", "sigmoid") or last is None:
        return None, kind
    features = keras.Model(model.inputs[0], ending.source)
    return _chain(in_inference(lambda: features), last, *ending.tail), kind


def without_ending(flat: keras.Model) -> keras.Model:
    """Takes softmax or sigmoid off the end of a flat copy, which nobody else uses.

    Args:
        flat: a functional model without nested ones.
    """
    ending = find_ending(flat)
    if ending.kind not in ("softmax", "sigmoid"):
        return flat
    if isinstance(ending.operation, _layers.Dense):
        ending.operation.activation = keras.activations.linear
        return flat
    tensor = ending.source
    for step in ending.tail:
        tensor = step(tensor)
    return keras.Model(flat.inputs[0], tensor, name=flat.name)


def _kind(operation: Any) -> str:
    if isinstance(operation, keras.Model):
        return "nested"
    if isinstance(operation, _layers.Softmax):
        last = len(operation.output.shape) - 1
        return "softmax" if operation.axis in (-1, last) else "unknown"
    # `keras.ops.softmax` in a graph is an operation without a public class.
    if not isinstance(operation, _layers.Layer):
        return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(type(operation).__name__, "unknown")
    kind = _ACTIVATIONS.get(getattr(operation, "activation", None), "unknown")
    if type(operation) is _layers.Dense or isinstance(operation, _layers.Activation):
        return kind
    return "linear" if kind == "linear" and type(operation) in _WEIGHTED else "unknown"


def _is_idle(operation: Any) -> bool:
    activation = getattr(operation, "activation", None)
    is_linear = isinstance(operation, _layers.Activation) and activation is _LINEAR
    return is_linear or isinstance(operation, _IDLE)


def _is_shaping(operation: Any, source: Any, tensor: Any) -> bool:
    """Whether a step makes [N, 1, K] of [N, K], or the like, so that K stays what it is."""
    names = ("Flatten", "Reshape", "Squeeze")
    sides = (*source.shape[1:], *tensor.shape[1:])
    if type(operation).__name__ not in names or None in sides or not source.shape[1:]:
        return False
    return math.prod(source.shape[1:]) == source.shape[-1]


def _identity(inputs: tf.Tensor) -> tf.Tensor:
    return inputs


def _linear(dense: keras.layers.Dense) -> TensorFunction:
    def call(inputs: tf.Tensor) -> tf.Tensor:
        inputs = keras.ops.cast(inputs, dense.compute_dtype)
        outputs = keras.ops.matmul(inputs, keras.ops.cast(dense.kernel, inputs.dtype))
        if dense.bias is None:
            return outputs
        return outputs + keras.ops.cast(dense.bias, outputs.dtype)

    return call


def _chain(*steps: TensorFunction) -> TensorFunction:
    def call(images: tf.Tensor) -> tf.Tensor:
        for step in steps:
            images = step(images)
        return images

    return call
