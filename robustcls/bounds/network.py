"""A flat Keras model as the steps that bounds go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.bounds.affine import AFFINE, NORMALIZATIONS, Affine, batch_norm

layers = keras.layers

_PEAKS = (layers.MaxPooling2D, layers.GlobalMaxPooling2D)
_RELUS = {keras.activations.relu: (0.0, None), keras.activations.relu6: (0.0, 6.0)}
_RISING = (
    keras.activations.sigmoid,
    keras.activations.tanh,
    keras.activations.softplus,
)
_JOINING = (layers.Add, layers.Concatenate)


@dataclass(frozen=True)
class Box:
    """What a tensor of the network can be.

    Attributes:
        lower, upper: float32 [N, ...].
        clean: its value for the images themselves, where a clean pass goes along.
    """

    lower: tf.Tensor
    upper: tf.Tensor
    clean: tf.Tensor | None = None

    @property
    def center(self) -> tf.Tensor:
        return (self.upper + self.lower) / 2

    @property
    def radius(self) -> tf.Tensor:
        return (self.upper - self.lower) / 2


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        kind: "affine", "relu" (two or three lines, see `ends`), "peak" (a maximum over places),
            "rising" (any other function that never falls) or "join".
        layer: the layer it belongs to.
        inputs: the tensors it takes, by name.
        output: the tensor it makes.
        function: for all but "affine".
        ends: of a "relu" the slope below 0, and the largest value or None.
    """

    kind: str
    layer: Any
    inputs: tuple[str, ...]
    output: str
    function: Callable[..., tf.Tensor] | None = None
    ends: tuple[float, float | None] = (0.0, None)


class Network:
    """The steps of a model, checked to be of kinds that bounds know.

    Args:
        model: a flat functional or sequential model of images to logits, of convolutions,
            depthwise convolutions, dense layers, batch normalizations, activations that never
            fall (ReLU, ReLU6, ...), pooling, additions, concatenations, flattening, padding,
            resizing and rescaling.

    Raises:
        InputError: a layer is of another kind (the message names it), or the model returns
            probabilities.
    """

    def __init__(self, model: keras.Model) -> None:
        if not getattr(model, "inputs", None) or len(model.inputs) != 1:
            raise InputError(
                f"model must be a functional or sequential Keras model of one input for bounds; "
                f"received {getattr(model, 'name', type(model).__name__)}."
            )
        outputs = model.outputs[0]
        # Kept, since tensors go by their identity.
        self._graph = keras.Model(model.inputs[0], outputs)
        self.steps: list[Step] = []
        self.input = _name(model.inputs[0])
        self.output = _name(outputs)
        # Other models may share a layer, in nodes of their own.
        own = {id(node) for nodes in self._graph._nodes_by_depth.values() for node in nodes}
        for layer in self._graph.operations:
            if isinstance(layer, layers.InputLayer):
                continue
            nodes = [node for node in layer._inbound_nodes if id(node) in own]
            if len(nodes) != 1:
                raise InputError(
                    f"model must use each layer once for bounds; {layer.name} is used "
                    f"{len(nodes)} times."
                )
            node = nodes[0]
            inputs = tuple(_name(tensor) for tensor in node.input_tensors)
            self.steps += _steps(layer, inputs, _name(node.outputs[0]))

    def boxes(
        self,
        lower: tf.Tensor,
        upper: tf.Tensor,
        *,
        clean: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Box], dict[str, Affine]]:
        """Returns interval bounds of every tensor, and the affine maps on the way, by name.

        Args:
            lower: float32 [N, H, W, C], the lower ends of the pixels.
            upper: the upper ends.
            clean: images to take along (default None).
            training: batch norm with the statistics of the clean pass, whose moving averages then
                move, and dropout in the clean pass; needs `clean` (bool, default False).
        """
        found = {self.input: Box(lower, upper, clean)}
        maps: dict[str, Affine] = {}
        for step in self.steps:
            given = [found[name] for name in step.inputs]
            if step.kind == "affine":
                found[step.output] = _through_affine(step, given[0], maps, training)
            else:
                found[step.output] = Box(*(_apply(step, given, end) for end in _ENDS))
        return found, maps


