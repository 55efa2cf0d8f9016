"""What attacks see of a model, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._notebook import Brief, Briefly
from robustcls._validation import InputError
from robustcls.classifiers.compiling import compile_once
from robustcls.classifiers.outputs import Outputs, read_outputs

PROBES = 8
# Relative to the largest logit. Dropout and noise make far more, float rounding far less.
DETERMINISM = 1e-4
# By how much the probabilities of a softmax, rounded to 1, 2 or 4 bytes, may miss the sum of 1.
_SUMS = {1: 2e-2, 2: 2e-2, 4: 1e-3}
# Images that far off take every logit out of [0, 1], and no probability.
_FAR = 1e3


class Classifier(Briefly):
    """A model as a function from images in [0, 1] to logits.

    Made by `adapt`; every attack makes one of whatever model it is given.

    Args:
        function: images float32 [N, H, W, C] in [0, 1] to scores [N, classes], or [N, 1] for two
            classes. A TensorFlow function when `differentiable`, else one of NumPy arrays.
        name: what to call the model in messages.
        differentiable: gradients can be taken through `function`.
        image_shape: (H, W, C) that the model takes, None for sides of any length; None takes every
            shape (default None).
        refresh: called before each attack, for functions that hold copies of weights (default
            None).
        ending: how the model ends: "softmax" or "sigmoid", which `function` leaves out; "linear",
            it returns logits; "unknown" (default "unknown").
        is_graph: it is a Keras model whose layers can be told apart (bool, default False).
        graph: makes a functional Keras model of images (H, W, C) in [0, 1] to what the model
            returns, its ending included; None where there is no Keras model (default None).
        range_is_known: no need to ask whether another range of pixels suits the model better (bool,
            default False).

    Attributes:
        num_classes: width of the logits, known once `prepare` has run.
        probe: scores that `prepare` saw, float32 [n, K]; zeros of a model that answers at random.
        samples: how many answers of a model that answers at random make one.
        outputs: how the scores are read as logits, known once `prepare` has run.
        repeats: the model is known to answer the same each time.
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
        ending: str = "unknown",
        is_graph: bool = False,
        graph: Callable[[tuple[int, ...]], keras.Model] | None = None,
        range_is_known: bool = False,
    ) -> None:
        self.name, self.differentiable, self.image_shape = name, differentiable, image_shape
        self.ending, self.is_graph, self.graph = ending, is_graph, graph
        self.num_classes = self._width = 0
        self.samples = 1
        self.repeats = True
        self.probe = np.zeros((0, 0), np.float32)
        self.outputs = Outputs()
        self.compiled: dict[Any, Any] = {}
        self._function, self._refresh = function, refresh
        self._tolerance = _SUMS[4]
        self.range_is_known = range_is_known

    def brief(self) -> Brief:
        sides = " x ".join("any" if side is None else str(side) for side in self.image_shape or ())
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        return Brief(f"{self.name}: images {sides or 'of any shape'}{classes}")

    @property
    def fixed_shape(self) -> tuple[int, ...] | None:
        """(H, W, C) of the images; None where the model takes several sizes."""
        sides = [side for side in self.image_shape or () if side is not None]
        return tuple(sides) if len(sides) == 3 else None

    @property
    def probabilities(self) -> bool:
        """Whether the scores are probabilities, of which logits are recovered."""
        return self.outputs.are_probabilities

    def prepare(self, images: np.ndarray, samples: int = 1) -> int:
        """Looks at the model's output for a few of the images that it will be attacked with.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            samples: more than 1 for a model that answers at random, whose answer is then the mean
                logits of so many calls (default 1).

        Returns:
            The number of classes.

        Raises:
            InputError: the images have another shape than the model takes; the outputs are no
                finite scores [N, classes], differ from call to call and `samples` is 1, or do not
                though it is more, or say too little.
        """
        if self.image_shape is not None and not _fits(images.shape[1:], self.image_shape):
            raise InputError(
                f"images must be of the model's shape {self.image_shape}; "
                f"received {images.shape[1:]}."
            )
        self.refresh()
        chosen = np.linspace(0, len(images) - 1, min(len(images), PROBES)).astype(int)
        self.probe = scores = self._scores(images[chosen])
        self._width = scores.shape[1]
        difference = float(np.abs(scores - self._scores(images[chosen])).max())
        is_random = difference > DETERMINISM * max(1.0, float(np.abs(scores).max()))
        if is_random and samples == 1:
            raise InputError(
                "model must return the same logits each time; two calls differ by up to "
                f"{difference:.3g}. Did you mean to switch dropout or noise off at inference, or, "
                "where the noise is the defence, AutoAttack(version='rand')?"
            )
        if samples > 1 and not is_random:
            raise InputError(
                "samples must be 1, and AutoAttack's version 'standard', for a model that returns "
                f"the same logits each time; received {samples} samples of {self.name}."
            )
        self.samples, self.repeats = samples, not is_random
        if is_random:
            self.probe = np.zeros_like(scores)
        self.read(scores, images[chosen])
        return self.num_classes

    def read(self, scores: np.ndarray, images: np.ndarray, *, strict: bool = True) -> None:
        """Decides how scores are read as logits.

        Args:
            scores: float32 [n, K], what the model returned for the images.
            images: float32 [n, H, W, C] in [0, 1].
            strict: refuse probabilities of exactly 0 and 1 (bool, default True).

        Raises:
            InputError: the scores cannot tell classes apart.
        """
        self.outputs = read_outputs(
            scores,
            self.ending,
            stays_within=lambda: self._stays_within(images),
            tolerance=self._tolerance,
            strict=strict,
        )
        self.num_classes = max(2, scores.shape[1])

    def refresh(self) -> None:
        """Takes over the model's present weights, which may have been trained since."""
        if self._refresh is not None:
            self._refresh()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Those of a model that answers at random are the mean of `samples` calls.

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: the model fails or returns something else.
        """
        logits = self._logits(images)
        if self.samples == 1:
            return logits
        more = sum(self._logits(images) for _ in range(self.samples - 1))
        return (logits + more) / np.float32(self.samples)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        scores = self._scores(images)
        return scores if self.outputs == Outputs() else self.outputs.logits(scores).numpy()

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits as a tensor that gradients can be taken of.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        return self.outputs.logits(self._function(images))

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
        self._tolerance = _SUMS.get(scores.dtype.itemsize, _SUMS[4])
        if scores.shape == (len(images),):
            scores = scores[:, None]
        width = self._width or (scores.shape[-1] if scores.ndim == 2 else 0)
        if scores.shape != (len(images), width) or width < 1:
            raise InputError(
                f"model must return logits [N, classes]; it returned shape {scores.shape} "
                f"for {len(images)} images."
            )
        scores = scores.astype(np.float32, copy=False)
        return check_finite(scores)

    def _stays_within(self, images: np.ndarray) -> bool:
        """Whether the scores are in [0, 1] for images that no model was made for, too."""
        generator = np.random.default_rng(0)
        far = _FAR * generator.standard_normal(images.shape).astype(np.float32)
        try:
            scores = self._scores(np.concatenate([_FAR * images, -_FAR * images, far, -far]))
        except InputError:  # not for such images, or not finite
            return True
        return bool(scores.min() >= 0 and scores.max() <= 1)

    def _call(self, images: np.ndarray) -> Any:
        if not self.differentiable:
            outputs = self._function(images.copy())
            return outputs if isinstance(outputs, tuple | list | dict) else np.asarray(outputs)
        key = ("predict", images.shape[1:])
        if key not in self.compiled:
            signature = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
            self.compiled[key] = compile_once(self._function, signature)
        try:
            outputs = self.compiled[key](images)
        except Exception:
            # TensorFlow would return None from the next call of what it could not trace.
            del self.compiled[key]
            raise
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


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"
