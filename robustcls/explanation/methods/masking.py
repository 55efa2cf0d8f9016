"""Scores of images of which masks leave a part: what methods for black boxes ask of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls.classifiers.compiling import compile_once

#: (first, last) to the masks of these numbers, float32 [last - first, H, W] in [0, 1].
MakeMasks = Callable[[int, int], np.ndarray]


def scores_behind_masks(
    explainer: Any,
    images: np.ndarray,
    classes: np.ndarray,
    count: int,
    make: MakeMasks,
    *,
    probabilities: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields masks and the class's score for each image times each of them, a few at a time.

    As many as `Explainer.passes_at_a_time` says go through the model at once, in one compiled graph
    where the model has one; of the masks only these are ever held.

    Args:
        explainer: an `Explainer`.
        images: float32 [n, H, W, C] in [0, 1].
        classes: int64 [n].
        count: of the masks.
        make: makes them.
        probabilities: scores are probabilities, not logits (bool, default False).

    Yields:
        (masks float32 [k, H, W], scores float32 [n, k]).
    """
    some = max(1, min(count, explainer.passes_at_a_time(images) // len(images)))
    score = _scorer(explainer, images, probabilities)
    for first in range(0, count, some):
        # The last masks are filled up, so that all calls have one shape.
        masks = make(first, min(first + some, count))
        filled = np.concatenate([masks, np.repeat(masks[-1:], some - len(masks), axis=0)])
        yield masks, np.asarray(score(images, classes, filled))[:, : len(masks)]


def _scorer(explainer: Any, images: np.ndarray, probabilities: bool) -> Callable[..., Any]:
    """(images, classes, masks) to scores [n, k]."""
    shape, classifier = images.shape[1:], explainer.classifier

    def of_tensors(images: tf.Tensor, classes: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        mixed = tf.reshape(images[:, None] * masks[None, ..., None], [-1, *shape])
        found = explainer.logits(mixed)
        if probabilities:
            found = classifier.outputs.probabilities(found)
        found = tf.reshape(found, [tf.shape(images)[0], tf.shape(masks)[0], found.shape[-1]])
        return tf.gather(found, classes, axis=2, batch_dims=1)

    def of_arrays(images: np.ndarray, classes: np.ndarray, masks: np.ndarray) -> np.ndarray:
        mixed = (images[:, None] * masks[None, ..., None]).reshape(-1, *shape)
        found = classifier.predict(mixed)
        if probabilities:
            found = classifier.outputs.probabilities(found).numpy()
        found = found.reshape(len(images), len(masks), -1)
        return np.take_along_axis(found, classes[:, None, None], 2)[..., 0]

    if not classifier.differentiable:
        return of_arrays
    signature = [
        tf.TensorSpec([None, *shape], tf.float32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None, *shape[:2]], tf.float32),
    ]
    return explainer.remember(
        ("masked", shape, probabilities), lambda: compile_once(of_tensors, signature)
    )
