"""`Network`: the model that is explained as a flat graph, its logits, and its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.classifiers.classifier import Classifier, check_finite
from robustcls.classifiers.compiling import compile_once
from robustcls.classifiers.flattening import flat_logits
from robustcls.classifiers.folded import FoldedModels


class Network:
    """A model for images of one shape.

    Args:
        classifier: of the model; it has seen the images (`Classifier.prepare`).
        model: a Keras model, or the classifier where there is none.
        images: float32 [N, H, W, C] in [0, 1], for their shape.

    Attributes:
        flat: the model as one flat graph, images to logits; None where its layers cannot be told
            apart.
        is_copy: `flat` has weights of its own, those that the model had.
    """

    def __init__(self, classifier: Classifier, model: Any, images: np.ndarray) -> None:
        self._classifier, self._model, self._shape = classifier, model, images.shape[1:]
        self.flat = flat = flat_logits(classifier, images)
        self._folded = FoldedModels()
        # The classifier has the logits of its own graph; a copy, as of nested models, folds anew.
        self.is_copy = flat is not None and flat is not self._graph()
        self._own = self._folded.function(lambda: flat) if self.is_copy else None
        self._compiled: Any = None

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        if self._own is None:
            return self._classifier.logits(images)
        return tf.cast(self._own(images), tf.float32)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the same, compiled, of arrays.

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: the logits are not finite.
        """
        if self._own is None:
            return self._classifier.predict(images)
        if self._compiled is None:
            signature = [tf.TensorSpec([None, *self._shape], tf.float32)]
            self._compiled = compile_once(self.logits, signature)
        return check_finite(self._compiled(images).numpy())

    @contextlib.contextmanager
    def random_weights(self, seed: int) -> Iterator[None]:
        """Within the block the entries of every kernel are shuffled.

        Args:
            seed: of everything random.
        """
        weights = [variable for variable in self._weights() if len(variable.shape) > 1]
        kept = [np.array(variable) for variable in weights]
        try:
            for number, (variable, values) in enumerate(zip(weights, kept, strict=True)):
                generator = np.random.default_rng([seed, number])
                variable.assign(generator.permutation(values.ravel()).reshape(values.shape))
            self._refresh()
            yield
        finally:
            for variable, values in zip(weights, kept, strict=True):
                variable.assign(values)
            self._refresh()

    def _refresh(self) -> None:
        """Brings folded copies up to date."""
        self._folded.refresh()
        self._classifier.refresh()

    def _graph(self) -> keras.Model | None:
        graph = self._classifier.graph
        return None if graph is None else graph(self._shape)

    def _weights(self) -> list[Any]:
        known = self._model if self.flat is None else self.flat
        if not isinstance(known, keras.Model):
            known = self._graph()
        return [] if known is None else known.weights
