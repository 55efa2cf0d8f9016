"""`AugmentationPolicy`: keras-cv's flip, shift and colour kernels, then noise, keyed by a seed.

keras-cv's layers draw from stateful generators, so a resumed run could not see the bits that the
uninterrupted one saw. Here every draw is stateless, and the layers' `augment_images` apply it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import tensorflow as tf

from robustcls._settings import (
    Flag,
    NonNegativeFloat,
    PositiveFloat,
    Range,
    UnitFloat,
    check_settings,
)
from robustcls._validation import InputError, nearest
from robustcls.data.noise import NOISES, as_image_batch

# Every draw has a stream of its own, so switching a part off leaves the others' draws alone.
_STREAMS = (
    "flip",
    "rows",
    "columns",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "kind",
    "strength",
    *NOISES,
)

Strength = Annotated[float, Range(above=0, maximum=1)]


@dataclass(frozen=True, kw_only=True)
class AugmentationPolicy:
    """What training images go through: flip, crop, colour jitter, then noise.

    The defaults are light: they suit 28×28 gray images and colour photos alike. Colour jitter
    (brightness, contrast, saturation, hue) is for colour images; gray ones pass it unchanged.
    A share `noise_probability` of the images gets one noise, its kind drawn evenly from those
    that are set and its strength drawn uniformly up to the one given.

    Use it in the input pipeline (`train_batches(splits, policy)`); it is never part of a model.
    Policies compare equal when their settings do.

    Attributes:
        horizontal_flip: mirrors every second image on average (bool, default True).
        crop_padding: zeros put around an image before a window of its size is cut out at random: a
            fraction of each side when below 1, pixels otherwise; 0 is off (float >= 0, default
            0.125).
        brightness: largest shift of all values (float in [0, 1], default 0.1).
        contrast: largest relative change of the distance to each channel's mean (float in [0, 1],
            default 0.1).
        saturation: largest relative change of the HSV saturation (float in [0, 1], default 0.1).
        hue: largest rotation of the HSV hue, in turns (float in [0, 0.5], default 0.02).
        noise_probability: share of images that get noise (float in [0, 1], default 0.5).
        gaussian_stddev: largest standard deviation; None is off, as below (float in (0, 1] or None,
            default 0.1).
        poisson_photons: fewest photons. Strength is 1/√photons here (float > 0 or None, default
            50.0).
        salt_and_pepper_amount: largest share of values replaced (float in (0, 1] or None, default
            0.07).
        speckle_stddev: largest relative standard deviation (float in (0, 1] or None, default None).

    Raises:
        InputError: a setting out of range.

    Example:
        >>> import numpy as np
        >>> policy = AugmentationPolicy(poisson_photons=30, crop_padding=4)
        >>> policy(np.zeros((2, 32, 32, 3), "float32"), seed=(0, 0)).shape
        TensorShape([2, 32, 32, 3])
    """

    horizontal_flip: Flag = True
    crop_padding: NonNegativeFloat = 0.125
    brightness: UnitFloat = 0.1
    contrast: UnitFloat = 0.1
    saturation: UnitFloat = 0.1
    hue: Annotated[float, Range(minimum=0, maximum=0.5)] = 0.02
    noise_probability: UnitFloat = 0.5
    gaussian_stddev: Strength | None = 0.1
    poisson_photons: PositiveFloat | None = 50.0
    salt_and_pepper_amount: Strength | None = 0.07
    speckle_stddev: Strength | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if self.crop_padding >= 1 and self.crop_padding != int(self.crop_padding):
            raise InputError(
                "crop_padding must be a fraction below 1 or a whole number of pixels; "
                f"received {self.crop_padding!r}."
            )

    @classmethod
    def none(cls) -> AugmentationPolicy:
        """Returns the policy that changes nothing, to switch single parts on from."""
        return cls(
            horizontal_flip=False,
            crop_padding=0,
            brightness=0,
            contrast=0,
            saturation=0,
            hue=0,
            noise_probability=0,
        )

    def __call__(self, images: Any, *, seed: Any) -> tf.Tensor:
        """Augments a batch; the same images and seed give the same bits in every process.

        Args:
            images: float32 [N, H, W, C] in [0, 1], C is 1 or 3; a tensor or an array.
            seed: int32 or int64 [2].

        Returns:
            float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: images of another dtype, rank or number of channels.
        """
        images = as_image_batch(images)
        channels = images.shape[-1] if images.shape.rank else None
        if channels not in (1, 3):
            raise InputError(f"images must have 1 or 3 channels; received shape {images.shape}.")
        # Keys have their seed's type, and other bits with it.
        seed = tf.cast(seed, tf.int64)
        keys = dict(
            zip(
                _STREAMS,
                tf.unstack(tf.random.split(seed, len(_STREAMS), alg="philox")),
                strict=True,
            )
        )
        if self.crop_padding:
            images = _crop(images, self.crop_padding, keys)
        draws = self._draw(tf.shape(images)[0], keys, colour=channels == 3)
        for name, transformation in draws.items():
            images = _transform(name, images, transformation)
        return self._add_noise(images, keys)

    @property
    def noises(self) -> dict[str, float]:
        """The strongest setting of each noise that images can get, by the noise's name."""
        strongest = {
            "gaussian": self.gaussian_stddev,
            "poisson": self.poisson_photons,
            "salt_and_pepper": self.salt_and_pepper_amount,
            "speckle": self.speckle_stddev,
        }
        if not self.noise_probability:
            return {}
        return {name: limit for name, limit in strongest.items() if limit is not None}

    def get_config(self) -> dict[str, Any]:
        """Returns the settings by name, in types that JSON and YAML hold."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AugmentationPolicy:
        """Returns the policy with these settings; those left out take their defaults.

        Args:
            config: settings by name, such as `get_config` returns.

        Raises:
            InputError: an unknown or out-of-range setting.
        """
        known = [field.name for field in fields(cls)]
        for name in config:
            if name not in known:
                raise InputError(
                    f"augmentation settings must be among {', '.join(known)}; received {name!r}."
                    + nearest(name, known)
                )
        return cls(**config)

    def _draw(
        self, count: tf.Tensor, keys: Mapping[str, tf.Tensor], colour: bool
    ) -> dict[str, Any]:
        """Draws what each layer's `augment_images` takes, in the order they are to be applied."""
        transformations: dict[str, Any] = {}

        def draw(name: str) -> tf.Tensor:
            """Uniform [N] in ± the setting `name`."""
            bound = getattr(self, name)
            return _uniform(keys[name], count, -bound, bound)

        if self.horizontal_flip:
            chance = _uniform(keys["flip"], count, 0, 1)[:, None]
            transformations["flip"] = {
                "flip_horizontals": chance,
                "flip_verticals": tf.zeros_like(chance),
            }
        if colour and self.brightness:
            transformations["brightness"] = draw("brightness")[:, None, None, None]
        if colour and self.contrast:
            transformations["contrast"] = 1 + draw("contrast")[:, None, None, None]
        if colour and self.saturation:
            factor = 1 + draw("saturation")
            # keras-cv's parameter t stands for the factor t / (1 - t).
            transformations["saturation"] = factor / (1 + factor)
        if colour and self.hue:
            transformations["hue"] = draw("hue")
        return transformations

    def _add_noise(self, images: tf.Tensor, keys: Mapping[str, tf.Tensor]) -> tf.Tensor:
        kinds = self.noises
        if not kinds:
            return images
        count = tf.shape(images)[0]
        # Images whose draw is at or above len(kinds) stay clean.
        kind = _uniform(keys["kind"], count, 0, len(kinds) / self.noise_probability)
        share = _uniform(keys["strength"], count, 0.01, 1)
        for number, (name, limit) in enumerate(kinds.items()):
            # Only the images concerned are drawn for: Poisson costs more than all the rest.
            rows = tf.where((kind >= number) & (kind < number + 1))
            chosen = tf.gather_nd(share, rows)
            strength = limit / chosen**2 if name == "poisson" else limit * chosen
            noisy = NOISES[name](tf.gather_nd(images, rows), strength, keys[name])
            images = tf.tensor_scatter_nd_update(images, rows, noisy)
        return images


