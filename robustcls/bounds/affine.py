"""Layers that multiply and add, as the linear map and the offset that bounds need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls.models.depthwise_convolution import FastDepthwiseConv2D
from robustcls.models.normalization import FusedBatchNormalization
from robustcls.models.pointwise_convolution import PointwiseConv2D

layers = keras.layers


@dataclass(frozen=True)
class Affine:
    """x -> linear(x) + offset.

    Attributes:
        linear: the linear map, of tensors [N, ...]; with True, that of the absolute weights.
        offset: broadcast to the map's values; None is 0.
    """

    linear: Callable[[tf.Tensor, bool], tf.Tensor]
    offset: tf.Tensor | None = None

    def __call__(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the layer's value at points [N, ...]."""
        values = self.linear(points, False)
        return values if self.offset is None else values + self.offset


def _dense(layer: Any) -> Affine:
    kernel = _float(layer.kernel)

    def linear(points: tf.Tensor, absolute: bool) -> tf.Tensor:
        return keras.ops.matmul(points, tf.abs(kernel) if absolute else kernel)

    return Affine(linear, _float(layer.bias) if layer.use_bias else None)


def _convolution(convolve: Callable[..., Any]) -> Callable[[Any], Affine]:
    def affine(layer: Any) -> Affine:
        kernel = _float(layer.kernel)

        def linear(points: tf.Tensor, absolute: bool) -> tf.Tensor:
            return convolve(
                points,
                tf.abs(kernel) if absolute else kernel,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                data_format="channels_last",
            )

        return Affine(linear, _float(layer.bias) if layer.use_bias else None)

    return affine


def _scaling(scale: tf.Tensor, offset: tf.Tensor | None) -> Affine:
    return Affine(lambda points, absolute: points * (tf.abs(scale) if absolute else scale), offset)


def _rescaling(layer: Any) -> Affine:
    return _scaling(_float(layer.scale), _float(layer.offset))


def _averaging(layer: Any) -> Affine:
    """A layer whose weights are fixed and not negative."""
    return Affine(lambda points, absolute: _float(layer.call(points)))


def _identity(layer: Any) -> Affine:
    return Affine(lambda points, absolute: points)


def batch_norm(layer: Any, clean: tf.Tensor | None = None) -> Affine:
    """Returns batch normalization with the moving statistics, or with those of a batch.

    Args:
        layer: over the last axis.
        clean: float32 [N, ..., channels] whose mean and variance to take.
    """
    if clean is None:
        mean, variance = _float(layer.moving_mean), _float(layer.moving_variance)
    else:
        mean, variance = tf.nn.moments(clean, list(range(clean.shape.rank - 1)))
    scale = tf.math.rsqrt(variance + layer.epsilon)
    if layer.scale:
        scale *= _float(layer.gamma)
    offset = -mean * scale
    return _scaling(scale, offset + _float(layer.beta) if layer.center else offset)


def _float(values: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(values), tf.float32)


NORMALIZATIONS = (layers.BatchNormalization, FusedBatchNormalization)

AFFINE: dict[type, Callable[[Any], Affine]] = {
    layers.Dense: _dense,
    layers.Conv2D: _convolution(keras.ops.conv),
    PointwiseConv2D: _convolution(keras.ops.conv),
    layers.DepthwiseConv2D: _convolution(keras.ops.depthwise_conv),
    FastDepthwiseConv2D: _convolution(keras.ops.depthwise_conv),
    layers.Rescaling: _rescaling,
    layers.AveragePooling2D: _averaging,
    layers.GlobalAveragePooling2D: _averaging,
    layers.ZeroPadding2D: _averaging,
    layers.Flatten: _averaging,
    layers.Reshape: _averaging,
    layers.Resizing: _averaging,
    layers.Dropout: _identity,
}
"""How to make the map of a layer, without its activation, by the layer's exact class."""
