"""`DeepSAD`: Deep SVDD that also learns from a few known anomalies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anomaly.deep_svdd.detector import DeepSVDD, Sphere
from anomaly.detection.training import Training
from robustcls._settings import PositiveFloat


@dataclass(kw_only=True, eq=False)
class DeepSAD(DeepSVDD):
    """Semi-supervised Deep SVDD: known anomalies are pushed away by their inverse distance.

    Without `anomalies` in `fit` it is `DeepSVDD`.

    Args:
        image_shape: (height, width, channels) of the images, sides ≥ 16, channels 1 or 3.
        augmentation: what training images go through (AugmentationPolicy or None, default None);
            None changes nothing.
        epochs: passes over the normal images in the one-class training; None is 30, more where
            images are few (int >= 1 or None, default None).
        batch_size: images a training step; None is 64, fewer where images are few (int >= 2 or
            None, default None).
        false_alarm_rate: share of normal images that may be called anomalies (float in (0, 1),
            default 0.05).
        seed: of weights, order, augmentation and the held-out images (int >= 0, default 0).
        contrast_normalization: whether the encoder sees images of one mean and one contrast (bool,
            default False).
        pretraining_epochs: passes in the training of the autoencoder before it; None as for
            `epochs` (int >= 0 or None, default None).
        learning_rate: of both Adams, with a weight decay of 1e-6 (float > 0, default 1e-3).
        eta: η, weight of an anomaly beside a normal image (float > 0, default 1).

    Attributes:
        threshold: images that score above it are anomalies; NaN before `fit`.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((128, 28, 28, 1), "float32")
        >>> detector = DeepSAD(image_shape=(28, 28, 1), epochs=1, pretraining_epochs=1)
        >>> detector.fit(images, anomalies=1 - images[:5], verbose=0).score(images).shape
        (128,)

    Reference: Ruff et al., 2020, "Deep Semi-Supervised Anomaly Detection", equation 7.
    """

    method: ClassVar[str] = "deep_sad"
    takes_anomalies: ClassVar[bool] = True
    wants_anomalies: ClassVar[bool] = True

    eta: PositiveFloat = 1.0

    def _sphere(self, training: Training) -> Sphere:
        return Sphere(
            self.networks["encoder"],
            training.anomalies,
            len(training.images),
            self.eta,
            self.seed,
        )
