"""Keras models in inference mode, as fast as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.models.folding import copy_folded, fold_batch_norm

# Folding changes logits by float rounding, some 1e-6 of the largest; a layer that is not what
# its configuration says changes them by far more.
TOLERANCE = 1e-3


class FoldedModels:
    """Functions of images that leave batch normalization out where the layer before can do it.

    The folded models have weights of their own; `refresh` brings them up to date.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Callable[[], keras.Model], keras.Model]] = []
        self._taken: list[int | None] = []

    def function(self, reference: Callable[[], keras.Model]) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function with the outputs of a model in inference mode.

        Args:
            reference: returns the model; may hold it weakly.
        """
        folded = fold_batch_norm(reference())
        if folded is reference() or not _agree(reference(), folded):
            return lambda images: _only(reference()(images, training=False))
        self._pairs.append((reference, folded))
        self._taken.append(fingerprint(reference()))
        return lambda images: _only(folded(images, training=False))

    def refresh(self) -> None:
        """Takes over the present weights of the models."""
        for at, (reference, folded) in enumerate(self._pairs):
            now = fingerprint(reference())
            if now != self._taken[at]:
                copy_folded(reference(), folded)
                self._taken[at] = now


def fingerprint(model: Any) -> int | None:
    """Returns a number that changes with the weights of a model; None where they are not known.

    Reading them takes a tenth of what folding takes.

    Args:
        model: anything.
    """
    if not isinstance(model, keras.Model) or not model.built:
        return None
    return hash(tuple(hash(np.asarray(weight).tobytes()) for weight in model.weights))


def _agree(model: keras.Model, folded: keras.Model) -> bool:
    """Whether both return the same for random images; a copied layer may not be its original."""
    shape = [4, *(32 if side is None else side for side in model.inputs[0].shape[1:])]
    images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    try:
        expected, found = (np.asarray(_only(m(images, training=False))) for m in (model, folded))
    except (TypeError, ValueError, tf.errors.OpError):
        return False
    # False for NaN, too.
    scale = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(expected - found).max() <= TOLERANCE * scale)


def _only(outputs: tf.Tensor | dict | list) -> tf.Tensor:
    """The one output of a model, which may come in a dictionary or list."""
    flat = keras.tree.flatten(outputs)
    return flat[0] if len(flat) == 1 else outputs
