"""The distance to the decision boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls.familiarity.method import FamiliarityMethod, Known

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class FDBD(FamiliarityMethod, name="fdbd"):
    """The mean distance of the features to the boundaries of their class, over that to the mean.

    The boundary between the predicted class c and class k lies (logit c - logit k) / |w_c - w_k|
    away. The sum over the other classes is divided by their number and by the distance to the mean
    of the training features.

    Source: Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", 2024,
    equations 4 and 5.
    """

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        weights = known.weights.T.astype(np.float64)
        between = np.linalg.norm(weights[:, None] - weights[None], axis=-1)
        # Two classes of the same weights have no boundary; a class has none with itself.
        nearness = np.where(between > _TINY, 1 / np.maximum(between, _TINY), 0)
        return {"nearness": nearness, "mean": known.features.mean(axis=0, dtype=np.float64)}

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        leads = tf.reduce_max(logits, -1, keepdims=True) - logits
        distances = leads * tf.gather(state["nearness"], tf.argmax(logits, -1))
        others = tf.cast(tf.shape(logits)[1] - 1, tf.float32)
        squared = tf.reduce_sum(tf.math.squared_difference(features, state["mean"]), -1)
        return tf.reduce_sum(distances, -1) / others / tf.sqrt(squared + _TINY)
