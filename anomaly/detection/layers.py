"""Networks that several detectors are built from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras

from robustcls._validation import InputError

MINIMUM_SIDE = 16
#: One class of a small set is a few hundred steps; averages must have followed the data by then.
NORM_MOMENTUM = 0.9


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Lets layers be made in float32 where they say nothing else, whatever the program's policy.

    Distances to codes, patches and vectors say little in 8 bits, and scores are float32.
    """
    own = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(own)


def check_image_shape(image_shape: Any) -> tuple[int, int, int]:
    """Returns (height, width, channels) of images that `encode_image` can take.

    Raises:
        InputError: not three integers, fewer than 16 pixels a side, or not 1 or 3 channels.
    """
    try:
        height, width, channels = (int(side) for side in image_shape)
        good = (height, width, channels) == tuple(image_shape)
        good = good and min(height, width) >= MINIMUM_SIDE and channels in (1, 3)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(
            f"image_shape must be (height, width, channels) of at least {MINIMUM_SIDE} pixels a "
            f"side and 1 or 3 channels; received {image_shape!r}."
        )
    return height, width, channels


def stages(image_shape: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """Returns (filters, stride) of each 3×3 convolution of MemAE's image encoder.

    Gray images get the network for MNIST, colour images the one for CIFAR-10.

    Reference: Gong et al., 2019, "Memorizing Normality to Detect Anomaly: Memory-augmented Deep
    Autoencoder for Unsupervised Anomaly Detection", section 4.1.
    """
    if image_shape[-1] == 1:
        return (16, 2), (32, 2), (64, 3)
    return (64, 2), (128, 2), (128, 2), (256, 2)


def encode_image(
    images: Any, image_shape: tuple[int, int, int], code_size: int | None = None
) -> tuple[Any, list[Any]]:
    """Applies MemAE's image encoder.

    Args:
        images: [N, H, W, C].
        image_shape: (H, W, C).
        code_size: values of the code, by a dense layer after the convolutions; None has none.

    Returns:
        The code [N, h, w, filters], or [N, 1, 1, code_size], and the (height, width) before each
        stage and after the last.
    """
    x, sizes = images, []
    for number, (filters, stride) in enumerate(stages(image_shape), 1):
        sizes.append(tuple(x.shape[1:3]))
        name = f"encoder_{number}"
        x = keras.layers.Conv2D(filters, 3, stride, "same", use_bias=False, name=name)(x)
        x = _normalize(x, name)
    sizes.append(tuple(x.shape[1:3]))
    if code_size is not None:
        x = keras.layers.Flatten(name="encoder_flat")(x)
        x = keras.layers.Dense(code_size, use_bias=False, name="encoder_dense")(x)
        x = keras.layers.Reshape((1, 1, code_size), name="encoder_code")(x)
    return x, sizes


def decode_image(code: Any, sizes: list[Any], image_shape: tuple[int, int, int]) -> Any:
    """Applies the mirror image of `encode_image`; returns images [N, H, W, C], unbounded.

    Args:
        code: as `encode_image` gave it.
        sizes: as `encode_image` gave them.
        image_shape: (H, W, C).
    """
    chain = stages(image_shape)
    whole = (*sizes[-1], chain[-1][0])
    x = code
    if tuple(code.shape[1:]) != whole:
        x = keras.layers.Flatten(name="decoder_flat")(x)
        x = keras.layers.Dense(math.prod(whole), use_bias=False, name="decoder_dense")(x)
        x = _normalize(keras.layers.Reshape(whole, name="decoder_whole")(x), "decoder_dense")
    for index in reversed(range(len(chain))):
        filters = chain[index - 1][0] if index else image_shape[-1]
        name = f"decoder_{index + 1}"
        x = keras.layers.Conv2DTranspose(
            filters, 3, chain[index][1], "same", use_bias=index == 0, name=name
        )(x)
        x = crop(x, sizes[index], name, centered=True)
        if index:
            x = _normalize(x, name)
    return x


def crop(x: Any, size: Any, name: str, *, centered: bool = False) -> Any:
    """Cuts [N, h, w, C] to (height, width): from all sides when centred, else right and below.

    Strides round sizes up on the way in: 7 pixels are 3 after stride 3, and 9 coming back.
    """
    surplus = [have - want for have, want in zip(x.shape[1:3], size, strict=True)]
    if not any(surplus):
        return x
    before = [more // 2 if centered else 0 for more in surplus]
    edges = [(first, more - first) for first, more in zip(before, surplus, strict=True)]
    return keras.layers.Cropping2D(edges, name=f"{name}_crop")(x)


def _normalize(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
