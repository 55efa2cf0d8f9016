"""Keras models in inference mode, as fast as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.models.folding import copy_folded, faster_copy

# Folding changes logits by float rounding, some 1e-6 of the largest; a layer that is not what
# its configuration says changes them by far more.
TOLERANCE = 1e-3


class FoldedModels:
    """Functions of images that leave batch normalization out where the layer before can do it.

    The folded models have weights of their own; `refresh` brings them up to date.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Callable[[], keras.Model], keras.Model]] = []
        self._taken: list[Weights | None] = []

    def function(self, reference: Callable[[], keras.Model]) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function with the outputs of a model in inference mode.

        Args:
            reference: returns the model; may hold it weakly.
        """
        folded = faster_copy(reference())
        if folded is reference() or not _agree(reference(), folded):
            return lambda images: _only(reference()(images, training=False))
        self._pairs.append((reference, folded))
        self._taken.append(weights_of(reference()))
        return lambda images: _only(folded(images, training=False))

    def refresh(self) -> None:
        """Takes over the present weights of the models."""
        for at, (reference, folded) in enumerate(self._pairs):
            now = weights_of(reference())
            if now != self._taken[at]:
                copy_folded(reference(), folded)
                self._taken[at] = now


class Weights:
    """The values of all weights of a model at one moment, held rather than copied.

    While someone holds the values of a variable, TensorFlow writes new ones to another place. So
    values at the place of before are those of before, and only what has moved is compared.

    Args:
        model: any built Keras model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._values = [_read(variable) for variable in model.weights]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weights) or len(self._values) != len(other._values):
            return False
        return all(map(_are_same, self._values, other._values))

    __hash__ = None  # type: ignore[assignment]


def weights_of(model: Any) -> Weights | None:
    """Returns what changes with the weights of a model; None where they are not known.

    Args:
        model: anything.
    """
    return Weights(model) if isinstance(model, keras.Model) and model.built else None


def _read(variable: keras.Variable) -> np.ndarray:
    try:
        held = variable.value
        # An eighth of the time of a variable's own way; there are hundreds.
        return np.asarray(tf.raw_ops.ReadVariableOp(resource=held.handle, dtype=held.dtype))
    except (AttributeError, ValueError):  # on several devices
        return np.asarray(variable)


def _are_same(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    places = (values.__array_interface__["data"][0] for values in (first, second))
    return next(places) == next(places) or first.tobytes() == second.tobytes()


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
