"""Grouped convolution that any TensorFlow build can train and any server can run."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="robustcls")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, as one plain convolution for each group.

    Where every channel is a group of its own, as in ConvNeXt, it is one depthwise convolution.

    Keras compiles a grouped convolution with XLA, anew at every eager call and into every
    export, where TensorFlow Serving refuses it. TensorFlow's own has no gradient on processors
    without oneDNN. The results are the same.

    Args:
        **kwargs: As for `keras.layers.Conv2D`.

    Input shape: [N, H, W, C] with C a multiple of `groups`. Output shape: as for
    `keras.layers.Conv2D`.

    Example:
        >>> GroupedConv2D(8, 3, groups=4)(keras.ops.ones((1, 5, 5, 4))).shape
        TensorShape([1, 3, 3, 8])
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves group by group and concatenates the channels."""
        if kernel.shape[-2] == 1 and self.data_format == "channels_last":
            height, width = self.kernel_size
            return keras.ops.depthwise_conv(
                inputs,
                keras.ops.reshape(kernel, (height, width, self.groups, -1)),
                strides=self.strides,
                padding=self.padding,
                data_format=self.data_format,
                dilation_rate=self.dilation_rate,
            )
        axis = -1 if self.data_format == "channels_last" else 1
        groups = zip(
            keras.ops.split(inputs, self.groups, axis=axis),
            keras.ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        parts = [super(GroupedConv2D, self).convolution_op(*group) for group in groups]
        return keras.ops.concatenate(parts, axis=axis)
