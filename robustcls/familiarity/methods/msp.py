"""The largest probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls.familiarity.method import FamiliarityMethod, Known


@dataclass(frozen=True, kw_only=True)
class MSP(FamiliarityMethod, name="msp"):
    """The largest of the classifier's probabilities: the control that every other must beat.

    Source: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", 2017, section 2.
    """

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        return {"independent": np.asarray(known.independent)}

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        del features
        probabilities = tf.where(state["independent"], tf.sigmoid(logits), tf.nn.softmax(logits))
        return tf.reduce_max(probabilities, -1)
