"""The loop all gradient attacks share, and what an attack returns."""

from __future__ import annotations

import abc
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from robustcls._validation import (
    InputError,
    check_choice,
    check_epsilon,
    check_images,
    check_labels,
    check_number,
)
from robustcls.attacks import norms

_Functions = dict[str, Callable[..., Any]]
_compiled: weakref.WeakKeyDictionary[Any, dict[str, _Functions]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: float32 [N, H, W, C] in [0, 1], within the ball around each image. Where the
            attack failed, the iterate of highest loss; where the image was misclassified to
            begin with, the image itself.
        success: bool [N], the model misclassifies `adversarial`.
    """

    adversarial: np.ndarray
    success: np.ndarray

    @property
    def robust_accuracy(self) -> float:
        """The share of images that the attack could not turn, in [0, 1]."""
        return 1.0 - float(self.success.mean())


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """An untargeted attack on the logits of a classifier within a ball around each image.

    A subclass says how many steps there are, how long they are and where they begin; this class
    owns the loop. An image that has fallen leaves the batch at once and another takes its
    place, so work is spent only on images that still stand. The model runs in inference mode.

    Args:
        epsilon: radius of the ball for images in [0, 1].
        norm: "inf" or "2".
        seed: seed of everything random.

    Raises:
        InputError: a setting, the images, the labels or the model is unusable.
    """

    epsilon: float = 8 / 255
    norm: str = "inf"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", check_choice("norm", str(self.norm), norms.NORMS))
        check_epsilon("epsilon", self.epsilon, self.norm)
        check_number("seed", self.seed, minimum=0, integer=True)

    @property
    def name(self) -> str:
        """The name in tables and metrics, for example `fgsm` or `pgd20`."""
        return type(self).__name__.lower()

    @property
    @abc.abstractmethod
    def _schedule(self) -> tuple[int, float, int, bool]:
        """(steps, step size, restarts, random start)."""

    def __call__(
        self,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = 128,
        progress: bool = False,
    ) -> AttackResult:
        """Attacks every image.

        Args:
            model: Keras classifier, float32 images [N, H, W, C] in [0, 1] to logits [N, classes].
            images: float32 [N, H, W, C] in [0, 1].
            labels: int [N], the true class ids.
            batch_size: images per gradient; the result does not depend on it.
            progress: show a bar with the robust accuracy so far.

        Returns:
            The adversarial images and whether each succeeded.

        Raises:
            InputError: images, labels or model do not fit together.
        """
        check_number("batch_size", batch_size, minimum=1, integer=True)
        images = check_images(images)
        num_classes = check_model(model, images)
        labels = check_labels(labels, len(images), num_classes)
        return _Loop(self, model, images, labels, batch_size, progress).run()


class _Loop:
    """One run of an attack; the state of image i is at index i of every array."""

    def __init__(
        self,
        attack: Attack,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        progress: bool,
    ) -> None:
        self.attack, self.images, self.labels = attack, images, labels
        self.batch_size, self.progress = batch_size, progress
        self.steps, self.step_size, self.restarts, self.random_start = attack._schedule
        functions = compiled_functions(model, attack.norm)
        self.check, self.advance = functions["check"], functions["advance"]
        self.adversarial = images.copy()
        self.current = images.copy()
        self.best_loss = np.full(len(images), -np.inf, np.float32)
        self.success = np.zeros(len(images), bool)
        self.step = np.zeros(len(images), np.int64)
        self.restart = np.zeros(len(images), np.int64)

    def run(self) -> AttackResult:
        standing = self._misclassify_clean()
        waiting = deque(standing)
        active: list[int] = []
        last: list[int] = []
        bar = tqdm(
            total=len(self.images),
            initial=len(self.images) - len(standing),
            desc=type(self.attack).__name__,
            unit="image",
            disable=not self.progress,
        )
        for index in waiting:
            self._start(index)
        while waiting or active or last:
            while waiting and len(active) < self.batch_size:
                active.append(waiting.popleft())
            if active:
                active = self._take_step(np.array(active, np.int64), last)
            # Iterates after the last step need no gradient, so they are checked apart, in
            # whole batches.
            if len(last) >= self.batch_size or not (active or waiting):
                batch, last = np.array(last[: self.batch_size], np.int64), last[self.batch_size :]
                waiting.extend(self._finish(batch))
            bar.n = len(self.images) - len(waiting) - len(active) - len(last)
            bar.set_postfix(robust=f"{1 - self.success.mean():.3f}", refresh=False)
            bar.update(0)
        bar.close()
        return AttackResult(self.adversarial, self.success)

    def _misclassify_clean(self) -> list[int]:
        for start in range(0, len(self.images), self.batch_size):
            batch = np.arange(start, min(start + self.batch_size, len(self.images)))
            fooled, loss = self._evaluate(batch)
            self._record(batch, fooled, loss)
        return np.flatnonzero(~self.success).tolist()

    def _start(self, index: int) -> None:
        self.step[index] = 0
        self.current[index] = self.images[index]
        if self.random_start:
            seed = (self.attack.seed, index, int(self.restart[index]))
            noise = norms.random_in_ball(
                self.images.shape[1:], self.attack.epsilon, self.attack.norm, seed
            )
            self.current[index] = np.clip(self.images[index] + noise, 0, 1)

    def _take_step(self, batch: np.ndarray, last: list[int]) -> list[int]:
        fooled, loss, advanced = self.advance(
            self.images[batch],
            self.current[batch],
            self.labels[batch],
            np.float32(self.step_size),
            np.float32(self.attack.epsilon),
        )
        fooled = fooled.numpy()
        self._record(batch, fooled, loss.numpy())
        self.current[batch] = advanced.numpy()
        self.step[batch] += 1
        standing = batch[~fooled]
        done = self.step[standing] == self.steps
        last.extend(standing[done].tolist())
        return standing[~done].tolist()

    def _finish(self, batch: np.ndarray) -> list[int]:
        """Checks the last iterates; returns the images that get another restart."""
        if not len(batch):
            return []
        fooled, loss = self._evaluate(batch)
        self._record(batch, fooled, loss)
        again = batch[~fooled]
        self.restart[again] += 1
        again = again[self.restart[again] < self.restarts].tolist()
        for index in again:
            self._start(index)
        return again

    def _evaluate(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fooled, loss = self.check(self.current[batch], self.labels[batch])
        return fooled.numpy(), loss.numpy()

    def _record(self, batch: np.ndarray, fooled: np.ndarray, loss: np.ndarray) -> None:
        if not np.isfinite(loss).all():
            raise InputError(
                "model must return finite logits; received NaN or infinity for "
                f"{int((~np.isfinite(loss)).sum())} of {len(loss)} images."
            )
        better = fooled | (loss > self.best_loss[batch])
        chosen = batch[better]
        self.adversarial[chosen] = self.current[chosen]
        self.best_loss[chosen] = loss[better]
        self.success[batch] |= fooled


def compiled_functions(model: keras.Model, norm: str) -> _Functions:
    """Returns the compiled `check` and `advance` of `model`, traced once for all batch sizes."""
    cache = _compiled.setdefault(model, {})
    if norm in cache:
        return cache[norm]
    height, width, channels = model.inputs[0].shape[1:]
    # The cache's values must not keep its keys alive.
    weak_model: Callable[[], Any] = weakref.ref(model)
    images_spec = tf.TensorSpec([None, height, width, channels], tf.float32)
    labels_spec = tf.TensorSpec([None], tf.int64)
    scalar_spec = tf.TensorSpec([], tf.float32)

    def evaluate(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(weak_model()(images, training=False), tf.float32)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.argmax(logits, -1) != labels, loss

    @tf.function(input_signature=[images_spec, labels_spec])
    def check(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return evaluate(images, labels)

    @tf.function(input_signature=[images_spec, images_spec, labels_spec, scalar_spec, scalar_spec])
    def advance(
        images: tf.Tensor,
        current: tf.Tensor,
        labels: tf.Tensor,
        step_size: tf.Tensor,
        epsilon: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(current)
            fooled, loss = evaluate(current, labels)
        direction = norms.steepest_ascent(tape.gradient(loss, current), norm)
        advanced = norms.project(current + step_size * direction, images, epsilon, norm)
        return fooled, loss, advanced

    cache[norm] = {"check": check, "advance": advance}
    return cache[norm]


def check_model(model: keras.Model, images: np.ndarray) -> int:
    """Returns the number of classes of a model that can be attacked with `images`."""
    if not isinstance(model, keras.Model):
        raise InputError(f"model must be a keras.Model; received {type(model).__name__}.")
    if len(model.inputs or ()) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"model must have one input and one output; received {len(model.inputs or ())} and "
            f"{len(model.outputs or ())}."
        )
    expected, output = model.inputs[0].shape, model.outputs[0].shape
    if (
        any(
            want not in (None, got)
            for want, got in zip(expected[1:], images.shape[1:], strict=False)
        )
        or len(expected) != images.ndim
    ):
        raise InputError(
            f"images must be of the model's shape {tuple(expected[1:])}; "
            f"received {images.shape[1:]}."
        )
    if len(output) != 2 or output[1] is None or output[1] < 2:
        raise InputError(f"model must return logits [N, classes]; its output is {tuple(output)}.")
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax) or (
        getattr(last, "activation", None) is keras.activations.softmax
    ):
        raise InputError(
            f"model must return logits; {model.name} ends in softmax, whose gradients vanish."
        )
    return int(output[1])
