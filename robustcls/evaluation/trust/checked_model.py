"""A model under judgement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import Classifier, losses
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.classifier import PROBES
from robustcls.classifiers.compiling import compile_once
from robustcls.classifiers.outputs import Outputs


class CheckedModel(Classifier):
    """A model that can be attacked whatever is wrong with its gradients or its repeatability.

    Attacks refuse a model that answers differently each time or has no gradient. Here such a
    model is attacked all the same, as far as it goes, so that the checks can say what is wrong:
    where there is no usable gradient, it is zero.

    Args:
        model: what attacks take, except functions without gradients.
        images: float32 [N, H, W, C] in [0, 1], to look at the model's outputs.
        batch_size: images the model sees at a time.

    Attributes:
        returns_probabilities: the model returns probabilities, not logits.

    Raises:
        InputError: the model does not take the images, returns no finite scores, or has no
            gradients by its nature.
    """

    def __init__(self, model: Any, images: np.ndarray, *, batch_size: int) -> None:
        inner = classifier_of(model)
        if not inner.differentiable:
            raise InputError(
                "model must be a Keras model or a SavedModel, whose gradients can be judged; "
                f"received the function {inner.name}."
            )
        self.batch_size = batch_size
        inner.refresh()
        inner.outputs = Outputs()
        scores = self._batched(inner.predict, images)
        inner.read(scores[:PROBES], images[:PROBES], strict=False)
        self._logits_of = inner.logits
        super().__init__(
            self._guarded_logits,
            name=inner.name,
            differentiable=True,
            image_shape=inner.image_shape,
            ending="linear",
            range_is_known=True,
        )
        self.num_classes = self._width = inner.num_classes
        self.repeats = False  # as far as anybody knows
        # What the model itself returns, the softmax or sigmoids that attacks leave out included.
        self._given: Classifier | None = None
        self._read = Outputs()
        self.returns_probabilities = inner.probabilities
        if inner.graph is not None:
            graph = inner.graph(images.shape[1:])
            self._given = Classifier(_call_of(graph), name=inner.name, differentiable=True)
            self.returns_probabilities |= inner.ending in ("softmax", "sigmoid")
            self._read = dataclasses.replace(
                inner.outputs, are_probabilities=self.returns_probabilities
            )

    def prepare(self, images: np.ndarray, samples: int = 1) -> int:
        return self.num_classes

    def answers(self, images: np.ndarray) -> np.ndarray:
        """Returns what the model itself returns, a column for each class, float32 [N, classes]."""
        if self._given is None:
            return self._batched(self.predict, images)
        return self._read.columns(self._batched(self._given.predict, images)).numpy()

    def gradient(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the gradient of cross-entropy that attacks follow, NaN and all.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            labels: int64 [N].

        Returns:
            float32 [N, H, W, C]; zero where the model has no gradient.
        """

        def loss(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return losses.cross_entropy(self._logits_of(images), labels)

        return self._gradient("attack", loss, images, labels)

    def gradient_through_outputs(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the gradient of Keras' cross-entropy of the model's own outputs.

        The same as `gradient` unless the model returns probabilities.
        """
        given, read = self._given, self._read
        if given is None or not read.are_probabilities:
            return self.gradient(images, labels)

        def loss(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            columns = read.columns(given.logits(images))
            if read.independent:
                wanted = tf.one_hot(labels, tf.shape(columns)[1])
                return keras.losses.binary_crossentropy(wanted, columns)
            return keras.losses.sparse_categorical_crossentropy(labels, columns)

        return self._gradient("outputs", loss, images, labels)

    def _gradient(
        self,
        kind: str,
        loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        images: np.ndarray,
        labels: np.ndarray,
    ) -> np.ndarray:
        key = ("gradient", kind, images.shape[1:])
        if key not in self.compiled:

            def gradient(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(images)
                    value = loss(images, labels)
                return tape.gradient(value, images, unconnected_gradients="zero")

            signature = [
                tf.TensorSpec([None, *images.shape[1:]], tf.float32),
                tf.TensorSpec([None], tf.int64),
            ]
            self.compiled[key] = compile_once(gradient, signature)
        compiled = self.compiled[key]
        return self._batched(lambda *batch: compiled(*batch).numpy(), images, labels)

    def _batched(self, function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
        size = self.batch_size
        return np.concatenate(
            [
                function(*(array[start : start + size] for array in arrays))
                for start in range(0, len(arrays[0]), size)
            ]
        )

    def _guarded_logits(self, images: tf.Tensor) -> tf.Tensor:
        # The sum gives a model without a gradient one that is zero.
        nothing = 0.0 * tf.reduce_sum(images, [1, 2, 3])[:, None]
        return self._logits_of(_finite_gradient(images)) + nothing


def _call_of(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda images: model(images, training=False)


@tf.custom_gradient
def _finite_gradient(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    def backward(upstream: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.math.is_finite(upstream), upstream, 0.0)

    return tf.identity(images), backward
