"""The training images that a classifier finds nearest to an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TINY = 1e-10
#: Training images that are kept to be looked among.
MOST = 5000


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Training images for each of N images, the nearest first.

    Attributes:
        ids: str [N, n], their names.
        places: int64 [N, n], their numbers in the training split, or in what `fit` was given.
        cosines: float32 [N, n], of their features with the image's.
    """

    ids: np.ndarray
    places: np.ndarray
    cosines: np.ndarray


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What is kept of the training images.

    Attributes:
        bank: float16 [M, D], features of some of them, of length 1.
        ids: str [M], their names.
        places: int64 [M], their numbers in the training split, or in what `fit` was given.
        probes: float32 [n, H, W, C] in [0, 1], a few images by which a model is known again.
        probe_features: float32 [n, D], their features.
    """

    bank: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    probes: np.ndarray
    probe_features: np.ndarray

    def nearest(self, features: np.ndarray, count: int) -> Neighbors:
        """Returns the nearest training images.

        Args:
            features: float32 [N, D].
            count: for each; all of them where they are fewer.
        """
        bank = self.bank.astype(np.float32).T
        count = min(count, bank.shape[1])
        chosen, cosines = [], []
        for start in range(0, len(features), 1024):
            found = unit(features[start : start + 1024]) @ bank
            order = np.argsort(-found, axis=1, kind="stable")[:, :count]
            chosen.append(order)
            cosines.append(np.take_along_axis(found, order, axis=1))
        places = np.concatenate(chosen)
        return Neighbors(self.ids[places], self.places[places], np.concatenate(cosines))


def unit(features: np.ndarray) -> np.ndarray:
    """Returns features float32 [N, D] of length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY)
