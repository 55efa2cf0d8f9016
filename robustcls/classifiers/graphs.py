"""A Keras model of any form as one graph: images [N, H, W, C] in, one output out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError, nearest
from robustcls.classifiers.ranges import Scaling


class Preprocessing(keras.layers.Layer):
    """Does to images what a user wants done before a model gets them.

    Args:
        function: of a tensor of images.
        **kwargs: of a Keras layer.
    """

    def __init__(self, function: Callable[[Any], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.function(images)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"function": self.function}


def as_graph(model: keras.Model, output: str | int | None = None) -> keras.Model:
    """Returns a functional model of one input of images and one output, of the same layers.

    Gray images without channels, [N, H, W], and channels first, [N, C, H, W], become [N, H, W, C].

    Args:
        model: functional or sequential.
        output: the name or the number of one of several outputs; None takes the only one (default
            None).

    Returns:
        The model itself when it is of this form already.

    Raises:
        InputError: it has several inputs that the output depends on, none of images, or several
            outputs and none is chosen.
    """
    chosen = _output_of(model, output)
    source = _input_of(model, chosen)
    shape = tuple(source.shape[1:])
    if len(shape) == 2 and None not in shape:
        return _behind(keras.layers.Reshape(shape), (*shape, 1), source, chosen, model)
    if len(shape) != 3:
        raise InputError(f"model must take images [N, H, W, C]; its input is {source.shape}.")
    if shape[0] in (1, 3) and shape[2] not in (None, 1, 3):
        turned = (*shape[1:], shape[0])
        return _behind(keras.layers.Permute((3, 1, 2)), turned, source, chosen, model)
    # A dictionary or list of one input or output is called otherwise.
    is_plain = isinstance(model, keras.Sequential) or all(
        isinstance(side, keras.KerasTensor) for side in (model.input, model.output)
    )
    return model if is_plain else keras.Model(source, chosen, name=model.name)


def of_shape(
    model: keras.Model,
    image_shape: tuple[int, ...],
    before: Callable[[Any], Any] | None = None,
    output: str | int | None = None,
) -> keras.Model:
    """Returns a functional model of images of one shape, in [0, 1], to what a model returns.

    Args:
        model: any Keras model.
        image_shape: (H, W, C) of the images.
        before: done to the images first (default None).
        output: as for `as_graph` (default None).

    Raises:
        InputError: as for `as_graph`, or the model does not take such images.
    """
    is_known = bool(getattr(model, "inputs", None))
    graph = as_graph(model, output) if is_known else model
    kind = tf.as_dtype(graph.inputs[0].dtype if is_known else tf.float32)
    is_same = is_known and tuple(graph.inputs[0].shape[1:]) == tuple(image_shape)
    if before is None and is_same and kind == tf.float32:
        return graph
    images = keras.Input(image_shape, dtype="float32", name="images")
    try:
        scores = graph(_prepared(images, before, kind))
    except Exception as error:  # whatever a foreign model raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model must take images {tuple(image_shape)}; {model.name} raised "
            f"{type(error).__name__}: {reason[:200]}"
        ) from error
    return keras.Model(images, one_of(scores, output), name=model.name)


def _prepared(images: Any, before: Callable[[Any], Any] | None, kind: tf.DType) -> Any:
    """Images in [0, 1] as a model takes them."""
    if isinstance(before, Scaling):
        images = keras.layers.Rescaling(before.high - before.low, before.low)(images)
    elif before is not None:
        images = Preprocessing(before)(images)
    if kind == tf.float32:
        return images
    settings = {} if kind.is_integer else {"dtype": kind.name}
    return Preprocessing(lambda pixels: as_kind(pixels, kind), **settings)(images)


def as_kind(pixels: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """Returns pixels of another type; whole numbers are the nearest ones.

    Args:
        pixels: float.
        kind: the type.
    """
    return tf.cast(tf.round(pixels) if kind.is_integer else pixels, kind)


def one_of(outputs: Any, output: str | int | None = None) -> Any:
    """Returns the one output that a call returned, or the chosen one of several.

    Args:
        outputs: a tensor, or a dictionary or list of them.
        output: a key or a number (default None).

    Raises:
        InputError: there are several, and none of them is chosen.
    """
    if isinstance(outputs, dict):
        names, values = list(outputs), list(outputs.values())
    elif isinstance(outputs, list | tuple):
        names, values = [str(n) for n in range(len(outputs))], list(outputs)
    else:
        names, values = [], [outputs]
    return values[_place(names, len(values), output)]


def _output_of(model: keras.Model, output: str | int | None) -> Any:
    # Keras does not know the output of a `Sequential` that was not called.
    structure = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(structure, dict):
        return one_of(structure, output)
    names = list(getattr(model, "output_names", None) or [])
    return model.outputs[_place(names, len(model.outputs), output)]


def _place(names: list[str], count: int, output: str | int | None) -> int:
    """Returns which of `count` outputs is meant."""
    if output is None and count == 1:
        return 0
    if output is not None and str(output) in names:
        return names.index(str(output))
    if output is not None and str(output).isdecimal() and int(output) < count:
        return int(output)
    known = names if count == len(names) else [str(n) for n in range(count)]
    hint = nearest(str(output), known) if output is not None else ""
    raise InputError(
        f"output must be one of {', '.join(known)} for this model of {count} "
        f"output{'s' * (count != 1)}; received {output!r}."
        + (hint or (f" Did you mean output={known[0]!r}?" if output is None else ""))
    )


def _input_of(model: keras.Model, output: Any) -> Any:
    """Returns the one input that an output depends on."""
    if len(model.inputs) == 1:
        return model.inputs[0]
    for tensor in model.inputs:
        try:
            keras.Model(tensor, output)
        except ValueError:  # the output depends on others too
            continue
        return tensor
    shapes = ", ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)
    raise InputError(
        f"model must have one input, of images; received {len(model.inputs)}: {shapes}. Make a "
        "keras.Model of the images alone that fills in the others."
    )


def _behind(
    layer: keras.layers.Layer,
    image_shape: tuple[int | None, ...],
    source: Any,
    output: Any,
    model: keras.Model,
) -> keras.Model:
    images = keras.Input(image_shape, dtype=source.dtype, name="images")
    return keras.Model(images, keras.Model(source, output)(layer(images)), name=model.name)
