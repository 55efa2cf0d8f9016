"""The distance to the nearest class, in the shape of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls.familiarity.method import FamiliarityMethod, Known

# Directions of less variance than that, of the largest, are rounding.
_RANK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Mahalanobis(FamiliarityMethod, name="mahalanobis"):
    """The squared Mahalanobis distance to the nearest class mean, its sign turned.

    All classes share one covariance, that of the features around the mean of their class.
    Directions in which the training features hardly vary are left out.

    Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks", 2018, section 2.1; of the last layer, without input processing.
    """

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        features = known.features.astype(np.float64)
        classes = np.unique(known.labels)
        means = np.stack([features[known.labels == label].mean(axis=0) for label in classes])
        around = features - means[np.searchsorted(classes, known.labels)]
        variances, directions = np.linalg.eigh(around.T @ around / len(around))
        kept = variances > _RANK * max(variances[-1], np.finfo(np.float32).tiny)
        whitening = directions[:, kept] / np.sqrt(variances[kept])
        middle = means.mean(axis=0)
        # Around the middle, so that nothing large is taken from something large in float32.
        return {"middle": middle, "whitening": whitening, "means": (means - middle) @ whitening}

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        del logits
        white = tf.matmul(features - state["middle"], state["whitening"])
        distances = tf.math.squared_difference(white[:, None], state["means"][None])
        return -tf.reduce_min(tf.reduce_sum(distances, -1), -1)
