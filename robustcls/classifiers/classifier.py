"""What attacks see of a model, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._validation import InputError

PROBES = 8
# Relative to the largest logit. Dropout and noise make far more, float rounding far less.
DETERMINISM = 1e-4
_TINY = np.finfo(np.float32).tiny


class Classifier:
    """A model as a function from images in [0, 1] to logits.

    Made by `adapt`; every attack makes one of whatever model it is given.

    Args:
        function: images float32 [N, H, W, C] in [0, 1] to scores [N, classes]. A TensorFlow
            function when `differentiable`, else one of NumPy arrays.
        name: what to call the model in messages.
        differentiable: gradients can be taken through `function`.
        image_shape: (H, W, C) that the model takes, None for sides of any length; None takes every
            shape (default None).
        refresh: called before each attack, for functions that hold copies of weights (default
            None).

    Attributes:
        num_classes: width of the logits, known once `prepare` has run.
        probe: scores that `prepare` saw, float32 [n, classes].
        probabilities: the model returns probabilities, whose logarithms serve as logits. They
            differ from the logits by one number for each image, which changes neither
            cross-entropy nor margins. Where a probability is below 1e-38 its gradient is lost.
        compiled: what attacks have compiled for this model.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        name: str,
        differentiable: bool,
        image_shape: tuple[int | None, ...] | None = None,
        refresh: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.differentiable, self.image_shape = name, differentiable, image_shape
        self.num_classes = 0
        self.probe = np.zeros((0, 0), np.float32)
        self.probabilities = False
        self.compiled: dict[Any, Any] = {}
        self._function, self._refresh = function, refresh

    def prepare(self, images: np.ndarray) -> int:
        """Looks at the model's output for a few of the images that it will be attacked with.

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Returns:
            The number of classes.

        Raises:
            InputError: the images have another shape than the model takes; the outputs are no
                finite scores [N, classes], differ from call to call, or say too little.
        """
        if self.image_shape is not None and not _fits(images.shape[1:], self.image_shape):
            raise InputError(
                f"images must be of the model's shape {self.image_shape}; "
                f"received {images.shape[1:]}."
            )
        self.refresh()
        chosen = np.linspace(0, len(images) - 1, min(len(images), PROBES)).astype(int)
        self.probe = scores = self._scores(images[chosen])
        self.num_classes = scores.shape[1]
        difference = float(np.abs(scores - self._scores(images[chosen])).max())
        if difference > DETERMINISM * max(1.0, float(np.abs(scores).max())):
            raise InputError(
                "model must return the same logits each time; two calls differ by up to "
                f"{difference:.3g}. Did you mean to switch dropout or noise off at inference?"
            )
        self.probabilities = _are_probabilities(scores)
        if self.probabilities and np.count_nonzero(scores, axis=1).min() < 2:
            raise InputError(
                "model must return logits; its probabilities are exactly 0 and 1 for some "
                "images, so the logits behind them cannot be recovered."
            )
        return self.num_classes

    def refresh(self) -> None:
        """Takes over the model's present weights, which may have been trained since."""
        if self._refresh is not None:
            self._refresh()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: the model fails or returns something else.
        """
        scores = self._scores(images)
        return np.log(np.maximum(scores, _TINY)) if self.probabilities else scores

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits as a tensor that gradients can be taken of.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        scores = tf.cast(self._function(images), tf.float32)
        return tf.math.log(tf.maximum(scores, _TINY)) if self.probabilities else scores

    def _scores(self, images: np.ndarray) -> np.ndarray:
        try:
            scores = self._call(images)
        except InputError:
            raise
        except Exception as error:
            # Whatever a foreign model raises, on whatever line: the first says most.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"model must take images {images.shape}; {self.name} raised "
                f"{type(error).__name__}: {' '.join(lines)[:200]}"
            ) from error
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fV":
            raise InputError(
                "model must return one float array of logits [N, classes]; received "
                f"{_describe(scores)}."
            )
        width = self.num_classes or (scores.shape[-1] if scores.ndim == 2 else 0)
        if scores.shape != (len(images), width) or width < 2:
            raise InputError(
                f"model must return logits [N, classes]; it returned shape {scores.shape} "
                f"for {len(images)} images."
            )
        scores = scores.astype(np.float32, copy=False)
        return check_finite(scores)

    def _call(self, images: np.ndarray) -> Any:
        if not self.differentiable:
            outputs = self._function(images.copy())
            return outputs if isinstance(outputs, tuple | list | dict) else np.asarray(outputs)
        key = ("predict", images.shape[1:])
        if key not in self.compiled:
            signature = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
            self.compiled[key] = tf.function(
                self._function, input_signature=signature, autograph=False
            )
        outputs = self.compiled[key](images)
        return outputs.numpy() if isinstance(outputs, tf.Tensor) else outputs


def check_finite(logits: np.ndarray) -> np.ndarray:
    """Returns `logits`, float32 [N, classes], when no value is NaN or infinite.

    Raises:
        InputError: for some images one is.
    """
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise InputError(
            f"model must return finite logits; received NaN or infinity for {bad} of "
            f"{len(logits)} images."
        )
    return logits


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want in (None, got) for want, got in zip(expected, shape, strict=True)
    )


def _are_probabilities(scores: np.ndarray) -> bool:
    # Half-precision softmax sums to 1 within 1e-3; logits of several images never do.
    return bool(
        scores.min() >= 0
        and scores.max() <= 1
        and np.abs(scores.astype(np.float64).sum(axis=1) - 1).max() < 1e-3
    )


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"
