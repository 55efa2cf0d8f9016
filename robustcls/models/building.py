"""Builds and loads the classifiers of this package."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, Range, checked
from robustcls._validation import InputError, check_choice
from robustcls.models.backbones import Backbone, get_backbone
from robustcls.models.pretrained import imagenet_weights
from robustcls.models.reproducible import PREPROCESSING, finish
from robustcls.models.stock import with_fast_layers


@checked
def build_classifier(
    backbone: str = "mobilenet_v2",
    *,
    input_shape: tuple[int, int, int],
    num_classes: Annotated[int, Range(minimum=2)],
    weights: str | Path | None = None,
    alpha: PositiveFloat = 1.0,
    output_stride: int | None = None,
    resize_to: PositiveInt | None = None,
    dropout: Annotated[float, Range(minimum=0, below=1)] = 0.0,
    seed: NonNegativeInt = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds an image classifier: images in [0, 1] in, logits out, one flat graph.

    The model prepares its images itself, in its first layers: resizing, gray to RGB, and the
    scaling that its backbone was trained with. Batch normalizations are fused, and convolutions
    of one pixel or on small maps train faster than Keras' own.

    Args:
        backbone: A key of `BACKBONES`: mobilenet_v2, densenet121, nasnet_mobile, efficientnet_b2,
            efficientnet_b4, efficientnet_b6, efficientnet_lite0 or resnext50 (str, default
            "mobilenet_v2").
        input_shape: (height, width, channels) of the images, 1 or 3 channels.
        num_classes: How many classes (int >= 2).
        weights: `None` draws them from `seed`; `"imagenet"` takes ImageNet's, with their head when
            `num_classes` is 1000; a path takes those of a `.keras` or `.weights.h5` file with the
            same architecture (a `.weights.h5` file says nothing of the padding and scaling its
            weights were trained with: they are taken to be those of `weights=None`) (default None).
        alpha: Width multiplier; MobileNetV2 only (float > 0, default 1.0).
        output_stride: The network's input size over the size of its last feature map: 32, 16 or 8
            for MobileNetV2, 32 for the others. `None`: for MobileNetV2 the largest whose last map
            is about 2x2 or more (32 from 56 pixels on, 16 from 28, 8 from 14), since batch norm
            learns badly on a single pixel. The earliest strides are removed, so pretrained weights
            still fit. The others do end in a single pixel below 64 pixels: there `resize_to=64` is
            the way out (int or None, default None).
        resize_to: Resize to this height and width first, bilinearly and differentiably, so attacks
            and noise still act on the images as given (int >= 1 or None, default None).
        dropout: Rate before the head (float in [0, 1), default 0.0).
        seed: Fixes the initial weights and the dropout, whatever the global seed (int >= 0, default
            0).
        name: The model's name, `backbone` by default (str or None, default None).

    Returns:
        A model from `images`, float32 [N, H, W, C] in [0, 1], to `logits`, float32
        [N, num_classes]. Its attribute `weights_source` says where its weights came from; it
        is not saved with the model.

    Raises:
        InputError: an argument out of range, an input too small for the backbone, weights
            that cannot be had or do not fit.
    """
    height, width, _ = _check_shape(input_shape)
    get_backbone(backbone)
    if resize_to is not None:
        height = width = resize_to
    output_stride = _check_stride(backbone, min(height, width), output_stride)
    if alpha != 1.0 and not get_backbone(backbone).has_alpha:
        raise InputError(f"alpha must be 1.0 for backbone '{backbone}'; received {alpha!r}.")

    padding, source = "symmetric", f"random, seed {seed}"
    arrays: Mapping[str, list[np.ndarray]] | None = None
    if weights == "imagenet":
        found = imagenet_weights(backbone, alpha=alpha, head=num_classes == 1000)
        padding, arrays, source = found.padding, found.layers, found.source
    elif weights is not None:
        path = _check_weights_file(weights)
        source = f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        if path.suffix == ".keras":
            saved = load_classifier(path)
            padding = _padding_of(saved)
            arrays = {layer.name: layer.get_weights() for layer in saved.layers if layer.weights}

    entry = get_backbone(backbone, padding=padding)
    images = keras.Input(input_shape, dtype="float32", name="images")
    x = _prepare(images, entry, resize_to)
    x = entry.features(x, alpha=alpha, output_stride=output_stride)
    x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    model = finish(keras.Model(images, logits, name=name or backbone), seed)

    if arrays is not None:
        fresh_head = weights == "imagenet" and num_classes != 1000
        _copy_weights(arrays, model, str(weights), fresh_head=fresh_head)
    elif weights is not None:
        _load_weights_file(model, path)
    model.weights_source = source
    return model


