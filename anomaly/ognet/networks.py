"""The networks of OGNet, with its authors' layers or tuned ones."""

from __future__ import annotations

from typing import Any

import keras

from anomaly.detection.layers import NORM_MOMENTUM

#: Filters of the generator's encoder and of the discriminator at width 1.
FILTERS = (64, 128, 256, 512)
ARCHITECTURES = ("tuned", "paper")
#: Four valid 5×5 convolutions take 16 pixels.
MINIMUM_SIDE = 20
_EPSILONS = {"tuned": 1e-3, "paper": 1e-5}


def build_generator(
    image_shape: tuple[int, int, int],
    width: float,
    precision: str = "float32",
    architecture: str = "tuned",
) -> keras.Model:
    """Returns the denoising autoencoder, [N, H, W, C] in [-1, 1] to the same in float32.

    Four valid 5×5 convolutions and four transposed ones, the last followed by tanh, the others by
    batch norm and ReLU. In the authors' code the encoder's third and fourth have the ReLU before
    the batch norm, whose epsilon is 1e-5 (1e-3 in the tuned network), and all have biases (in the
    tuned network the last alone).

    Args:
        image_shape: (height, width, channels), at least 20 pixels a side.
        width: multiplies the filters.
        precision: what the layers compute in (str, default "float32").
        architecture: "tuned" or "paper" (default "tuned").
    """
    paper = architecture == "paper"
    filters = [max(1, round(width * count)) for count in FILTERS]
    settings = {"use_bias": paper, "dtype": precision}
    images = keras.Input(image_shape, dtype="float32", name="images")
    x = images
    for number, count in enumerate(filters, 1):
        name = f"encoder_{number}"
        x = keras.layers.Conv2D(count, 5, name=name, **settings)(x)
        if paper and number > 2:
            x = _normalize(_activate(x, name, precision), name, precision, architecture)
        else:
            x = _activate(_normalize(x, name, precision, architecture), name, precision)
    for number, count in zip((4, 3, 2), reversed(filters[:-1]), strict=True):
        name = f"decoder_{number}"
        x = keras.layers.Conv2DTranspose(count, 5, name=name, **settings)(x)
        x = _activate(_normalize(x, name, precision, architecture), name, precision)
    x = keras.layers.Conv2DTranspose(image_shape[-1], 5, dtype=precision, name="decoder_1")(x)
    return keras.Model(images, keras.layers.Activation("tanh", dtype="float32", name="tanh")(x))


def build_discriminator(
    image_shape: tuple[int, int, int],
    width: float,
    precision: str = "float32",
    architecture: str = "tuned",
) -> keras.Model:
    """Returns the discriminator, [N, H, W, C] in [-1, 1] to float32 logits [N]; high means bad.

    Four 5×5 convolutions of stride 2 and a dense layer. In the authors' code the first three have
    batch norm (epsilon 1e-5) and ReLU, the fourth ReLU alone; all are padded by two pixels on every
    side and have biases. In the tuned network the first three have batch norm alone (epsilon 1e-3),
    without ReLU or bias (a leaky ReLU there was no better, see `benchmarks/one_class.md`), and
    Keras' "same" padding, which has less above and left where a side is even.

    Args:
        image_shape: (height, width, channels), at least 20 pixels a side.
        width: multiplies the filters.
        precision: what the layers compute in (str, default "float32").
        architecture: "tuned" or "paper" (default "tuned").
    """
    paper = architecture == "paper"
    images = keras.Input(image_shape, dtype="float32", name="images")
    x = images
    for number, count in enumerate(FILTERS, 1):
        name, last = f"discriminator_{number}", number == len(FILTERS)
        filters, padding = max(1, round(width * count)), "valid" if paper else "same"
        if paper:
            x = keras.layers.ZeroPadding2D(2, dtype=precision, name=f"{name}_padding")(x)
        x = keras.layers.Conv2D(
            filters, 5, 2, padding, use_bias=paper or last, dtype=precision, name=name
        )(x)
        if not last:
            x = _normalize(x, name, precision, architecture)
        if paper or last:
            x = _activate(x, name, precision)
    x = keras.layers.Flatten(dtype=precision, name="flatten")(x)
    # Not in bfloat16, whose 8 bits would give many images the same score.
    logits = keras.layers.Dense(1, dtype="float32", name="logits")(x)
    return keras.Model(images, keras.layers.Reshape((), name="squeeze")(logits))


def code_layer(architecture: str) -> str:
    """Returns the name of the generator's layer whose output is its code.

    Args:
        architecture: "tuned" or "paper".
    """
    return f"encoder_{len(FILTERS)}_{'norm' if architecture == 'paper' else 'relu'}"


def _normalize(x: Any, name: str, precision: str, architecture: str) -> Any:
    return keras.layers.BatchNormalization(
        momentum=NORM_MOMENTUM,
        epsilon=_EPSILONS[architecture],
        dtype=precision,
        name=f"{name}_norm",
    )(x)


def _activate(x: Any, name: str, precision: str) -> Any:
    return keras.layers.ReLU(dtype=precision, name=f"{name}_relu")(x)
