"""`EBGAN`: an autoencoder whose energy a generator raised wherever no normal image is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import keras
import tensorflow as tf

from anomaly.detection.layers import NORM_MOMENTUM, crop
from anomaly.detection.reconstruction import ReconstructionDetector
from anomaly.detection.training import Training
from anomaly.ebgan.training import Energy, EnergyGAN, Unlearning
from robustcls._settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    checked,
)
from robustcls.models.reproducible import finish

_FILTERS = (32, 64, 128)

Detector = TypeVar("Detector", bound="EBGAN")


@dataclass(kw_only=True, eq=False)
class EBGAN(ReconstructionDetector):
    """Energy-based GAN, scored by the reconstruction error of its discriminator.

    The discriminator is an autoencoder; its energy D(x) is the mean squared error for images in
    [-1, 1]. It learns D(x) + [margin - D(G(z))]⁺, the generator D(G(z)) plus `pulling_weight`
    times the pulling-away term of its images' codes.

    `unlearn`, and `anomalies` in `fit`, raise the energy of known anomalies to the margin.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images in the adversarial training; None is 10, more where
            images are few (int >= 1 or None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        pretraining_epochs: passes before it, of the discriminator as a plain autoencoder; None is
            5, more where images are few (int >= 0 or None, default None).
        unlearning_epochs: passes after it, when `fit` gets anomalies; None is 5, more where
            images are few (int >= 1 or None, default None).
        margin: energy that generated images and known anomalies are raised to (float > 0 or None,
            default None); None is max(1, batch_size / 64).
        pulling_weight: of the pulling-away term (float >= 0, default 0.1).
        noise_size: dimensions of z (int >= 1, default 64).
        learning_rate: of both Adams, with β₁ = 0.5 (float > 0, default 2e-4).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = EBGAN(image_shape=(28, 28, 1), epochs=1, pretraining_epochs=0)
        >>> detector.fit(images, verbose=0).score(images).shape
        (128,)

    Reference: Zhao et al., 2017, "Energy-based Generative Adversarial Network", sections 2.1
    to 2.4.
    """

    method: ClassVar[str] = "ebgan"
    takes_anomalies: ClassVar[bool] = True

    usual: ClassVar[Mapping[str, int]] = {
        "epochs": 10,
        "pretraining_epochs": 5,
        "unlearning_epochs": 5,
    }

    pretraining_epochs: NonNegativeInt | None = None
    unlearning_epochs: PositiveInt | None = None
    margin: PositiveFloat | None = None
    pulling_weight: NonNegativeFloat = 0.1
    noise_size: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin is None:
            self.margin = max(1.0, (self.batch_size or 64) / 64)

    @checked
    def unlearn(
        self: Detector,
        anomalies: Any,
        normal_images: Any,
        *,
        validation: Any = None,
        epochs: PositiveInt | None = None,
        verbose: int = 1,
    ) -> Detector:
        """Raises the energy of confirmed anomalies to the margin and keeps that of normal images.

        Args:
            anomalies: float32 [K, H, W, C] in [0, 1], K ≥ 1.
            normal_images: float32 [N, H, W, C] in [0, 1], to be kept low.
            validation: float32 [M, H, W, C] in [0, 1], normal images that are not among
                `normal_images`, to take the thresholds from anew; when left out, a tenth of
                `normal_images` (default None).
            epochs: passes over the normal images; None is `unlearning_epochs` (int >= 1 or None,
                default None).
            verbose: 1 shows Keras' progress bars, 2 a line an epoch, 0 nothing (int, default 1).

        Raises:
            InputError: unusable images, fewer than a batch, anomalies that are among the normal
                images, or no `fit` yet.
        """
        self.require_fitted("unlearn")
        anomalies = self._check(anomalies, "anomalies")
        images, held_out, _ = self.check_fit(
            normal_images, anomalies=anomalies, validation=validation
        )
        epochs = int(self.unlearning_epochs or 0) if epochs is None else epochs
        training = Training(
            images=images, validation=held_out, anomalies=anomalies, verbose=verbose
        )
        self._train_unlearning(training, epochs)
        return self.calibrate(held_out)

    def build(self) -> dict[str, keras.Model]:
        return {"discriminator": finish(build_autoencoder(self.image_shape), self.seed)}

    def train(self, training: Training) -> None:
        discriminator = self.networks["discriminator"]
        if self.pretraining_epochs:
            first = Energy(discriminator)
            first.compile(self._optimizer())
            self.run_stage(training, "1_autoencoder", first, self.pretraining_epochs)
        generator = finish(build_generator(self.image_shape, self.noise_size), self.seed)
        model = EnergyGAN(
            discriminator, generator, float(self.margin or 0), self.pulling_weight, self.seed
        )
        model.compile(self._optimizer(), self._optimizer())
        self.run_stage(training, "2_ebgan", model, int(self.epochs or 0))
        if training.anomalies is not None:
            self._train_unlearning(training, int(self.unlearning_epochs or 0))

    def _train_unlearning(self, training: Training, epochs: int) -> None:
        discriminator = self.networks["discriminator"]
        model = Unlearning(discriminator, training.anomalies, float(self.margin or 0), self.seed)
        model.compile(self._optimizer())
        self.run_stage(training, "3_unlearning", model, epochs)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.learning_rate, beta_1=0.5)

    def reconstruct_batch(self, images: tf.Tensor) -> tf.Tensor:
        outputs = self.networks["discriminator"](2 * images - 1, training=False)
        return (outputs["reconstruction"] + 1) / 2

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        return self.networks["discriminator"](2 * images - 1, training=False)["code"]


def build_autoencoder(image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns the discriminator: [N, H, W, C] in [-1, 1] to `reconstruction` and `code` [N, D].

    Args:
        image_shape: (height, width, channels).
    """
    images = keras.Input(image_shape, dtype="float32", name="images")
    x, sizes = images, []
    for number, filters in enumerate(_FILTERS, 1):
        sizes.append(x.shape[1:3])
        name, first = f"encoder_{number}", number == 1
        x = keras.layers.Conv2D(filters, 4, 2, "same", use_bias=first, name=name)(x)
        x = x if first else _normalize(x, name)
        x = keras.layers.LeakyReLU(negative_slope=0.2, name=f"{name}_relu")(x)
    code = keras.layers.Flatten(name="code")(x)
    outputs = {"reconstruction": _decode(x, sizes, image_shape[-1], 0.2), "code": code}
    return keras.Model(images, outputs)


def build_generator(image_shape: tuple[int, int, int], noise_size: int) -> keras.Model:
    """Returns the generator: z [N, noise_size] to images [N, H, W, C] in [-1, 1].

    Args:
        image_shape: (height, width, channels).
        noise_size: dimensions of z.
    """
    sizes = [image_shape[:2]]
    for _ in _FILTERS:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    height, width = sizes.pop()
    noise = keras.Input((noise_size,), dtype="float32", name="noise")
    x = keras.layers.Dense(height * width * _FILTERS[-1], use_bias=False, name="dense")(noise)
    x = keras.layers.Reshape((height, width, _FILTERS[-1]), name="reshape")(x)
    x = keras.layers.ReLU(name="relu")(_normalize(x, "dense"))
    return keras.Model(noise, _decode(x, sizes, image_shape[-1], 0.0))


def _decode(x: Any, sizes: Any, channels: int, slope: float) -> Any:
    for number in reversed(range(len(sizes))):
        filters, name = (_FILTERS[number - 1] if number else channels), f"decoder_{number + 1}"
        x = keras.layers.Conv2DTranspose(
            filters,
            4,
            2,
            "same",
            use_bias=number == 0,
            activation=None if number else "tanh",
            name=name,
        )(x)
        x = crop(x, sizes[number], name)
        if number:
            x = keras.layers.LeakyReLU(negative_slope=slope, name=f"{name}_relu")(
                _normalize(x, name)
            )
    return x


def _normalize(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