def load_classifier(path: str | Path, *, allow_h5: bool = False) -> keras.Model:
    """Loads a model from a `.keras` file.

    Args:
        path: A file written by `save_classifier` or `model.save`.
        allow_h5: Take files of the older formats `.h5` and `.hdf5` too, which may run code that is
            in them as they are loaded: only files that you trust (bool, default False).

    Returns:
        The model, not compiled; its layers are the fast ones of this package where there are
        such.

    Raises:
        InputError: no such file, or not a Keras model; one line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"path must be a .keras file; received '{path}', which does not exist.")
    if path.name.lower().endswith(".weights.h5"):
        raise InputError(
            f"path must be a .keras file; '{path}' holds weights alone. Make the model, call its "
            "load_weights with this file and save it as model.keras."
        )
    if path.suffix.lower() in (".h5", ".hdf5") and not allow_h5:
        raise InputError(
            f"path must be a .keras file; '{path}' is of a format that may run code as it is "
            "loaded. If you trust it, save it anew: load_classifier(path, allow_h5=True)"
            ".save('model.keras')."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        # Keras raises ValueError, TypeError, KeyError, OSError, ... for what is not a model.
        raise InputError(_why_not_loaded(path, str(error) or type(error).__name__)) from None
    return with_fast_layers(model)


def _why_not_loaded(path: Path, message: str) -> str:
    missing = re.search(r"Could not locate (class|function) '([^']+)'", message)
    if missing:
        return (
            f"path must be a model of known layers; '{path}' needs the {missing[1]} {missing[2]}, "
            "which no imported module defines. Import the one that does, or name it on the command "
            "line with --import MODULE."
        )
    if "`Lambda` layer" in message and "safe" in message:
        return (
            f"path must be a model without code of its own; '{path}' has a Lambda layer. If you "
            "trust it, call keras.config.enable_unsafe_deserialization() first, on the command "
            "line in a module that --import names."
        )
    reason = message.strip().splitlines()[0][:200]
    return f"path must be a model saved as .keras; received '{path}' ({reason})."


def _check_shape(input_shape: Any) -> tuple[int, int, int]:
    try:
        height, width, channels = input_shape
        good = min(height, width) >= 1 and channels in (1, 3)
        good = good and all(int(side) == side for side in input_shape)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(
            "input_shape must be (height, width, channels) with 1 or 3 channels; "
            f"received {input_shape!r}."
        )
    return height, width, channels


def _check_stride(backbone: str, size: int, output_stride: int | None) -> int:
    entry = get_backbone(backbone)
    offered = entry.output_strides
    if output_stride is not None and output_stride not in offered:
        raise InputError(
            f"output_stride must be {' or '.join(map(str, offered))} for backbone "
            f"'{backbone}'; received {output_stride!r}."
        )
    smallest = entry.minimum_size
    if len(offered) > 1:
        # A last map of 2x2 is 2 strides wide; 28 pixels at stride 16 still make one.
        needed = {stride: stride * 7 // 4 for stride in offered}
        if output_stride is None:
            output_stride = next((s for s in offered if size >= needed[s]), min(offered))
            smallest = needed[min(offered)]
        else:
            smallest = output_stride
    if size < smallest:
        raise InputError(
            f"input_shape must be at least {smallest} pixels high and wide for backbone "
            f"'{backbone}'; received {size}. Did you mean resize_to={max(64, smallest)}?"
        )
    return output_stride or offered[0]


def _check_weights_file(weights: str | Path) -> Path:
    path = Path(weights) if isinstance(weights, str | Path) else Path()
    if not path.name.endswith((".keras", ".weights.h5")):
        check_choice("weights", str(weights), ["imagenet", "a .keras or .weights.h5 file"])
    if not path.is_file():
        raise InputError(f"weights must be 'imagenet' or a file; '{path}' does not exist.")
    return path


def _prepare(images: Any, backbone: Backbone, resize_to: int | None) -> Any:
    x = images
    if resize_to is not None:
        x = keras.layers.Resizing(resize_to, resize_to, name="resize")(x)
    if images.shape[-1] == 1:
        x = keras.layers.Concatenate(name="gray_to_rgb")([x, x, x])
    scale = [1 / std for std in backbone.std]
    offset = [-mean / std for mean, std in zip(backbone.mean, backbone.std, strict=True)]
    return keras.layers.Rescaling(scale, offset, name=PREPROCESSING)(x)


def _padding_of(model: keras.Model) -> str:
    stem = [layer for layer in model.layers if layer.name == "bn_Conv1"]
    return "keras" if stem and stem[0].epsilon == 1e-3 else "symmetric"


def _copy_weights(
    arrays: Mapping[str, list[np.ndarray]], model: keras.Model, weights: str, *, fresh_head: bool
) -> None:
    for layer in model.layers:
        if not layer.weights or (layer.name == "logits" and fresh_head):
            continue
        expected = [tuple(variable.shape) for variable in layer.weights]
        received = [array.shape for array in arrays.get(layer.name, [])]
        if expected != received:
            raise InputError(
                f"weights must come from the same architecture: layer '{layer.name}' has "
                f"{expected}; received {received or 'none'} from '{weights}'."
            )
        layer.set_weights(arrays[layer.name])


def _load_weights_file(model: keras.Model, path: Path) -> None:
    try:
        model.load_weights(path)
    except Exception as error:
        # Keras and h5py have many errors for a file that does not fit.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"weights must come from the same architecture; received '{path}' ({reason[:200]})."
        ) from None
