"""The training images that are most like an image to the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError, check_images
from robustcls.explanation.explainer import Explainer
from robustcls.familiarity.features import Features, features_of


@dataclass(frozen=True, eq=False, repr=False)
class Neighbors(Briefly):
    """The nearest of other images.

    Attributes:
        indices: int64 [N, count], where they are among those, the nearest first.
        similarities: float32 [N, count] in [-1, 1], cosines of the features.
    """

    indices: np.ndarray
    similarities: np.ndarray

    def brief(self) -> Brief:
        count, each = self.indices.shape
        return Brief(f"{count:,} images, {each} nearest each")


@checked
def nearest_images(
    explainer: Explainer,
    images: np.ndarray,
    others: np.ndarray,
    *,
    count: PositiveInt = 3,
) -> Neighbors:
    """Finds which of other images, those of the training, are most like each image to the model.

    Alike are images whose features, what goes into the last layer, point in the same direction: it
    is the direction that decides the class. Where no last layer can be found it is the logits.

    Source: Papernot and McDaniel, "Deep k-nearest neighbors", 2018; Hanawa et al., "Evaluation of
    similarity-based explanations", 2021, which finds the cosine of last features among the best.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        others: uint8, or float32 in [0, 1], [M, H, W, C]; a `Split.images` of the training.
        count: how many of them for each image; at most M (int >= 1, default 3).

    Raises:
        InputError: images that do not fit the model, or fewer others than `count`.
    """
    images = check_images(images)
    if len(others) < count:
        raise InputError(f"others must be at least {count} images; received {len(others)}.")
    if others.shape[1:] != images.shape[1:]:
        raise InputError(
            f"others must be of the images' shape {images.shape[1:]}; received {others.shape[1:]}."
        )
    explainer.prepare(images)
    features = features_of(explainer.classifier, images[:8])
    size = explainer.passes_at_a_time(images)
    own = _directions(features, images, size)
    best = np.full((len(images), count), -np.inf, np.float32)
    found = np.zeros((len(images), count), np.int64)
    # Some of the others at a time: of their features only so many are ever held.
    for start in range(0, len(others), size):
        cosines = own @ _directions(features, others[start : start + size], size).T
        all_cosines = np.concatenate([best, cosines], axis=1)
        numbers = np.arange(start, start + cosines.shape[1])
        indices = np.concatenate([found, np.broadcast_to(numbers, cosines.shape)], axis=1)
        order = np.argsort(-all_cosines, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(all_cosines, order, 1)
        found = np.take_along_axis(indices, order, 1)
    return Neighbors(found, best)


def _directions(features: Features, images: np.ndarray, batch_size: int) -> np.ndarray:
    found = features.of(images, batch_size)[0].reshape(len(images), -1)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)
