"""ResNeXt-50 (32x4d)."""

from __future__ import annotations

from typing import Any

from keras import layers

from robustcls.models.grouped_convolution import GroupedConv2D
from robustcls.models.normalization import FusedBatchNormalization

# (blocks, width of the grouped convolution), table 1 of the paper; a block's output is twice
# as wide.
STAGES = ((3, 128), (4, 256), (6, 512), (3, 1024))
CARDINALITY = 32


def resnext50(images: Any, **_: Any) -> Any:
    """Appends the convolutions of ResNeXt-50 32x4d to a graph.

    Padding and batch-norm constants are torchvision's.

    Args:
        images: Symbolic float32 [N, H, W, 3], already scaled.

    Returns:
        Symbolic float32 [N, H / 32, W / 32, 2048], >= 0.

    Reference: Xie et al., 2017, "Aggregated Residual Transformations for Deep Neural
    Networks", table 1.
    """
    x = layers.ZeroPadding2D(3, name="stem_pad")(images)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(name="stem_relu")(_normalize(x, "stem_bn"))
    # Zeros cannot win the maximum over what a ReLU returns unless all are zero.
    x = layers.ZeroPadding2D(1, name="pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool")(x)
    for stage, (blocks, width) in enumerate(STAGES, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 1 else 1
            x = _block(x, width, stride, f"stage{stage}_block{block}_")
    return x


def _block(inputs: Any, width: int, stride: int, prefix: str) -> Any:
    shortcut = inputs
    if inputs.shape[-1] != 2 * width:
        shortcut = layers.Conv2D(
            2 * width, 1, strides=stride, use_bias=False, name=f"{prefix}shortcut_conv"
        )(inputs)
        shortcut = _normalize(shortcut, f"{prefix}shortcut_bn")
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{prefix}reduce_conv")(inputs)
    x = layers.ReLU(name=f"{prefix}reduce_relu")(_normalize(x, f"{prefix}reduce_bn"))
    x = layers.ZeroPadding2D(1, name=f"{prefix}group_pad")(x)
    x = GroupedConv2D(
        width, 3, strides=stride, groups=CARDINALITY, use_bias=False, name=f"{prefix}group_conv"
    )(x)
    x = layers.ReLU(name=f"{prefix}group_relu")(_normalize(x, f"{prefix}group_bn"))
    x = layers.Conv2D(2 * width, 1, use_bias=False, name=f"{prefix}expand_conv")(x)
    x = _normalize(x, f"{prefix}expand_bn")
    x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return layers.ReLU(name=f"{prefix}relu")(x)


def _normalize(x: Any, name: str) -> Any:
    return FusedBatchNormalization(epsilon=1e-5, momentum=0.9, name=name)(x)
