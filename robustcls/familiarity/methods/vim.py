"""A virtual logit for what lies outside the features' principal space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveInt
from robustcls._validation import InputError
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
        dimension: of the principal space, below that of the features; None is the paper's, 1000 of
            2048 features or more, 512 of 768 or more, else half (int >= 1 or None, default None).

    Source: Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", 2022, section 4;
    the dimensions are those of its code.
    """

    dimension: PositiveInt | None = None

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        features = known.features.astype(np.float64)
        size = features.shape[1]
        within = self.dimension or _dimension(size)
        if within >= size:
            raise InputError(
                f"dimension must be below {size}, that of the features; received {within}."
            )
        origin = -np.linalg.pinv(known.weights.T.astype(np.float64)) @ known.bias
        centred = features - origin
        _, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        principal, rest = directions[:, size - within :], directions[:, : size - within]
        lengths = np.linalg.norm(centred @ rest, axis=1)
        largest = np.abs(known.logits.max(axis=1).mean())
        scale = largest / max(lengths.mean(), np.finfo(np.float32).tiny)
        # The way out of the principal space takes two products, that into the rest one.
        cheaper = {"principal": principal} if 2 * within < size - within else {"rest": rest}
        return {"origin": origin, "scale": np.asarray(scale), **cheaper}

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        outside = features - state["origin"]
        if "rest" in state:
            outside = tf.matmul(outside, state["rest"])
        else:
            along = tf.matmul(outside, state["principal"])
            outside -= tf.matmul(along, state["principal"], transpose_b=True)
        length = tf.sqrt(tf.reduce_sum(tf.square(outside), -1) + _TINY)
        return tf.reduce_logsumexp(logits, -1) - state["scale"] * length


def _dimension(size: int) -> int:
    if size >= 2048:
        return 1000
    return 512 if size >= 768 else max(1, size // 2)
