"""Batch normalization folded into the layer before it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from robustcls.models.depthwise_convolution import FastDepthwiseConv2D
from robustcls.models.pointwise_convolution import PointwiseConv2D
from robustcls.models.stock import CANNOT_BE_COPIED, copy_layer

_LINEAR = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    PointwiseConv2D,
    FastDepthwiseConv2D,
)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a model with the same outputs in inference mode and fewer layers.

    A batch normalization in inference mode multiplies and adds; where it alone follows a linear
    convolution or dense layer, that can be done to the kernel and bias once and for all. The new
    model has weights of its own, a snapshot of those of `model`; `copy_folded` takes another.

    Args:
        model: a flat functional or sequential model of float32.

    Returns:
        The folded model; `model` itself when nothing in it can be folded: a nested or
        subclassed model, one without a batch normalization right after a convolution, or one
        whose layers cannot be copied.
    """
    folds = _folds(model)
    if not folds:
        return model
    absorbing = set(folds.values())

    def copy(layer: Any) -> Any:
        changes: dict[str, Any] = {"use_bias": True} if layer.name in absorbing else {}
        return copy_layer(layer, **changes)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in folds else layer(*args, **kwargs)

    try:
        folded = keras.models.clone_model(_graph(model), clone_function=copy, call_function=call)
        copy_folded(model, folded)
    except CANNOT_BE_COPIED:
        return model
    return folded


def copy_folded(model: keras.Model, folded: keras.Model) -> None:
    """Gives `folded`, made by `fold_batch_norm(model)`, the present weights of `model`."""
    if folded is model:
        return
    normalizations = {layer: normalization for normalization, layer in _folds(model).items()}
    for layer in folded.layers:
        if not layer.weights:
            continue
        source = model.get_layer(layer.name)
        if layer.name in normalizations:
            weights = _folded_weights(source, model.get_layer(normalizations[layer.name]))
        else:
            weights = source.get_weights()
        layer.set_weights(weights)


def _folds(model: keras.Model) -> dict[str, str]:
    """Returns the layer that takes up each batch normalization that can be folded, by name."""
    layers = getattr(model, "layers", [])
    if not getattr(model, "inputs", None) or any(isinstance(x, keras.Model) for x in layers):
        return {}
    graph = _graph(model)
    # The steps of this graph: a layer may have others in other models.
    nodes = [
        node for depth in graph._nodes_by_depth.values() for node in depth if not node.is_input
    ]
    if len({id(node.operation) for node in nodes}) < len(nodes):
        return {}  # A layer that is used twice.
    producers: dict[int, Any] = {}
    uses = Counter(id(tensor) for tensor in model.outputs)
    for node in nodes:
        producers |= dict.fromkeys(map(id, node.outputs), node.operation)
        uses.update(map(id, node.input_tensors))
    folds = {}
    for node in nodes:
        layer = node.operation
        if isinstance(layer, keras.layers.BatchNormalization):
            source = id(node.input_tensors[0])
            before: Any = producers.get(source)
            if uses[source] == 1 and _is_linear(before) and _is_over_channels(layer):
                folds[layer.name] = before.name
    return folds


def _graph(model: keras.Model) -> keras.Model:
    """The model as a functional one; a `Sequential` cannot be copied step by step."""
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    return keras.Model(inputs, outputs, name=model.name)


def _is_linear(layer: Any) -> bool:
    # Other subclasses may compute something else.
    return (
        type(layer) in _LINEAR
        and layer.activation is keras.activations.linear
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and layer.compute_dtype == "float32"
    )


def _is_over_channels(layer: keras.layers.BatchNormalization) -> bool:
    return layer.axis in (-1, len(layer.input.shape) - 1) and layer.compute_dtype == "float32"


def _folded_weights(
    linear: Any, normalization: keras.layers.BatchNormalization
) -> list[np.ndarray]:
    """Returns the kernel and bias that do what both layers do."""
    # In float64, since the variance of a dead channel may be tiny.
    variance = np.asarray(normalization.moving_variance, np.float64)
    scale = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * np.asarray(normalization.gamma)
    bias = -np.asarray(normalization.moving_mean, np.float64)
    if linear.use_bias:
        bias = bias + np.asarray(linear.bias)
    bias = bias * scale
    if normalization.center:
        bias = bias + np.asarray(normalization.beta)
    kernel = np.asarray(linear.kernel)
    # The last axes of a depthwise kernel, [input, multiplier], number the channels together.
    together = 2 if isinstance(linear, keras.layers.DepthwiseConv2D) else 1
    kernel = kernel * scale.reshape(kernel.shape[-together:])
    return [kernel.astype(np.float32), bias.astype(np.float32)]
