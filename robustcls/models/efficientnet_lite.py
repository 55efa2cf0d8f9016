"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation, with ReLU6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import initializers, layers

from robustcls.models.normalization import FusedBatchNormalization

# (channels, blocks, stride of the first block, kernel, expansion).
STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)
_STEM, _HEAD = 32, 1280


def efficientnet_lite0(images: Any, **_: Any) -> Any:
    """Appends the convolutions of EfficientNet-Lite0 to a graph.

    Args:
        images: Symbolic float32 [N, H, W, 3], already scaled as the weights expect.

    Returns:
        Symbolic float32 [N, H / 32, W / 32, 1280] in [0, 6].

    Reference: Tan and Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", table 1; Liu, 2020, "Higher accuracy on vision models with EfficientNet-Lite", of
    what is left out.
    """
    x = _unit(images, _STEM, "lite_stem", size=3, stride=2)
    index = 0
    for channels, blocks, first_stride, kernel, expansion in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            inputs, prefix = x, f"lite_block_{index}"
            if expansion > 1:
                x = _unit(x, expansion * x.shape[-1], f"{prefix}_expand")
            x = _depthwise(x, kernel, stride, f"{prefix}_depthwise")
            x = _unit(x, channels, f"{prefix}_project", activation=False)
            if block:
                x = layers.Add(name=f"{prefix}_add")([inputs, x])
            index += 1
    return _unit(x, _HEAD, "lite_head")


def layer_names() -> Iterator[str]:
    """Yields the names of all layers with weights from the stem to the head, and `logits`."""
    yield from ("lite_stem", "lite_stem_bn")
    index = 0
    for _, blocks, _, _, expansion in STAGES:
        for _ in range(blocks):
            for part in ("expand", "depthwise", "project")[expansion == 1 :]:
                yield from (f"lite_block_{index}_{part}", f"lite_block_{index}_{part}_bn")
            index += 1
    yield from ("lite_head", "lite_head_bn", "logits")


def _unit(
    x: Any, filters: int, name: str, *, size: int = 1, stride: int = 1, activation: bool = True
) -> Any:
    """A convolution, its batch norm, and ReLU6; drawn so that a new network does not fade."""
    gain = 1.0 if activation else 2.0
    x = layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializers.VarianceScaling(gain, "fan_in", "untruncated_normal"),
        name=name,
    )(x)
    return _normalized(x, name, activation)


def _depthwise(x: Any, size: int, stride: int, name: str) -> Any:
    x = layers.DepthwiseConv2D(
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        # Keras counts the kernel's places for each channel here, which are really the inputs.
        depthwise_initializer=initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)
    return _normalized(x, name, activation=True)


def _normalized(x: Any, name: str, activation: bool) -> Any:
    x = FusedBatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x
