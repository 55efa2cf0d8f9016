"""The networks that `build_classifier` knows, each with what it expects of its input."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import keras

from robustcls._user_code import called
from robustcls._validation import InputError
from robustcls.models.efficientnet_lite import efficientnet_lite0
from robustcls.models.mobilenet_v2 import OUTPUT_STRIDES, mobilenet_v2
from robustcls.models.registry import BACKBONES
from robustcls.models.resnext import resnext50

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_OF_LITE = (127 / 255,) * 3
STD_OF_LITE = (128 / 255,) * 3


Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """How to build one network and feed it.

    Attributes:
        features: `(images, alpha=, output_stride=) -> feature map`, both symbolic.
        application: Its name in `keras.applications`, `None` where Keras has none.
        block: Matches the name of every layer with weights below the head; the first group
            that takes part is the name of the layer's block.
        mean: Subtracted from images in [0, 1], a figure a channel (default (0.485, 0.456, 0.406)).
        std: What they are then divided by (default (0.229, 0.224, 0.225)).
        output_strides: The total strides on offer, the published one first (default (32,)).
        minimum_size: The smallest height or width, in pixels, at the published stride (int,
            default 32).
        has_alpha: Whether the width multiplier applies (bool, default False).
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
        """Returns the block of a layer that has weights, `None` when it is not of this network.

        Args:
            layer_name: The layer's.
        """
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


MOBILENET_V2 = Backbone(
    features=mobilenet_v2,
    application="MobileNetV2",
    block=re.compile(
        r"(block_\d+|expanded_conv)_(?:expand|depthwise|project)(?:_BN)?$"
        r"|(?:bn_)?(Conv1)$|(Conv_1)(?:_bn)?$"
    ),
    output_strides=OUTPUT_STRIDES,
    has_alpha=True,
)
DENSENET121 = Backbone(
    features=_application("DenseNet121"),
    application="DenseNet121",
    # A dense block of up to 24 layers opens at once, with the transition that follows it.
    block=re.compile(r"(?:conv|pool)([2-5])_(?:block|bn|conv)|(conv1)_|(bn)$"),
)
NASNET_MOBILE = Backbone(
    features=_application("NASNetMobile"),
    application="NASNetMobile",
    block=re.compile(r".+?_((?:stem|reduce)_\d+|\d+)$|(stem)_(?:conv|bn)1$"),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
EFFICIENTNET_B2 = _efficientnet("EfficientNetB2")
EFFICIENTNET_B4 = _efficientnet("EfficientNetB4")
EFFICIENTNET_B6 = _efficientnet("EfficientNetB6")
EFFICIENTNET_LITE0 = Backbone(
    features=efficientnet_lite0,
    application=None,
    block=re.compile(r"(lite_(?:block_\d+|stem|head))(?:_|$)"),
    mean=MEAN_OF_LITE,
    std=STD_OF_LITE,
)
RESNEXT50 = Backbone(
    features=resnext50,
    application=None,
    block=re.compile(r"(stage\d_block\d)_|(stem)_"),
)


def register_backbone(
    name: str | None = None,
    *,
    block: str = "(.+)",
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    output_strides: tuple[int, ...] = (32,),
    minimum_size: int = 1,
    has_alpha: bool = False,
) -> Callable[[Function], Function]:
    """Makes a function a backbone like every other: a decorator.

    The backbone is then one of `BACKBONES`: `build_classifier(name)` and
    `robustcls train --model.backbone NAME` take it. It gets the preprocessing, the faster layers,
    the seeded weights and the head of the others, so a saved model loads without the function.

        @rc.register_backbone(mean=(0.5,) * 3, std=(0.5,) * 3)
        def two_layers(images):
            x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(images)
            return keras.layers.Conv2D(32, 3, strides=2, activation="relu")(x)

    Args:
        name: in `BACKBONES`; the function's when None (str or None, default None).
        block: a regular expression that matches the name of every layer with weights; its first
            group that takes part names the block that `PlateauUnfreezing` opens at once (default
            "(.+)"). So each layer is a block.
        mean: subtracted from images in [0, 1], a figure a channel (default (0.485, 0.456, 0.406)).
        std: what they are then divided by (default (0.229, 0.224, 0.225)).
        output_strides: the total strides on offer, the published one first (default (32,)). With
            more than one, the function takes `output_stride`.
        minimum_size: the smallest height or width of the images in pixels (int, default 1).
        has_alpha: the function takes `alpha`, a multiplier of its width (bool, default False).

    Returns:
        The decorator of a function from images, symbolic float32 [N, H, W, 3] already scaled, to
        a feature map [N, h, w, C]. `Normalization` and `Rescaling` layers in it are left out,
        since `mean` and `std` do their work.

    Raises:
        InputError: the name is taken, or `block` is no regular expression with a group.
    """
    try:
        pattern = re.compile(block)
    except re.error as error:
        raise InputError(f"block must be a regular expression; {block!r}: {error}.") from None
    if not pattern.groups:
        raise InputError(f"block must have a group, as '(block\\d+)_'; received {block!r}.")

    def register(function: Function) -> Function:
        own = function.__name__ if name is None else name

        def features(images: Any, *, alpha: float, output_stride: int) -> Any:
            settings: dict[str, Any] = {"alpha": alpha} if has_alpha else {}
            if len(output_strides) > 1:
                settings["output_stride"] = output_stride
            return _feature_map(own, function, images, settings)

        entry = Backbone(
            features=features,
            application=None,
            block=pattern,
            mean=mean,
            std=std,
            output_strides=output_strides,
            minimum_size=minimum_size,
            has_alpha=has_alpha,
        )
        BACKBONES.add(own, entry, function)
        return function

    return register


def _feature_map(
    name: str, function: Callable[..., Any], images: Any, settings: dict[str, Any]
) -> Any:
    with called(f"backbone '{name}'", function):
        found = function(images, **settings)
    if len(getattr(found, "shape", ())) != 4:
        raise InputError(
            f"backbone '{name}' must return a feature map [N, h, w, C]; received {found!r}."
        )
    return found


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
    backbone = BACKBONES.find(name)
    if name == "mobilenet_v2" and padding == "keras":

        def features(images: Any, **settings: Any) -> Any:
            return mobilenet_v2(images, padding="keras", **settings)

        return replace(backbone, features=features, mean=(0.5,) * 3, std=(0.5,) * 3)
    return backbone
