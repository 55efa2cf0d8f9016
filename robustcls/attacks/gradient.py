"""Attacks along gradients: one compiled step for each rule, model and image shape."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import losses
from robustcls.attacks.loop import LoopedAttack, Step
from robustcls.attacks.task import Batch, State
from robustcls.classifiers.classifier import Classifier, check_finite
from robustcls.classifiers.compiling import compile_once

Logits = Callable[[tf.Tensor], tf.Tensor]
Tensors = dict[str, tf.Tensor]
# Products with all pixels of an image stay within float32.
LARGEST = 1e30


class Rule(Protocol):
    """What a step does, as a pure function of tensors.

    A rule is hashable and holds only what shapes the graph (a norm, a loss). Numbers such as
    epsilon come as tensors in `settings`, so all settings share one compiled step.
    """

    def __call__(
        self, logits: Logits, batch: Tensors, state: Tensors, settings: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        """Returns (points, logits of the points, next state).

        Args:
            logits: the model.
            batch: `images`, `labels`, `targets` and `step`; see `Batch`.
            state: of the runs.
            settings: of the attack.
        """


@dataclass(frozen=True, kw_only=True)
class GradientAttack(LoopedAttack, abstract=True):
    """An attack whose step is a compiled `Rule`.

    A subclass defines `step_count`, `start`, `rule` and `settings`.

    Args:
        epsilon: radius of the ball for images in [0, 1] (float in (0, 1], default 8/255); for norm
            "2" any float > 0.
        norm: of the ball ("inf" or "2", default "inf").
        seed: seed of everything random (int >= 0, default 0).
    """

    @property
    @abc.abstractmethod
    def rule(self) -> Rule:
        """What a step does."""

    @property
    @abc.abstractmethod
    def settings(self) -> dict[str, np.ndarray]:
        """The numbers the rule needs: float32 scalars and vectors."""

    @property
    def passes(self) -> int:
        return 2

    def objection(self, classifier: Classifier) -> str | None:
        return None if classifier.differentiable else _needs_gradients(self.name, classifier)

    def make_step(self, classifier: Classifier) -> Step:
        settings = self.settings

        def step(batch: Batch, state: State) -> tuple[np.ndarray, np.ndarray, State]:
            function = compiled_step(classifier, self.rule, batch, state, settings)
            points, logits, following = function(_tensors(batch), state, settings)
            return (
                points.numpy(),
                check_finite(logits.numpy()),
                {name: value.numpy() for name, value in following.items()},
            )

        return step


def compiled_step(
    classifier: Classifier, rule: Rule, batch: Batch, state: State, settings: State
) -> Callable[..., tuple[tf.Tensor, tf.Tensor, Tensors]]:
    """Returns the compiled step, traced once for all batch sizes and settings."""
    key = (rule, batch.images.shape[1:], batch.labels.ndim, classifier.outputs)
    if key not in classifier.compiled:

        def step(batch: Tensors, state: Tensors, settings: Tensors) -> tuple:
            return rule(classifier.logits, batch, state, settings)

        signature = [
            {name: _spec(value) for name, value in values.items()}
            for values in (_tensors(batch), state)
        ]
        signature.append(
            {
                name: tf.TensorSpec([None] * value.ndim, value.dtype)
                for name, value in settings.items()
            }
        )
        classifier.compiled[key] = compile_once(step, signature)
    return classifier.compiled[key]


def value_and_gradient(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    points: tf.Tensor,
    samples: int = 1,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (value, logits, gradient of the value with respect to each point).

    Where the gradient is NaN it becomes 0, and where it is infinite very large, so that the
    other pixels of the image can still be attacked.

    Args:
        function: points to (values [n], logits [n, classes]), image by image.
        points: float32 [n, H, W, C].
        samples: of a function that answers at random the mean of so many answers, values, logits
            and gradients, is returned (default 1).
    """
    if samples > 1:
        return _mean_of(lambda: value_and_gradient(function, points), samples)
    # Gradients of the weights would double the work.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        value, logits = function(points)
    gradient = tape.gradient(value, points)
    if gradient is None:
        raise InputError(
            "model must be differentiable; its logits have no gradient with respect to the images."
        )
    gradient = tf.where(tf.math.is_nan(gradient), 0.0, gradient)
    return value, logits, tf.clip_by_value(gradient, -LARGEST, LARGEST)


def _mean_of(answer: Callable[[], Any], samples: int) -> Any:
    """Returns the mean of several answers, each a tuple of tensors of one shape."""

    def add(sums: tuple[tf.Tensor, ...]) -> list[tf.Tensor]:
        return [total + more for total, more in zip(sums, answer(), strict=True)]

    # One after the other: a random model moves the state of its generator.
    _, sums = tf.while_loop(
        lambda count, _: count < samples,
        lambda count, sums: (count + 1, tuple(add(sums))),
        (1, tuple(answer())),
        parallel_iterations=1,
    )
    return tuple(total / samples for total in sums)


def loss_gradients(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the gradient of cross-entropy with respect to each image, float32 [n, H, W, C].

    The direction is that of `losses.cross_entropy`; the graph is compiled once for a model.

    Args:
        classifier: the model, as `Attack.perturb` gets it.
        images: float32 [n, H, W, C] in [0, 1].
        labels: int64 [n], or multi-hot bool [n, classes].

    Raises:
        InputError: the model is a plain function, which has no gradients.
    """
    if not classifier.differentiable:
        raise InputError(_needs_gradients("this attack", classifier))
    key = ("loss_gradients", images.shape[1:], labels.ndim, classifier.outputs)
    if key not in classifier.compiled:

        def gradients(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            def loss(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                outputs = classifier.logits(points)
                return losses.cross_entropy(outputs, labels), outputs

            return value_and_gradient(loss, images)[2]

        signature = [_spec(images), _spec(labels)]
        classifier.compiled[key] = compile_once(gradients, signature)
    return classifier.compiled[key](images, labels).numpy()


def _needs_gradients(name: str, classifier: Classifier) -> str:
    return (
        f"model must be a Keras model or a SavedModel for {name}, which needs "
        f"gradients; received the function {classifier.name}. Did you mean Square(...)?"
    )


def _tensors(batch: Batch) -> State:
    return {name: getattr(batch, name) for name in ("images", "labels", "targets", "step")}


def _spec(value: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)
