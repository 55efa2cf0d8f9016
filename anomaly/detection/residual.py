"""`ResidualDetector`: autoencoders of images that are scored by what they cannot give back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anomaly.detection.contrast import ContrastDetector
from anomaly.detection.neighbors import NeighborDistance
from anomaly.detection.reconstruction import (
    Reconstruction,
    ReconstructionDetector,
    root_mean_square,
    split_noise,
)
from anomaly.detection.training import Training
from robustcls._settings import Flag, NonNegativeInt, PositiveFloat, PositiveInt, UnitFloat
from robustcls._validation import InputError, check_number

# A black image has no length to compare its residual with; one gray level is 1 / 255.
_DARKEST = 1 / 255


@dataclass(kw_only=True, eq=False)
class ResidualDetector(ContrastDetector, ReconstructionDetector):
    """What plain and memory-augmented autoencoders share.

    With an `augmentation` that has noise they denoise: the noise is only in the input, everything
    else in the target too. With `restore_rotations` they also learn to turn images upright, which
    takes more knowledge of the normal class than copying does (Fei et al., 2020).

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            its noise is only in the input, so that the network removes it. None changes nothing.
        epochs: passes over the normal images; None is 30, more where images are few (int >= 1 or
            None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies, and share that may
            have boxes (float in (0, 1), default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        contrast_normalization: whether the networks see images of one mean and one contrast (bool,
            default False); the residual that is scored is then that of those.
        code_size: values of the code between encoder and decoder, by dense layers around it (int >=
            1 or None, default None); None is the paper's network, whose code is the last
            convolution's output.
        relativity: r (float in [0, 1], default 0). The score is the residual's root mean square,
            divided by the image's to the power r: 0 is the absolute error, 1 the error relative to
            the image, in between neither faint nor bright images have the lowest scores by that
            alone. With `contrast_normalization` the image's is that of its deviations from its
            mean.
        residual_pooling: the score is that of the residual's means over cells of so many pixels a
            side (int >= 1, default 1); above 1, what edges and texture add to every image's error
            cancels out.
        code_neighbors: k, at most `batch_size`, multiplies the score by the distance of the image's
            code to the k-th nearest one of training images (Park et al., 2020, add such a
            distance), of at most 3,000 (int >= 0, default 0); 0 leaves it out. While the networks
            train, `score` is without it.
        restore_rotations: whether the networks are trained with inputs turned by quarter turns and
            targets that are not (bool, default False); images must be square. Images to score are
            not turned.
        learning_rate: of Adam (float > 0, default 1e-3).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.
        pixel_threshold: pixels of the smoothed map above it belong to a box; NaN before `fit`.

    Reference: Fei et al., 2020, "Attribute Restoration Framework for Anomaly Detection"; Park et
    al., 2020, "Learning Memory-guided Normality for Anomaly Detection", section 3.3.
    """

    former_settings: ClassVar[Mapping[str, Any]] = {"patience": None}

    usual: ClassVar[Mapping[str, int]] = {"epochs": 30}

    code_size: PositiveInt | None = None
    relativity: UnitFloat = 0.0
    residual_pooling: PositiveInt = 1
    code_neighbors: NonNegativeInt = 0
    restore_rotations: Flag = False
    learning_rate: PositiveFloat = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("residual_pooling", self.residual_pooling, maximum=min(self.image_shape[:2]))
        check_number("code_neighbors", self.code_neighbors, maximum=self.batch_size)
        if self.restore_rotations and self.image_shape[0] != self.image_shape[1]:
            raise InputError(
                "restore_rotations must be False where images are not square; received images of "
                f"{self.image_shape[0]}×{self.image_shape[1]} pixels."
            )

    def _build_neighbors(self, code: keras.KerasTensor) -> dict[str, keras.Model]:
        """Returns the network that `_neighbor_distance` needs, by its name in `networks`."""
        if not self.code_neighbors:
            return {}
        codes = keras.Input((math.prod(code.shape[1:]),), dtype="float32", name="codes")
        distance = NeighborDistance(self.code_neighbors, name="neighbors")(codes)
        return {"neighbors": keras.Model(codes, distance)}

    def _keep_codes(self, images: np.ndarray) -> None:
        """Keeps the codes of training images, once all networks are trained."""
        if self.code_neighbors:
            layer = self.networks["neighbors"].get_layer("neighbors")
            layer.adapt(self.run_batches("encode_batch", images, 256), self.seed)

    def _neighbor_distance(self, codes: tf.Tensor) -> tf.Tensor:
        return self.networks["neighbors"](codes, training=False)

    def _restore(self, reconstructions: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Maps reconstructions of prepared images to those of the images."""
        if not self.contrast_normalization:
            return reconstructions
        return self._contrast().undo(reconstructions, images)

    def _residual_score(self, images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
        score = root_mean_square(images - reconstructions, self.residual_pooling)
        if self.relativity:
            if self.contrast_normalization:
                images -= tf.reduce_mean(images, [1, 2, 3], keepdims=True)
            strength = tf.maximum(root_mean_square(images), _DARKEST)
            score /= strength**self.relativity
        return score

    def _fit_network(self, training: Training, model: Reconstruction) -> None:
        """Trains `model`, which gets the noise of the policy itself, on what else it does."""
        _, others = split_noise(self.augmentation)
        model.compile(keras.optimizers.Adam(self.learning_rate), loss="mse")
        training.run(
            self.method,
            model,
            epochs=int(self.epochs or 0),
            batch_size=int(self.batch_size or 0),
            seed=self.seed,
            policy=others,
        )
