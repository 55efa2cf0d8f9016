"""A virtual logit for what lies outside the features' principal space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tensorflow as tf

from robustcls._settings import Range
from robustcls.familiarity.method import FamiliarityMethod, Known

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class ViM(FamiliarityMethod, name="vim"):
    """Virtual-logit matching: how far features leave the space of the training features.

    Features are centred where all logits of the last layer are 0, as far as a point can make them.
    The length of their part outside the principal space, scaled to the size of the largest logit
    on training images, is one more logit. The paper's score is its share of the softmax; this is
    the logarithm of the others' share over it, which orders images the same way and keeps its
    digits.

    Args:
        variance: share of the training features' squared length within the principal space (float
            in (0, 1), default 0.95).

    Source: Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", 2022, section 4;
    there the dimension of the principal space is set by hand.
    """

    variance: Annotated[float, Range(above=0, below=1)] = 0.95

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        features = known.features.astype(np.float64)
        origin = -np.linalg.pinv(known.weights.T.astype(np.float64)) @ known.bias
        centred = features - origin
        values, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        shares = np.cumsum(values[::-1]) / max(values.sum(), np.finfo(np.float32).tiny)
        # At least one direction on either side.
        within = int(np.clip(np.searchsorted(shares, self.variance) + 1, 1, len(values) - 1))
        principal, rest = directions[:, ::-1][:, :within], directions[:, ::-1][:, within:]
        lengths = np.linalg.norm(centred @ rest, axis=1)
        largest = np.abs(known.logits.max(axis=1).mean())
        scale = largest / max(lengths.mean(), np.finfo(np.float32).tiny)
        # The narrower of the two spaces costs less.
        inside = principal.shape[1] < rest.shape[1]
        return {
            "origin": origin,
            "inside": np.asarray(inside),
            "directions": principal if inside else rest,
            "scale": np.asarray(scale),
        }

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        centred = features - state["origin"]
        along = tf.matmul(centred, state["directions"])
        back = tf.matmul(along, state["directions"], transpose_b=True)
        outside = tf.where(state["inside"], centred - back, back)
        length = tf.sqrt(tf.reduce_sum(tf.square(outside), -1) + _TINY)
        return tf.reduce_logsumexp(logits, -1) - state["scale"] * length
