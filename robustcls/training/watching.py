"""Callbacks that stop a training which has gone wrong, and keep its last good state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._settings import Epsilon, PositiveInt, Range, checked
from robustcls._validation import InputError, check_images, check_labels
from robustcls.classifiers.ranges import preprocessing
from robustcls.training.checkpoints import variables_of
from robustcls.training.objectives.objective import found_gradient
from robustcls.training.outputs import logits_of, returned
from robustcls.training.trainer import base_model_of

ROBUST_ACCURACY = "watched_robust_accuracy"
# A few hundred images of a model that is hardly robust yet go up and down by that much.
SMALLEST_FALL = 0.1


class FiniteLoss(keras.callbacks.Callback):
    """Stops at the first loss that is NaN or infinite, and at an epoch that ends in such weights.

    Every figure with "loss" in its name counts, those of validation too; where there is none, as in
    the adversarial detectors, all figures do. Weights are also the state of the optimizer. Put it
    before a checkpoint: what was saved before stays the last good state.

    Raises:
        InputError: it has stopped; the message names the batch and the epoch.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        name, value = _not_finite(logs or {})
        if name:
            self._stop(name, f"received {value} in batch {batch + 1} of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        name, value = _not_finite(logs or {})
        if name:
            self._stop(name, f"epoch {epoch + 1} ended with {value}")
        model: Any = self.model
        for variable in variables_of(model):
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                self._stop(
                    "loss", f"epoch {epoch + 1} ended with weights {variable.path} that are not"
                )

    def _stop(self, name: str, what: str) -> None:
        raise InputError(
            f"{name} must stay finite; {what}. The last checkpoint is from before. "
            "Did you mean a smaller learning rate?"
        )


def _not_finite(logs: Mapping[str, Any]) -> tuple[str, float]:
    """The first figure to watch that is NaN or infinite; without a name where all are finite."""
    losses = [name for name in logs if "loss" in name]
    for name in losses or logs:
        value = float(logs[name])
        if not np.isfinite(value):
            return name, value
    return "", 0.0


class RobustnessWatch(keras.callbacks.Callback):
    """Attacks held-out images after each epoch, and stops when robustness has collapsed.

    Training on single steps can lose its robustness to longer attacks within an epoch, while its
    own loss falls ("catastrophic overfitting"; Wong et al., "Fast is better than free", 2020,
    section 5.4). The attack is PGD in inference mode; its accuracy is in the epoch's logs as
    `watched_robust_accuracy`. On collapse the weights of the best epoch are put back.

    Args:
        images: held-out images, float32 [N, H, W, C] in [0, 1]; a few hundred do.
        labels: int [N].
        epsilon: radius of the L-infinity ball, float in (0, 1].
        steps: of PGD; each is 2.5 * epsilon / steps long (int >= 1, default 10).
        collapse: robustness has collapsed when it falls below this share of the best so far, and by
            ten points (float in (0, 1), default 0.5).
        history: accuracies of the epochs before, when a training goes on (default ()).
        good_weights: of the best of those epochs; the model's own when None (default None).
        seed: of the random start (int, default 0).

    Raises:
        InputError: an argument is unusable; in training, the model wants other pixels than
            its trainer says, or has no gradient.
    """

    @checked
    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilon: Epsilon,
        steps: PositiveInt = 10,
        collapse: Annotated[float, Range(above=0, below=1)] = 0.5,
        history: Sequence[float] = (),
        good_weights: Sequence[np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._images = tf.constant(check_images(images))
        self._labels = tf.constant(check_labels(labels, len(images)))
        self.epsilon, self.steps, self.collapse, self.seed = epsilon, steps, collapse, seed
        self.best = 0.0
        #: The epoch that ended in collapse, counted from 1; None without.
        self.collapsed: int | None = None
        for epoch, accuracy in enumerate(history, 1):
            if self._has_fallen(accuracy):
                self.collapsed = epoch
            self.best = max(self.best, accuracy)
        self._weights = None if good_weights is None else list(good_weights)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        self._base_model = base_model_of(model)
        # A plain model whose layers want other pixels is refused.
        given = getattr(model, "input_range", None)
        self._before = preprocessing(self._base_model, input_range=given) or tf.identity
        self._attacked = tf.function(self._accuracy, autograph=False)
        if self.best and self._weights is None:
            # What a training goes on from is good: it would have ended otherwise.
            self._weights = self._base_model.get_weights()

    def good_weights(self) -> Sequence[np.ndarray]:
        """Returns the weights of the best epoch so far; none before the first."""
        return self._weights or ()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        accuracy = float(self._attacked())
        if logs is not None:
            logs[ROBUST_ACCURACY] = accuracy
        if self._weights is not None and self._has_fallen(accuracy):
            self.collapsed = epoch + 1
            self._base_model.set_weights(self._weights)
            self.model.stop_training = True
            print(
                f"Epoch {epoch + 1}: accuracy under PGD-{self.steps} on held-out images fell from "
                f"{100 * self.best:.1f} to {100 * accuracy:.1f} % (catastrophic overfitting). "
                "Training ends; the last good weights are back.",
                flush=True,
            )
        elif accuracy >= self.best:
            self.best, self._weights = accuracy, self._base_model.get_weights()

    def _has_fallen(self, accuracy: float) -> bool:
        return accuracy < min(self.collapse * self.best, self.best - SMALLEST_FALL)

    def _accuracy(self) -> tf.Tensor:
        images, labels = self._images, self._labels
        epsilon, step_size = self.epsilon, 2.5 * self.epsilon / self.steps

        def answer(points: tf.Tensor) -> tf.Tensor:
            outputs = self._base_model(self._before(points), training=False)
            return logits_of(outputs, returned(self._base_model))

        def step(points: tf.Tensor) -> tuple[tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(points)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, answer(points))
            moved = points + step_size * tf.sign(found_gradient(tape.gradient(loss, points)))
            moved = tf.clip_by_value(moved, images - epsilon, images + epsilon)
            return (tf.clip_by_value(moved, 0.0, 1.0),)

        noise = tf.random.stateless_uniform(images.shape, [self.seed, 0], -epsilon, epsilon)
        (points,) = tf.while_loop(
            lambda _: True,
            step,
            (tf.clip_by_value(images + noise, 0.0, 1.0),),
            maximum_iterations=self.steps,
        )
        right = tf.equal(tf.argmax(answer(points), -1), labels)
        return tf.reduce_mean(tf.cast(right, tf.float32))
