"""Copies of the layers of a graph, for whoever makes another graph of the same layers."""

from __future__ import annotations

from typing import Any

import keras

#: What layers raise that cannot be copied: their configuration does not say how to make another one
#: like it, or the copy is called otherwise or has other weights.
CANNOT_BE_COPIED = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError)


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
