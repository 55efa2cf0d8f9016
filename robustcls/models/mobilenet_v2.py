"""MobileNetV2 with a choice of padding and of total stride."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import initializers, layers

from robustcls.models.normalization import FusedBatchNormalization

# (channels, blocks, stride of the first block), table 2 of the paper.
STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
EXPANSION = 6
OUTPUT_STRIDES = (32, 16, 8)


def mobilenet_v2(
    images: Any, *, alpha: float = 1.0, output_stride: int = 32, padding: str = "symmetric"
) -> Any:
    """Appends the convolutions of MobileNetV2 to a graph.

    Layers are named as `keras.applications.MobileNetV2` names them, so weights go from one
    to the other by layer name.

    Args:
        images: Symbolic float32 [N, H, W, 3], already scaled as the weights expect.
        alpha: Width multiplier, > 0.
        output_stride: H over the height of the result: 32 as published, or 16 or 8. The
            earliest strides are the ones removed, so the weights still fit.
        padding: `"symmetric"` pads every stride-2 convolution by one pixel on each side, as
            torchvision does, with its batch-norm epsilon and momentum. `"keras"` pads, like
            `keras.applications`, only as much as needed, more at the bottom and right.

    Returns:
        Symbolic float32 [N, H / output_stride, W / output_stride, C] in [0, 6], where C is
        1280, or more for `alpha` above 1.

    Reference: Sandler et al., 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks".
    """
    removed = {32: 0, 16: 1, 8: 2}[output_stride]
    build = _Builder(padding)
    stem_stride = 1 if removed >= 1 else 2
    x = build.convolution(
        images, _divisible(32 * alpha), stem_stride, "Conv1", pad_name="Conv1_pad"
    )
    x = build.normalization(x, "bn_Conv1")
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    index = 0
    for channels, blocks, first_stride in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            if index == 1 and removed >= 2:
                stride = 1
            x = build.inverted_residual(x, _divisible(int(channels * alpha)), stride, index)
            index += 1
    # The paper widens the last convolution with alpha, but never narrows it.
    x = build.convolution(x, _divisible(1280 * max(1.0, alpha)), 1, "Conv_1", size=1)
    x = build.normalization(x, "Conv_1_bn")
    return layers.ReLU(6.0, name="out_relu")(x)


def layer_names() -> Iterator[str]:
    """Yields the names of all layers with weights from the stem to the head, and `logits`."""
    yield from ("Conv1", "bn_Conv1")
    for index in range(sum(blocks for _, blocks, _ in STAGES)):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        for part in ("expand", "depthwise", "project") if index else ("depthwise", "project"):
            yield from (f"{prefix}{part}", f"{prefix}{part}_BN")
    yield from ("Conv_1", "Conv_1_bn", "logits")


class _Builder:
    def __init__(self, padding: str):
        self.symmetric = padding == "symmetric"

    def normalization(self, x: Any, name: str) -> Any:
        epsilon, momentum = (1e-5, 0.9) if self.symmetric else (1e-3, 0.999)
        return FusedBatchNormalization(epsilon=epsilon, momentum=momentum, name=name)(x)

    def pad(self, x: Any, name: str) -> Any:
        """Pads for a 3x3 convolution of stride 2 with `valid` padding."""
        # What TensorFlow's `same` adds on the top and left: nothing for an even size.
        before = [1 if self.symmetric else size % 2 for size in x.shape[1:3]]
        return layers.ZeroPadding2D(tuple((side, 1) for side in before), name=name)(x)

    def convolution(
        self,
        x: Any,
        filters: int,
        stride: int,
        name: str,
        *,
        pad_name: str = "",
        size: int = 3,
        gain: float = 1.0,
    ) -> Any:
        """Convolves; `gain` is 2 after a ReLU, so that a new network neither fades nor saturates.

        Keras' default takes every channel for an input of a depthwise kernel: a new network's
        logits would all be about 1e-9 until its moving statistics have caught up.
        """
        if stride == 2:
            x = self.pad(x, pad_name)
        padding = "valid" if stride == 2 else "same"
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=initializers.VarianceScaling(gain, "fan_in", "untruncated_normal"),
            name=name,
        )(x)

    def inverted_residual(self, x: Any, channels: int, stride: int, index: int) -> Any:
        prefix = f"block_{index}_" if index else "expanded_conv_"
        inputs = x
        if index:
            expanded = EXPANSION * x.shape[-1]
            x = self.convolution(x, expanded, 1, f"{prefix}expand", size=1)
            x = self.normalization(x, f"{prefix}expand_BN")
            x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)
        if stride == 2:
            x = self.pad(x, f"{prefix}pad")
        x = layers.DepthwiseConv2D(
            3,
            strides=stride,
            padding="valid" if stride == 2 else "same",
            use_bias=False,
            # Keras counts 9 outputs for each channel here, which are really the inputs.
            depthwise_initializer=initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal"
            ),
            name=f"{prefix}depthwise",
        )(x)
        x = self.normalization(x, f"{prefix}depthwise_BN")
        x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(x)
        x = self.convolution(x, channels, 1, f"{prefix}project", size=1, gain=2.0)
        x = self.normalization(x, f"{prefix}project_BN")
        if stride == 1 and inputs.shape[-1] == channels and index:
            x = layers.Add(name=f"{prefix}add")([inputs, x])
        return x


def _divisible(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