_ENDS: tuple[Callable[[Box], Any], ...] = (
    lambda box: box.lower,
    lambda box: box.upper,
    lambda box: box.clean,
)


def _apply(step: Step, given: list[Box], end: Callable[[Box], Any]) -> Any:
    values = [end(box) for box in given]
    if step.function is None or any(value is None for value in values):
        return None
    return step.function(values if step.kind == "join" else values[0])


def _through_affine(step: Step, box: Box, maps: dict[str, Affine], training: bool) -> Box:
    layer, clean = step.layer, None
    if isinstance(layer, NORMALIZATIONS):
        on_batch = training and layer.trainable
        affine = batch_norm(layer, box.clean if on_batch else None)
        if on_batch:
            layer(box.clean, training=True)  # for the moving averages
    else:
        affine = AFFINE[type(layer)](layer)
    maps[step.output] = affine
    if box.clean is not None:
        is_dropout = isinstance(layer, layers.Dropout)
        clean = layer.call(box.clean, training=training) if is_dropout else affine(box.clean)
    center, radius = affine(box.center), affine.linear(box.radius, True)
    return Box(center - radius, center + radius, clean)


# Bounds are float32 whatever a layer's precision, so layers are called without their casts.
def _steps(layer: Any, inputs: tuple[str, ...], output: str) -> list[Step]:
    kind = type(layer)
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation is keras.activations.softmax or kind is layers.Softmax:
        raise InputError(
            f"model must return logits for bounds; layer {layer.name} is a softmax. "
            "Did you mean the model without it?"
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _unsupported(layer, "channels first")
    if kind in _JOINING:
        return [Step("join", layer, inputs, output, layer.call)]
    if kind in _PEAKS:
        return [Step("peak", layer, inputs, output, layer.call)]
    if kind is layers.ReLU:
        if layer.negative_slope < 0 or layer.threshold:
            raise _unsupported(layer, "a threshold or a negative slope below 0")
        ends = (float(layer.negative_slope), layer.max_value)
        return [Step("relu", layer, inputs, output, layer.call, ends)]
    if kind is layers.LeakyReLU and layer.negative_slope >= 0:
        ends = (float(layer.negative_slope), None)
        return [Step("relu", layer, inputs, output, layer.call, ends)]
    if kind is layers.Activation:
        return [_activation(layer, inputs, output)]
    if kind in NORMALIZATIONS:
        if layer.axis not in (-1, len(layer.input.shape) - 1):
            raise _unsupported(layer, f"axis {layer.axis}")
        return [Step("affine", layer, inputs, output)]
    if kind not in AFFINE:
        raise _unsupported(layer)
    if kind is layers.Resizing and layer.interpolation not in ("bilinear", "nearest", "area"):
        raise _unsupported(layer, f"interpolation {layer.interpolation}")
    if activation is keras.activations.linear:
        return [Step("affine", layer, inputs, output)]
    before = output + " before activation"
    return [Step("affine", layer, inputs, before), _activation(layer, (before,), output)]


def _activation(layer: Any, inputs: tuple[str, ...], output: str) -> Step:
    activation = layer.activation
    if activation is keras.activations.linear:
        return Step("rising", layer, inputs, output, activation)
    if activation in _RELUS:
        return Step("relu", layer, inputs, output, activation, _RELUS[activation])
    if activation not in _RISING:
        raise _unsupported(layer, f"activation {getattr(activation, '__name__', activation)}")
    return Step("rising", layer, inputs, output, activation)


def _unsupported(layer: Any, why: str = "") -> InputError:
    kind = type(layer).__name__ + (f" with {why}" if why else "")
    return InputError(
        f"model must be of layers that bounds know; layer {layer.name} is a {kind}. Known are "
        "Conv2D, DepthwiseConv2D, Dense, BatchNormalization, ReLU, MaxPooling2D, "
        "AveragePooling2D, Add, Concatenate, Flatten, ZeroPadding2D, Rescaling."
    )


def _name(tensor: Any) -> str:
    return f"tensor {id(tensor)}"
