"""The distance to the nearest training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from robustcls._settings import NonNegativeInt, PositiveInt
from robustcls.familiarity.method import FamiliarityMethod, Known

_TINY = 1e-10


@dataclass(frozen=True, kw_only=True)
class KNN(FamiliarityMethod, name="knn"):
    """The cosine of the k-th nearest training image's features.

    The paper's score is the distance of the normalized features, -√(2 - 2 cosine), which orders
    images the same way; the cosine keeps its digits where images are near.

    Args:
        neighbors: k; the number of training images where they are fewer (int >= 1, default 50).
        most_images: training images that are compared with, drawn by `seed`; every one of them is
            in an export and costs time there (int >= 1, default 10000).
        seed: of that draw (int >= 0, default 0).

    Source: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022, section
    3.
    """

    neighbors: PositiveInt = 50
    most_images: PositiveInt = 10_000
    seed: NonNegativeInt = 0

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        order = np.random.default_rng(self.seed).permutation(len(known.features))
        bank = known.features[np.sort(order[: self.most_images])]
        lengths = np.linalg.norm(bank, axis=1, keepdims=True)
        return {"bank": (bank / np.maximum(lengths, _TINY)).T}

    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        del logits
        unit = tf.math.l2_normalize(features, -1, epsilon=_TINY**2)
        cosines = tf.matmul(unit, state["bank"])
        k = min(self.neighbors, int(state["bank"].shape[1]))
        return tf.math.top_k(cosines, k).values[:, -1]