def _uniform(key: tf.Tensor, count: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.random.stateless_uniform([count], key, low, high, alg="philox")


# XLA makes one pass of a layer's many: a fifth of the time. Layers stay apart, since XLA would
# compute the one's output anew for every value that the next reads.
@tf.function(jit_compile=True)
def _transform(name: str, images: tf.Tensor, transformation: Any) -> tf.Tensor:
    return _layers()[name].augment_images(images, transformation)


def _crop(images: tf.Tensor, padding: float, keys: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Pads with zeros and cuts a window of the same size, which is to shift by whole pixels.

    keras-cv's `RandomCrop` resamples on a grid a little too wide, so that a third of its windows
    skip a row or a column; its translation by whole pixels is exact.
    """
    shape = tf.shape(images)
    translations = {}
    for name, stream, size in (
        ("height_translations", "rows", tf.cast(shape[1], tf.float32)),
        ("width_translations", "columns", tf.cast(shape[2], tf.float32)),
    ):
        bound = tf.minimum(tf.round(padding * size) if padding < 1 else float(padding), size)
        limit = tf.cast(bound, tf.int32)
        pixels = tf.random.stateless_uniform(
            [shape[0], 1], keys[stream], -limit, limit + 1, tf.int32, alg="philox"
        )
        translations[name] = tf.cast(pixels, tf.float32) / size
    return _layers()["translation"].augment_images(images, translations)


@functools.cache
def _layers() -> dict[str, Any]:
    """The keras-cv layers; imported and made on first use, outside any graph being traced.

    Their own ranges and generators are never used: `augment_images` gets our draws. The seed only
    keeps them from creating TensorFlow's global generator.
    """
    import keras_cv

    unit = (0, 1)
    with tf.init_scope():
        return {
            "flip": keras_cv.layers.RandomFlip(seed=1),
            "translation": keras_cv.layers.RandomTranslation(
                0, 0, fill_mode="constant", interpolation="nearest", seed=1
            ),
            "brightness": keras_cv.layers.RandomBrightness(0, value_range=unit, seed=1),
            "contrast": keras_cv.layers.RandomContrast(value_range=unit, factor=0, seed=1),
            "saturation": keras_cv.layers.RandomSaturation(0.5, seed=1),
            "hue": keras_cv.layers.RandomHue(0, value_range=unit, seed=1),
        }
