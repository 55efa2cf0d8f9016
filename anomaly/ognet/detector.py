"""`OGNet`: a discriminator that learned good from bad reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import keras
import tensorflow as tf

from anomaly.detection.reconstruction import ReconstructionDetector
from anomaly.detection.training import Training
from anomaly.ognet.networks import (
    ARCHITECTURES,
    MINIMUM_SIDE,
    build_discriminator,
    build_generator,
    code_layer,
)
from anomaly.ognet.phases import PhaseOne, PhaseTwo, signed
from robustcls._settings import (
    Choice,
    Flag,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    UnitFloat,
)
from robustcls._validation import InputError
from robustcls.models.reproducible import finish

PSEUDO_ANOMALIES = ("pieces", "means")
PRECISIONS = ("float32", "mixed_bfloat16")
_CHECK_EVERY = 25
#: What the paper and its authors' code have, where the defaults differ.
_PAPER: Mapping[str, Any] = {
    "architecture": "paper",
    "width": 1.0,
    "discriminator_width": 1.0,
    "old_epochs": 1,
    "adversarial_weight": 0.5,
    "pseudo_anomalies": "means",
    "iterations": 75,
    "averaging": 0.0,
    "phase_two_rate": 5e-5,
    "phase_two_decay": False,
}


@dataclass(kw_only=True, eq=False)
class OGNet(ReconstructionDetector):
    """Old is Gold, scored by -log(1 - D(G(x))).

    Phase one trains a denoising autoencoder G against a discriminator D. A copy of G from its
    beginning, G_old, reconstructs badly. Phase two freezes both and teaches D alone to tell good
    reconstructions (images, G(x)) from bad ones (G_old(x), and pseudo-anomalies put through G).

    The paper's pseudo-anomalies are means of two different images' bad reconstructions
    (`pseudo_anomalies="means"`). On development images of digits 3 and 8 these gave AUROCs of 57
    and 78 % (100 steps, the paper's rate), images pieced together, bent and overlaid 97 and 95 %.

    Nothing is chosen by labels: both phases have fixed lengths, and the rate of phase two falls to
    zero. The defaults, networks included, are not the paper's. They were developed on training
    images alone: held-out images of digits 0, 1, 3 and 8 against training images of the other
    digits. With so small an adversarial weight phase one trains little more than G, so phase one's
    own score says little.

    `OGNet.paper` has the networks and the settings of the paper and its authors' code. The score
    rises with D(G(x)), which in float32 would round to 1 for many images.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 20, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images in phase one; None is 2, more where images are few
            (int >= 2 or None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        old_epochs: epochs of phase one after which G_old is copied, fewer than `epochs`; None
            is half of them (int >= 1 or None, default None).
        iterations: steps of phase two, in whole checks of 25 (or of an epoch, if that has fewer)
            (int >= 0, default 900); 0 leaves phase two out.
        architecture: "tuned", or "paper" for the authors' layers and for their batch norm in phase
            two, over each kind of images alone ("tuned" or "paper", default "tuned"); see
            `anomaly.ognet.networks`.
        width: multiplies the generator's filters (float > 0, default 0.0625); 1 is the paper's.
        discriminator_width: the same for the discriminator (float > 0, default 0.25).
        precision: "float32", or "mixed_bfloat16": both networks compute in bfloat16 with weights in
            float32, for widths near 1 on processors that have it ("float32" or "mixed_bfloat16",
            default "float32").
        noise: standard deviation of the input's noise in phase one, for images in [-1, 1] (float >=
            0, default 0.81).
        adversarial_weight: in G's loss (float in [0, 1], default 0.001); the reconstruction has the
            rest.
        pseudo_anomalies: "pieces" (see `anomaly.ognet.pieces.join_pieces`) or "means" ("pieces"
            or "means", default "pieces").
        old_weight: of G_old(x) among bad reconstructions (float in [0, 1], default 0.001); the
            pseudo-anomalies have the rest.
        image_weight: of the images among good ones (float in [0, 1], default 0.1); G(x) has the
            rest.
        averaging: what D's running average in phase two keeps of itself at a step (float in [0, 1],
            default 0.995); 0 leaves D as the last step made it.
        learning_rate: of Adam for G (float > 0, default 1e-3).
        discriminator_rate: of Adam for D in phase one (float > 0, default 1e-4).
        phase_two_rate: of Adam for D in phase two (float > 0, default 1e-3).
        phase_two_decay: whether that rate falls to zero over phase two, by a cosine, or is constant
            (bool, default True).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Example:
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = OGNet(image_shape=(28, 28, 1), epochs=2, width=0.0625)
        >>> detector.fit(images, verbose=0).score(images).shape
        (128,)

    Reference: Zaheer et al., 2020, "Old is Gold: Redefining the Adversarially Learned One-Class
    Classifier Training Paradigm", section 3; the layers are those of the authors' code.
    """

    method: ClassVar[str] = "ognet"

    usual: ClassVar[Mapping[str, int]] = {"epochs": 2}

    epochs: Annotated[int, Range(minimum=2)] | None = None
    old_epochs: PositiveInt | None = None
    iterations: NonNegativeInt = 900
    architecture: Annotated[str, Choice(ARCHITECTURES)] = "tuned"
    width: PositiveFloat = 0.0625
    discriminator_width: PositiveFloat = 0.25
    precision: Annotated[str, Choice(PRECISIONS)] = "float32"
    noise: NonNegativeFloat = 0.81
    adversarial_weight: UnitFloat = 0.001
    pseudo_anomalies: Annotated[str, Choice(PSEUDO_ANOMALIES)] = "pieces"
    old_weight: UnitFloat = 0.001
    image_weight: UnitFloat = 0.1
    averaging: UnitFloat = 0.995
    learning_rate: PositiveFloat = 1e-3
    discriminator_rate: PositiveFloat = 1e-4
    phase_two_rate: PositiveFloat = 1e-3
    phase_two_decay: Flag = True

    @classmethod
    def paper(cls, *, image_shape: tuple[int, int, int], **settings: Any) -> OGNet:
        """Returns the paper's detector, unfitted: the authors' networks, losses and rates.

        Both networks at width 1, `architecture="paper"`, a G_old after one epoch, equal weights of
        reconstruction and adversary in phase one, means of two images as pseudo-anomalies, 75 steps
        at a constant rate of 5e-5 in phase two, and no average of D. Initial weights are drawn as
        Keras does it, which PyTorch does otherwise.

        How long phase one trains is left to `epochs`: the authors say that less than 10 suffice on
        MNIST. Their code picked the epoch by its AUROC on test images, which nothing here does.

        Args:
            image_shape: (height, width, channels) of the images, sides ≥ 20, channels 1 or 3; the
                authors' images are (45, 45, 1).
            **settings: of the class, in place of the paper's.

        Raises:
            InputError: an unknown setting, or one out of range.
        """
        return cls.from_config({"image_shape": image_shape, **_PAPER, **settings})

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.image_shape[:2]) < MINIMUM_SIDE:
            raise InputError(
                f"image_shape must be of at least {MINIMUM_SIDE} pixels a side for ognet; "
                f"received {self.image_shape!r}."
            )
        self._check_epochs()

    def choose(self, count: int, kept: Mapping[str, Any] | None = None) -> str:
        words = super().choose(count, kept)
        self._check_epochs()
        return words

    def sensible(self, count: int) -> dict[str, int]:
        """Returns also `old_epochs`.

        Args:
            count: normal images to train on.
        """
        found = super().sensible(count)
        return {**found, "old_epochs": max(1, (self.epochs or found["epochs"]) // 2)}

    def _check_epochs(self) -> None:
        if self.epochs and self.old_epochs and self.old_epochs >= self.epochs:
            raise InputError(
                f"old_epochs must be below epochs, {self.epochs}; received {self.old_epochs}."
            )

    def build(self) -> dict[str, keras.Model]:
        generator = build_generator(self.image_shape, self.width, self.precision, self.architecture)
        discriminator = build_discriminator(
            self.image_shape, self.discriminator_width, self.precision, self.architecture
        )
        return {
            "generator": finish(generator, self.seed),
            "discriminator": finish(discriminator, self.seed),
        }

    def train(self, training: Training) -> None:
        generator, discriminator = self.networks["generator"], self.networks["discriminator"]
        first = PhaseOne(generator, discriminator, self.noise, self.adversarial_weight, self.seed)
        first.compile(
            keras.optimizers.Adam(self.learning_rate),
            keras.optimizers.Adam(self.discriminator_rate),
        )
        first_epochs = int(self.old_epochs or 0)
        self.run_stage(training, "1_old", first, first_epochs)
        old = keras.models.clone_model(generator)
        old.set_weights(generator.get_weights())
        self.run_stage(training, "2_generator", first, int(self.epochs or 0) - first_epochs)
        if not self.iterations:
            return
        second = PhaseTwo(
            generator,
            old,
            discriminator,
            self.old_weight,
            self.image_weight,
            self.pseudo_anomalies,
            self.averaging,
            self.seed,
            apart=self.architecture == "paper",
        )
        steps = min(_CHECK_EVERY, len(training.images) // int(self.batch_size or 1))
        epochs = -(-self.iterations // steps)
        rate: Any = self.phase_two_rate
        if self.phase_two_decay:
            # To zero, so that the last step is as good a place to stop as any.
            rate = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
        second.compile(keras.optimizers.Adam(rate))
        self.run_stage(training, "3_discriminator", second, epochs, steps)

    def _generate(self, images: tf.Tensor) -> tf.Tensor:
        return self.networks["generator"](signed(images), training=False)

    def reconstruct_batch(self, images: tf.Tensor) -> tf.Tensor:
        return (self._generate(images) + 1) / 2

    def score_batch(self, images: tf.Tensor) -> tf.Tensor:
        logits = self.networks["discriminator"](self._generate(images), training=False)
        return tf.nn.softplus(logits)

    def encode_batch(self, images: tf.Tensor) -> tf.Tensor:
        generator = self.networks["generator"]
        last = generator.get_layer(code_layer(self.architecture)).output
        features = keras.Model(generator.input, last)(signed(images), training=False)
        return tf.reduce_mean(tf.cast(features, tf.float32), [1, 2])
