"""The networks that `build_classifier` knows, each with what it expects of its input."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from robustcls._validation import InputError, check_choice
from robustcls.models.mobilenet_v2 import OUTPUT_STRIDES, mobilenet_v2
from robustcls.models.resnext import resnext50

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """How to build one network and feed it.

    Attributes:
        features: `(images, alpha=, output_stride=) -> feature map`, both symbolic.
        application: Its name in `keras.applications`, `None` where Keras has none.
        block: Matches the name of every layer with weights below the head; the first group
            that takes part is the name of the layer's block.
        mean: Subtracted from images in [0, 1], a figure a channel.
        std: What they are then divided by.
        output_strides: The total strides on offer, the published one first.
        minimum_size: The smallest height or width, in pixels, at the published stride.
        has_alpha: Whether the width multiplier applies.
    """

    features: Callable[..., Any]
    application: str | None
    block: re.Pattern[str]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    output_strides: tuple[int, ...] = (32,)
    minimum_size: int = 32
    has_alpha: bool = False

    def block_of(self, layer_name: str) -> str | None:
        """Returns the block of a layer that has weights, `None` when it is not of this network."""
        if layer_name == "logits":
            return "head"
        match = self.block.match(layer_name)
        return next(group for group in match.groups() if group) if match else None


def _application(name: str) -> Callable[..., Any]:
    def features(images: Any, **_: Any) -> Any:
        network = getattr(keras.applications, name)
        return network(include_top=False, weights=None, input_tensor=images).output

    return features


def _efficientnet(name: str) -> Backbone:
    return Backbone(
        features=_application(name),
        application=name,
        block=re.compile(r"(block\d)[a-z]+_|(stem|top)_(?:conv|bn)$"),
    )


BACKBONES: dict[str, Backbone] = {
    "mobilenet_v2": Backbone(
        features=mobilenet_v2,
        application="MobileNetV2",
        block=re.compile(
            r"(block_\d+|expanded_conv)_(?:expand|depthwise|project)(?:_BN)?$"
            r"|(?:bn_)?(Conv1)$|(Conv_1)(?:_bn)?$"
        ),
        output_strides=OUTPUT_STRIDES,
        has_alpha=True,
    ),
    "densenet121": Backbone(
        features=_application("DenseNet121"),
        application="DenseNet121",
        # A dense block of up to 24 layers opens at once, with the transition that follows it.
        block=re.compile(r"(?:conv|pool)([2-5])_(?:block|bn|conv)|(conv1)_|(bn)$"),
    ),
    "nasnet_mobile": Backbone(
        features=_application("NASNetMobile"),
        application="NASNetMobile",
        block=re.compile(r".+?_((?:stem|reduce)_\d+|\d+)$|(stem)_(?:conv|bn)1$"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "efficientnet_b2": _efficientnet("EfficientNetB2"),
    "efficientnet_b4": _efficientnet("EfficientNetB4"),
    "efficientnet_b6": _efficientnet("EfficientNetB6"),
    "resnext50": Backbone(
        features=resnext50,
        application=None,
        block=re.compile(r"(stage\d_block\d)_|(stem)_"),
    ),
}


def unfreezing_blocks(model: keras.Model) -> list[list[keras.layers.Layer]]:
    """Groups the layers that have weights, for training a model from the top down.

    A block is a residual block (MobileNetV2, ResNeXt), a cell (NASNet), a stage
    (EfficientNet) or a dense block with the transition above it (DenseNet).

    Args:
        model: What `build_classifier` made, in this process or in the one that saved it.

    Returns:
        The blocks from the head to the stem, each with its layers from bottom to top. Every
        layer that has weights is in exactly one.

    Raises:
        InputError: the model is not made of one of `BACKBONES`.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    for backbone in BACKBONES.values():
        keys = [backbone.block_of(layer.name) for layer in weighted]
        if keys and None not in keys:
            blocks: dict[str | None, list[keras.layers.Layer]] = {}
            # Where branches run in parallel, a block is placed by its last layer.
            for key in reversed(keys):
                blocks.setdefault(key, [])
            for key, layer in zip(keys, weighted, strict=True):
                blocks[key].append(layer)
            return list(blocks.values())
    raise InputError(
        f"model must come from build_classifier; received '{model.name}', whose layers belong to "
        "no known backbone."
    )


def get_backbone(name: str, *, padding: str = "symmetric") -> Backbone:
    """Returns the backbone called `name`.

    Args:
        name: A key of `BACKBONES`.
        padding: `"keras"` for the graph that `keras.applications`' own weights were trained
            in, which for MobileNetV2 differs in padding, batch-norm constants and scaling.

    Raises:
        InputError: no such backbone; lists the known ones.
    """
    backbone = BACKBONES[check_choice("backbone", name, BACKBONES)]
    if name == "mobilenet_v2" and padding == "keras":

        def features(images: Any, **settings: Any) -> Any:
            return mobilenet_v2(images, padding="keras", **settings)

        return replace(backbone, features=features, mean=(0.5,) * 3, std=(0.5,) * 3)
    return backbone
