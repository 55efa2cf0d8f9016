"""Batch normalization folded into the layer before it, and copies that answer faster."""

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
    return _copied(model, faster=False)


def faster_copy(model: keras.Model) -> keras.Model:
    """Returns a model with the same outputs in inference mode that a CPU computes faster.

    As `fold_batch_norm`, and besides, as far as the layers are Keras' own:

    - zeros around a depthwise convolution are left to the convolution, whose kernel gets zeros at
      its end where `same` padding would begin elsewhere;
    - images that are enlarged are made three channels and scaled before that, not after.

    Args:
        model: as for `fold_batch_norm`.

    Returns:
        The copy, for `copy_folded` too; `model` itself where `fold_batch_norm` returns it.
    """
    return _copied(model, faster=True)


def _copied(model: keras.Model, *, faster: bool) -> keras.Model:
    folds = _folds(model)
    if not folds:
        return model
    absorbing = set(folds.values())
    paddings = _paddings(model) if faster else {}
    kernels = dict(paddings.values())
    enlarged = _enlarged(model) if faster else {}
    held: dict[str, Any] = {}

    def copy(layer: Any) -> Any:
        changes: dict[str, Any] = {"use_bias": True} if layer.name in absorbing else {}
        if layer.name in kernels:
            changes |= {"padding": "same", "kernel_size": kernels[layer.name]}
        return copy_layer(layer, **changes)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in folds or layer.name in paddings:
            return args[0]
        if layer.name in enlarged.values():
            held[layer.name] = layer
            return args[0]
        outputs = layer(*args, **kwargs)
        return held[enlarged[layer.name]](outputs) if layer.name in enlarged else outputs

    try:
        folded = keras.models.clone_model(_graph(model), clone_function=copy, call_function=call)
        copy_folded(model, folded)
    except CANNOT_BE_COPIED:
        return model
    return folded


def copy_folded(model: keras.Model, folded: keras.Model) -> None:
    """Gives `folded`, made of `model` by one of the above, the present weights of `model`."""
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
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            weights[0] = _widened(weights[0], layer.kernel.shape)
        layer.set_weights(weights)


def _folds(model: keras.Model) -> dict[str, str]:
    """Returns the layer that takes up each batch normalization that can be folded, by name."""
    return {
        layer.name: before.name
        for layer, before in _sole_sources(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and _is_linear(before)
        and _is_over_channels(layer)
    }


def _paddings(model: keras.Model) -> dict[str, tuple[str, tuple[int, int]]]:
    """Returns each padding that can be left out: the convolution behind it and its new kernel."""
    found = {}
    for layer, before in _sole_sources(model):
        if not (
            type(before) is keras.layers.ZeroPadding2D
            and type(layer) in (keras.layers.DepthwiseConv2D, FastDepthwiseConv2D)
            and layer.padding == "valid"
            and tuple(layer.dilation_rate) == (1, 1)
            and before.data_format == layer.data_format == "channels_last"
            and None not in before.input.shape[1:3]
        ):
            continue
        sides = zip(
            before.input.shape[1:3], before.padding, layer.kernel_size, layer.strides, strict=True
        )
        height, width = (_kernel_side(*side) for side in sides)
        if height is not None and width is not None:
            found[before.name] = layer.name, (height, width)
    return found


def _kernel_side(length: int, padding: tuple[int, int], kernel: int, stride: int) -> int | None:
    """How long a kernel must be for `same` padding to begin like the given one; None if too long.

    TensorFlow pads as little as it can, the smaller half before.
    """
    outputs = (length + sum(padding) - kernel) // stride + 1
    if outputs != -(-length // stride):
        return None
    sides = range(kernel, kernel + 3)
    return next(
        (k for k in sides if max(0, (outputs - 1) * stride + k - length) // 2 == padding[0]), None
    )


def _enlarged(model: keras.Model) -> dict[str, str]:
    """Returns, by the scaling of pixels that can come first, the linear resizing before it."""
    before = {layer.name: source for layer, source in _sole_sources(model)}
    found = {}
    for layer in model.layers:
        source: Any = before.get(layer.name)
        if type(source) is keras.layers.Concatenate and source.axis in (-1, 3):
            source = before.get(source.name)
        if (
            type(layer) is keras.layers.Rescaling
            and type(source) is keras.layers.Resizing
            and source.interpolation == "bilinear"
            and source.data_format == "channels_last"
            and not (source.crop_to_aspect_ratio or source.pad_to_aspect_ratio or source.antialias)
            and None not in source.input.shape[1:3]
            and source.height * source.width > np.prod(source.input.shape[1:3])
        ):
            found[layer.name] = source.name
    return found


def _sole_sources(model: keras.Model) -> list[tuple[Any, Any]]:
    """Returns each step with the one before it, where nothing else asks for what that makes."""
    layers = getattr(model, "layers", [])
    if not getattr(model, "inputs", None) or any(isinstance(x, keras.Model) for x in layers):
        return []
    graph = _graph(model)
    # The steps of this graph: a layer may have others in other models.
    nodes = [
        node for depth in graph._nodes_by_depth.values() for node in depth if not node.is_input
    ]
    if len({id(node.operation) for node in nodes}) < len(nodes):
        return []  # A layer that is used twice.
    producers: dict[int, Any] = {}
    uses = Counter(id(tensor) for tensor in model.outputs)
    for node in nodes:
        producers |= dict.fromkeys(map(id, node.outputs), node.operation)
        uses.update(map(id, node.input_tensors))
    found = []
    for node in nodes:
        sources = {id(tensor) for tensor in node.input_tensors}
        if len(sources) == 1:
            (source,) = sources
            if source in producers and uses[source] == len(node.input_tensors):
                found.append((node.operation, producers[source]))
    return found


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


def _widened(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A depthwise kernel with zeros at its end, as `faster_copy` may have made the layer's."""
    return np.pad(kernel, [(0, new - old) for new, old in zip(shape, kernel.shape, strict=True)])
