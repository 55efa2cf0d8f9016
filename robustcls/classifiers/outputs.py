"""What a model returns, read as logits: one column a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError

_TINY = np.finfo(np.float32).tiny
# What float32 leaves of the distance to 1.
_ROUNDING = 2.0**-24
_SURE = 0.1
_BELOW_ONE = 1 - np.finfo(np.float32).epsneg


@dataclass(frozen=True)
class Outputs:
    """How to read scores.

    Attributes:
        are_probabilities: the scores are probabilities, of which logits are recovered. A softmax's
            logarithms differ from its logits by one number for each image, which changes neither
            cross-entropy nor margins. Where a probability is below 1e-38 its gradient is lost
            (bool, default False).
        independent: every class has a sigmoid of its own, as where an image can be of several
            classes; otherwise a softmax is over the logits (bool, default False).
        single: one score for two classes, that of class 1 (bool, default False).
    """

    are_probabilities: bool = False
    independent: bool = False
    single: bool = False

    def logits(self, scores: tf.Tensor) -> tf.Tensor:
        """Returns float32 [N, classes] of the model's scores, [N, classes], [N, 1] or [N].

        Args:
            scores: what the model returns.
        """
        scores = tf.cast(scores, tf.float32)
        if self.single:
            scores = tf.reshape(scores, [-1, 1])
        if self.are_probabilities:
            logits = tf.math.log(tf.maximum(scores, _TINY))
            if self.single or self.independent:
                logits -= tf.math.log1p(-tf.minimum(scores, _BELOW_ONE))
            scores = logits
        return tf.concat([tf.zeros_like(scores), scores], 1) if self.single else scores

    def columns(self, scores: tf.Tensor) -> tf.Tensor:
        """Returns the scores as they are, a column for each class, float32 [N, classes].

        Args:
            scores: float32 [N, classes] or [N, 1].
        """
        if not self.single:
            return tf.convert_to_tensor(scores)
        return tf.concat([1 - scores if self.are_probabilities else 0 * scores, scores], 1)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the model's own probabilities, float32 [N, classes].

        Args:
            logits: float32 [N, classes], what `logits` returned.
        """
        return tf.sigmoid(logits) if self.independent else tf.nn.softmax(logits)


def read_outputs(
    scores: np.ndarray,
    ending: str = "unknown",
    *,
    stays_within: Callable[[], bool] = lambda: True,
    tolerance: float = 1e-3,
    strict: bool = True,
) -> Outputs:
    """Says how to read a model's scores, from how it ends or, unknown, from what they look like.

    Args:
        scores: float32 [N, K] of a few images.
        ending: "softmax" or "sigmoid", which is left out of the scores; "linear", they are logits;
            "unknown" (default "unknown").
        stays_within: whether scores stay in [0, 1] for images far from any other; asked where
            sigmoids and small logits look alike.
        tolerance: by how much a softmax's probabilities may miss the sum of 1 (default 1e-3).
        strict: refuse probabilities of exactly 0 and 1 (default True).

    Raises:
        InputError: the scores cannot tell classes apart, or the logits behind them are lost.
    """
    single = scores.shape[1] == 1
    if single and (ending == "softmax" or (ending == "unknown" and (scores == 1).all())):
        raise InputError(
            "model must tell classes apart; its softmax over one output is always 1. Did you mean "
            "a sigmoid?"
        )
    if ending != "unknown":
        return Outputs(independent=ending == "sigmoid" and not single, single=single)
    if scores.min() < 0 or scores.max() > 1 or not scores.any():
        return Outputs(single=single)
    sums = scores.astype(np.float64).sum(axis=1)
    is_softmax = not single and np.abs(sums - 1).max() < tolerance
    if not is_softmax and not stays_within():
        return Outputs(single=single)
    independent = not single and not is_softmax
    if strict and np.count_nonzero((scores > 0) & (scores < 1), axis=1).min() < 1:
        raise InputError(
            "model must return logits; its probabilities are exactly 0 and 1 for some images, so "
            "the logits behind them cannot be recovered."
        )
    if strict and _clipped(scores, each=single or independent).any():
        raise InputError(
            f"model must return logits; its probabilities are clipped to {scores.min():.2g} for "
            "some images, so the logits behind them cannot be recovered."
        )
    return Outputs(True, independent=independent, single=single)


def _clipped(scores: np.ndarray, *, each: bool) -> np.ndarray:
    """Returns where an image's probabilities are nothing but the ends of a clipped range.

    Their gradients are zero, so an attack would take a model that is sure for a robust one.

    Args:
        scores: float32 [n, K], probabilities.
        each: every score has a sigmoid of its own; else they are a softmax's, whose highest is
            what the others leave.

    Returns:
        bool [n].
    """
    wide = scores.astype(np.float64)
    low = np.minimum(wide, 1 - wide) if each else np.sort(wide, axis=1)[:, :-1]
    # Clipped scores that are scaled to a sum of 1 again differ in the last digits.
    at_end = (low <= low.min() * (1 + 1e-4) + _ROUNDING * each).all(axis=1)
    # A single lowest value is no end. Nor is what an untrained model says of every class.
    unsure = low.max(axis=1) if each else low.sum(axis=1)
    return at_end & (np.count_nonzero(at_end) * low.shape[1] > 1) & (unsure < _SURE)


@keras.saving.register_keras_serializable("robustcls")
class ToLogits(keras.layers.Layer):
    """The last layer of a graph whose scores are to be read as logits.

    Args:
        outputs: how, an `Outputs` or its fields.
        **kwargs: of a Keras layer.
    """

    def __init__(self, outputs: Outputs | dict[str, bool], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.outputs = Outputs(**outputs) if isinstance(outputs, dict) else outputs

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        return self.outputs.logits(scores)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], 2) if self.outputs.single else input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"outputs": vars(self.outputs)}
