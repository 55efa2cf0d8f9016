"""One Keras trainer for all robust objectives."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.classifiers.ranges import UNIT, InputRange, preprocessing
from robustcls.distribution.replicas import replica_count, share_of
from robustcls.training.batches import BatchForm
from robustcls.training.checks import require
from robustcls.training.losses import no_distributions
from robustcls.training.objectives.objective import Batch, Objective, found_gradient
from robustcls.training.outputs import logits_of, outputs_of
from robustcls.training.trainer import Trainer


class RobustTrainer(Trainer):
    """Trains `base_model` with a robust objective.

    `compile` and `fit` are Keras' own, so callbacks, `tf.data`, mixed precision and distribution
    work as ever. `save` and `export` act on `base_model`, which is also what to call, evaluate and
    attack. Regularization losses of the base model are added to the objective's. The `loss` of
    `compile` is what `evaluate` reports; what is trained is the objective's.

    Args:
        base_model: Keras model, images [N, H, W, C] to logits or softmax [N, classes], or to one
            logit or sigmoid [N, 1] for two classes.
        objective: how the loss of a batch is made.
        input_range: (low, high), the pixels that the images have and `base_model` takes, for
            example (0, 255); the objective's radii are for images in [0, 1], and scaled. None is
            (0, 1) (default None).
        seed: seed of the objective's draws, >= 0 (int, default 0).
        name: of the trainer (str, default "robust_trainer").

    Raises:
        InputError: `base_model` is a trainer itself, has several inputs or outputs, or returns
            several sigmoids.

    Batches are `(images, labels)`, `(images, labels, sample_weight)` or one dictionary with the
    labels as "label"; labels are class ids [N] or one-hot rows. `fit` reports `loss`, the
    objective's, and the compiled metrics on the logits that the objective names; `evaluate` the
    compiled loss and metrics on the images as they are.

    Example:
        >>> trainer = RobustTrainer(model, TRADES(epsilon=8 / 255, beta=6))
        >>> trainer.compile(metrics=["accuracy"])
        >>> trainer.fit(images, labels, epochs=10)
        >>> trainer.save("model.keras")  # the base model
    """

    def __init__(
        self,
        base_model: keras.Model,
        objective: Objective,
        *,
        input_range: InputRange | None = None,
        seed: int = 0,
        name: str = "robust_trainer",
    ) -> None:
        super().__init__(
            base_model, form=BatchForm(), input_range=input_range, bounded=True, name=name
        )
        for what in ("inputs", "outputs"):
            count = len(getattr(base_model, what, None) or [0])
            if count != 1:
                raise InputError(
                    f"base_model must have one input and one output; received {count} {what}."
                )
        if not isinstance(objective, Objective):
            raise InputError(
                f"objective must be an Objective, as of rc.objectives; received {objective!r}."
            )
        self.objective = objective
        self._seeds = keras.random.SeedGenerator(seed)
        # Steps of an epoch and epochs, for schedules.
        self._plan = self.add_weight(
            shape=(2,),
            initializer="ones",
            dtype="float32",
            trainable=False,
            autocast=False,
            name="plan",
        )
        self._kept: dict[str, tf.Variable] = {}
        # Of what the base model returns, known once it has been called.
        self._width: int | None = None

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`."""
        own = _Plan(self)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(own)
        else:
            given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
            callbacks = [own, *(callback for callback in given if callback is not None)]
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = self._unpack(data)
        batch = self._batch(images, labels)
        for _ in range(self.objective.weight_steps):
            loss, logits = self._step(batch, weights)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])
        return self.compute_metrics(images, labels, self._outputs_of(logits), weights)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = self._unpack(data)
        outputs = self.base_model(images, training=False)
        loss = self.losses_of_outputs(labels, outputs, weights)
        loss = replica_count() * loss + self._penalty()
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])
        return self.compute_metrics(images, labels, outputs, weights)

    def update_statistics(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Moves the batch-norm statistics as a step would, and no weights.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            labels: int64 [N].
        """
        batch = self._batch(images, labels)
        start = self.objective.start(batch)
        self.objective.loss(batch if start is None else dataclasses.replace(batch, images=start))

    def forget(self) -> None:
        """Sets to 0 what the objective has carried from batch to batch."""
        for variable in self._kept.values():
            variable.assign(tf.zeros_like(variable))

    def _step(self, batch: Batch, weights: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        variables = self.base_model.trainable_weights
        start = self.objective.start(batch)
        with tf.GradientTape() as tape:
            seen = batch
            if start is not None:
                tape.watch(start)
                seen = dataclasses.replace(batch, images=start)
            losses, logits = self.objective.loss(seen)
            if weights is not None:
                losses *= tf.cast(tf.reshape(weights, [-1]), losses.dtype)
            loss = tf.reduce_mean(losses) + self._penalty()
            scaled = self.optimizer.scale_loss(share_of(loss))
        sources = variables if start is None else [*variables, start]
        gradients = tape.gradient(scaled, sources)
        if start is not None:
            self.objective.moved(batch, found_gradient(gradients.pop()))
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, logits

    def _batch(self, images: Any, labels: Any) -> Batch:
        low, high = self.input_range
        images = tf.cast(images, tf.float32)
        if self.input_range != UNIT:
            images = (images - low) / (high - low)
        if keras.tree.is_nested(labels):
            raise InputError("labels must be one array for one output; received several.")
        labels = tf.convert_to_tensor(labels)
        if labels.shape.rank == 2 and labels.shape[-1] != 1:
            shares = tf.reduce_sum(tf.cast(labels, tf.float32), -1)
            good = tf.reduce_all(tf.abs(shares - 1) < 1e-2)
            labels = require(good, "one_hot", [], tf.argmax(labels, -1))
        else:
            labels = tf.cast(tf.reshape(labels, [-1]), tf.int64)
        plan = tf.convert_to_tensor(self._plan)
        batches = tf.cast(self.optimizer.iterations, tf.float32) / self.objective.weight_steps
        return Batch(
            images=images,
            labels=labels,
            model=self.base_model,
            inputs=preprocessing(input_range=self.input_range) or tf.identity,
            scores=self._scores,
            draw=lambda: tf.cast(self._seeds.next(), tf.int32),
            epoch=batches / plan[0],
            epochs=plan[1],
            scale_loss=self.optimizer.scale_loss,
            keep=lambda name: self._keep(name, images),
        )

    def _scores(self, outputs: tf.Tensor) -> tf.Tensor:
        if keras.tree.is_nested(outputs):
            raise InputError("base_model must have one output; received several.")
        kind = self.losses_of_outputs.returned
        width = 1 if outputs.shape.rank == 1 else outputs.shape[-1]
        self._width = width
        if kind is None:
            outputs = no_distributions(outputs)
        if kind == "sigmoid" and width != 1:
            raise InputError(
                f"base_model must return a score for each class, one of which is right; "
                f"{self.base_model.name} ends in {width} sigmoids. AdversarialRegularization "
                "takes them."
            )
        return logits_of(outputs, kind)

    def _outputs_of(self, logits: tf.Tensor) -> tf.Tensor:
        return outputs_of(logits, self.losses_of_outputs.returned, self._width)

    def _penalty(self) -> tf.Tensor:
        return tf.add_n([tf.cast(loss, tf.float32) for loss in self.base_model.losses] or [0.0])

    def _keep(self, name: str, images: tf.Tensor) -> tf.Variable:
        if name not in self._kept:
            with tf.init_scope():
                shape = [None, *images.shape[1:]]
                self._kept[name] = tf.Variable(tf.zeros([1, *shape[1:]]), shape=shape)
        kept = self._kept[name]
        missing = tf.maximum(tf.shape(images)[0] - tf.shape(kept)[0], 0)
        # A first batch, or a larger one, begins at 0.
        kept.assign(tf.pad(kept.value(), [[0, missing], [0, 0], [0, 0], [0, 0]]))
        return kept


class _Plan(keras.callbacks.Callback):
    """Tells the trainer how long the training is, and when an epoch begins."""

    def __init__(self, trainer: RobustTrainer) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_begin(self, logs: dict | None = None) -> None:
        objective, trainer = self.trainer.objective, self.trainer
        steps, epochs = self.params["steps"], self.params["epochs"]
        if objective.schedule_epochs and not steps:
            raise InputError(
                f"steps_per_epoch must be given for {objective.name}, whose schedule is in epochs, "
                "with batches of unknown number; received None."
            )
        if not int(keras.ops.convert_to_numpy(trainer.optimizer.iterations)):
            try:
                objective.check_epochs(epochs)
            except InputError as error:  # further calls of `fit` may go on from here
                warnings.warn(str(error), stacklevel=2)
        trainer._plan.assign([steps or 1, epochs])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.trainer.forget()
