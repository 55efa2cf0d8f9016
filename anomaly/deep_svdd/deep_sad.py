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

    Attributes:
        eta: η, weight of an anomaly beside a normal image.
        (others): as for `DeepSVDD`.

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

    eta: PositiveFloat = 1.0

    def _sphere(self, training: Training) -> Sphere:
        return Sphere(
            self._networks["encoder"],
            training.anomalies,
            len(training.images),
            self.eta,
            self.seed,
        )
