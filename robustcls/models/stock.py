"""Copies of layers: saved models hold stock Keras layers, the fast ones come back when loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from robustcls.models.grouped_convolution import GroupedConv2D
from robustcls.models.reproducible import FASTER

#: What layers raise that cannot be copied: their configuration does not say how to make another one
#: like it, or the copy is called otherwise or has other weights.
CANNOT_BE_COPIED = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError)
_STOCK = {fast: stock for stock, fast in FASTER.items()} | {GroupedConv2D: keras.layers.Conv2D}


def save_classifier(model: keras.Model, path: Path | str) -> None:
    """Saves a model as a file that plain Keras loads, without this package.

    The fast layers of `build_classifier` are saved as the Keras layers that compute the same with
    the same weights, and come back in `load_classifier`.

    Args:
        model: any Keras model.
        path: the file, which ends in `.keras`.

    Example:
        >>> save_classifier(model, "model.keras")
        >>> keras.saving.load_model("model.keras")
    """
    with_stock_layers(model).save(path)


def with_stock_layers(model: keras.Model) -> keras.Model:
    """Returns a model of the same outputs and weights without layers of this package.

    Args:
        model: any Keras model. One that is neither functional nor sequential, or has none of
            these layers, is returned itself.
    """
    return _with_layers(model, _stock_class)


def with_fast_layers(model: keras.Model) -> keras.Model:
    """Returns a model of the same outputs and weights whose layers train fast.

    Args:
        model: any Keras model. One that is neither functional nor sequential, or has nothing to
            gain, is returned itself.
    """
    return _with_layers(model, _fast_class)


def copy_layer(layer: Any, kind: type[keras.Layer] | None = None, **changes: Any) -> Any:
    """Returns another layer of the same configuration, without weights yet.

    Args:
        layer: any Keras layer.
        kind: class of the copy, which takes the same configuration; the layer's own if None.
        **changes: of the configuration, for example `use_bias=True`.

    Raises:
        CANNOT_BE_COPIED: the configuration does not say how to make another one.
    """
    return (kind or type(layer)).from_config(layer.get_config() | changes)


def _stock_class(layer: keras.Layer) -> type[keras.Layer]:
    return _STOCK.get(type(layer), type(layer))


def _fast_class(layer: keras.Layer) -> type[keras.Layer]:
    if type(layer) is keras.layers.Conv2D and layer.groups > 1:
        return GroupedConv2D
    return FASTER.get(type(layer), type(layer))


def _with_layers(
    model: keras.Model, class_of: Callable[[keras.Layer], type[keras.Layer]]
) -> keras.Model:
    """Returns a copy with other classes of layers, nested models included; itself if all stay."""
    if not _changes(model, class_of):
        return model

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _with_layers(layer, class_of)
        return copy_layer(layer, class_of(layer))

    try:
        copied = keras.models.clone_model(model, clone_function=copy)
        copied.set_weights(model.get_weights())
    except CANNOT_BE_COPIED:
        return model
    copied.name = model.name
    for layer, original in zip(copied.layers, model.layers, strict=True):
        layer.trainable = original.trainable
    return copied


def _changes(model: keras.Model, class_of: Callable[[keras.Layer], type[keras.Layer]]) -> bool:
    # Other classes of models, a user's among them, may do more than their layers do.
    if not type(model).__module__.startswith("keras.") or not getattr(model, "inputs", None):
        return False
    return any(
        _changes(layer, class_of)
        if isinstance(layer, keras.Model)
        else class_of(layer) is not type(layer)
        for layer in model.layers
    )
