"""1x1 convolution that trains as a matrix product."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="robustcls")
class PointwiseConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that trains a 1x1 convolution of stride 1 as one matrix product.

    Same weights, and the same results to float32 rounding. On a CPU the gradients of
    TensorFlow's convolution take up to twice as long where maps are small and channels many.
    Inference goes through the convolution, which a graph optimizer fuses with what follows; so
    does what is no such convolution (another kernel size, strides, groups, channels first).

    Args:
        **kwargs: As for `keras.layers.Conv2D`.

    Input shape: [N, H, W, C]. Output shape: as for `keras.layers.Conv2D`.

    Example:
        >>> PointwiseConv2D(8, 1)(keras.ops.ones((1, 5, 5, 4)), training=True).shape
        TensorShape([1, 5, 5, 8])
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolves `inputs`; see the class."""
        if not (training and self._is_pointwise()):
            return super().call(inputs)
        channels = inputs.shape[-1]
        pixels = keras.ops.reshape(inputs, (-1, channels))
        outputs = keras.ops.matmul(pixels, keras.ops.reshape(self.kernel, (channels, self.filters)))
        if self.use_bias:
            outputs = keras.ops.add(outputs, self.bias)
        return self.activation(
            keras.ops.reshape(outputs, (*keras.ops.shape(inputs)[:-1], self.filters))
        )

    def _is_pointwise(self) -> bool:
        return (
            self.kernel_size == (1, 1)
            and self.strides == (1, 1)
            and self.groups == 1
            and self.data_format == "channels_last"
        )
