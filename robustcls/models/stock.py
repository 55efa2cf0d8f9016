"""Files of models: they hold stock Keras layers; the fast ones come back when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from robustcls.models.grouped_convolution import GroupedConv2D
from robustcls.models.reproducible import FASTER

#: What layers raise that cannot be copied: their configuration does not say how to make another one
#: like it, or the copy is called otherwise or has other weights.
CANNOT_BE_COPIED = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError)
#: Layers that have a method of this name are saved as what it returns: symbolic outputs of stock
#: layers and operations, given symbolic inputs.
IN_STOCK_LAYERS = "in_stock_layers"
_STOCK = {fast: stock for stock, fast in FASTER.items()} | {GroupedConv2D: keras.layers.Conv2D}


def save_classifier(model: keras.Model, path: Path | str) -> None:
    """Saves a model as a file that plain Keras loads, without this package.

    The fast layers of `build_classifier` are saved as the Keras layers that compute the same with
    the same weights, and come back in `load_classifier`. Those of detectors' networks are saved as
    several Keras layers and operations.

    Args:
        model: any Keras model, a detector's network for example.
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


def weighted(layer: keras.Layer, inputs: Any, *weights: Any) -> Any:
    """Returns what a new layer makes of its first inputs, after it got its weights.

    Args:
        layer: a layer that has no weights yet.
        inputs: symbolic tensors.
        *weights: arrays, in the layer's order.
    """
    outputs = layer(inputs)
    layer.set_weights([np.asarray(weight) for weight in weights])
    return outputs


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


def shift(inputs: Any, offset: np.ndarray, name: str, dtype: Any) -> Any:
    """Returns inputs [..., D] plus an offset [D], which a stock layer holds as a weight.

    Args:
        inputs: symbolic [..., D].
        offset: float [D].
        name: of the layer.
        dtype: its policy.
    """
    layer = keras.layers.EinsumDense(
        "...d,d->...d", offset.shape, bias_axes="d", trainable=False, dtype=dtype, name=name
    )
    return weighted(layer, inputs, np.ones_like(offset), offset)


def parts_of_weights(path: Path | str) -> set[str]:
    """Returns the names of the first level of a file of weights; none where it is no HDF5 file.

    Args:
        path: of the file.
    """
    if not (Path(path).is_file() and h5py.is_hdf5(path)):
        return set()
    with h5py.File(path) as file:
        return set(file)


def _stock_class(layer: keras.Layer) -> type[keras.Layer] | None:
    """Returns the class of a layer's copy; None where the layer is replaced by several."""
    if hasattr(layer, IN_STOCK_LAYERS):
        return None
    return _STOCK.get(type(layer), type(layer))


def _fast_class(layer: keras.Layer) -> type[keras.Layer]:
    if type(layer) is keras.layers.Conv2D and layer.groups > 1:
        return GroupedConv2D
    return FASTER.get(type(layer), type(layer))


def _with_layers(
    model: keras.Model, class_of: Callable[[keras.Layer], type[keras.Layer] | None]
) -> keras.Model:
    """Returns a copy with other classes of layers, nested models included; itself if all stay."""
    if not _changes(model, class_of):
        return model

    copies: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        kind = class_of(layer)
        if kind is None:
            return layer
        nested = isinstance(layer, keras.Model)
        copies.append((layer, _with_layers(layer, class_of) if nested else copy_layer(layer, kind)))
        return copies[-1][1]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if class_of(layer) is None:
            return getattr(layer, IN_STOCK_LAYERS)(*args)
        return layer(*args, **kwargs)

    several = not isinstance(model, keras.Sequential)
    try:
        copied = keras.models.clone_model(
            model, clone_function=copy, call_function=call if several else None
        )
        for layer, again in copies:
            if isinstance(layer, keras.Layer):
                again.trainable = layer.trainable
                if not isinstance(layer, keras.Model):
                    again.set_weights(layer.get_weights())
    except CANNOT_BE_COPIED:
        return model
    copied.name = model.name
    return copied


def _changes(
    model: keras.Model, class_of: Callable[[keras.Layer], type[keras.Layer] | None]
) -> bool:
    # Other classes of models, a user's among them, may do more than their layers do.
    if not type(model).__module__.startswith("keras.") or not getattr(model, "inputs", None):
        return False
    return any(
        _changes(layer, class_of)
        if isinstance(layer, keras.Model)
        else class_of(layer) is not type(layer)
        for layer in model.layers
    )
