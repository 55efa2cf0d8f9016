"""Which layer a class activation map is drawn from."""

from __future__ import annotations

import keras
from keras import layers

from robustcls._validation import InputError, nearest

# Below that many pixels a side a map only says "somewhere".
SMALLEST_SIDE = 4
_CONVOLUTIONS = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
)
_PADDING = (layers.ZeroPadding2D, layers.Cropping2D)


def choose_layer(network: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Returns the layer whose feature map a class activation map weighs.

    Args:
        network: a flat graph.
        name: of a layer with a feature map [N, h, w, channels]; None takes the last one of at
            least 4x4, or the last of those that have the most pixels when all are smaller.

    Raises:
        InputError: there is no convolution, no such layer, or it has no feature map; or none is
            named and what the network learns goes on in another form behind its last feature map,
            as in a vision transformer, whose only one is that of the patches.
    """
    maps = feature_maps(network)
    if not maps:
        raise InputError(
            f"model must have a convolution for class activation maps; '{network.name}' has "
            "none. Did you mean methods=['gradients']?"
        )
    if name is None:
        _require_end(network, maps)
        side = min(SMALLEST_SIDE, max(min(layer.output.shape[1:3]) for layer in maps))
        return next(layer for layer in reversed(maps) if min(layer.output.shape[1:3]) >= side)
    known = [layer.name for layer in network.layers]
    if name not in known:
        raise InputError(
            f"layer must be a layer of the model; received {name!r}.{_near(name, known)}"
        )
    layer = network.get_layer(name)
    if layer not in maps:
        names = [layer.name for layer in maps]
        raise InputError(
            f"layer must be a convolution, or come after one, and have a feature map "
            f"[N, h, w, channels]; '{name}' has not.{_near(name, names)}"
        )
    return layer


def feature_maps(network: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers with a known spatial output, from the first convolution on."""
    found: list[keras.layers.Layer] = []
    for layer in network.layers:
        if not found and not isinstance(layer, _CONVOLUTIONS):
            continue
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and None not in shape[1:] and not isinstance(layer, _PADDING):
            found.append(layer)
    return found


def _require_end(network: keras.Model, maps: list[keras.layers.Layer]) -> None:
    """Refuses to choose a layer of a network that goes on with tokens or sequences."""
    order = list(network.layers)
    for layer in order[order.index(maps[-1]) + 1 :]:
        if layer.weights and len(getattr(layer.output, "shape", ())) == 3:
            raise InputError(
                f"layer must be named for '{network.name}': behind its last feature map, "
                f"'{maps[-1].name}', it goes on with tokens ('{layer.name}'), which no class "
                f"activation map sees. Did you mean layer='{maps[-1].name}' or "
                "methods=['gradients']?"
            )


def _near(name: str, known: list[str]) -> str:
    return nearest(name, known) or f" Near the end are {', '.join(known[-4:])}."
