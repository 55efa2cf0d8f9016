"""Weights in bfloat16: half the size, computed with in float32."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Bfloat16Weights(keras.DTypePolicy):
    """Variables in bfloat16; a layer casts them to float32 when it uses them."""

    def __init__(self) -> None:
        super().__init__("mixed_bfloat16")
        self._compute_dtype, self._variable_dtype = "float32", "bfloat16"


def with_bfloat16_weights(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Returns two copies of a model, whose weights are rounded to bfloat16.

    Args:
        model: flat and functional, of float32.

    Returns:
        The first holds them as bfloat16; the second as float32, and answers the same.
    """
    # A sequential model counts no input among its layers, its copies do.
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    small = _copy(model, Bfloat16Weights())
    rounded = _copy(model, None)
    for source, first, second in zip(model.layers, small.layers, rounded.layers, strict=True):
        values = [tf.cast(weight, tf.bfloat16) for weight in source.get_weights()]
        for target, value in zip(first.weights, values, strict=True):
            target.assign(tf.cast(value, target.dtype))
        second.set_weights([tf.cast(value, tf.float32).numpy() for value in values])
    return small, rounded


def _copy(model: keras.Model, policy: keras.DTypePolicy | None) -> keras.Model:
    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if policy is not None and layer.weights:
            config["dtype"] = policy
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copy)
