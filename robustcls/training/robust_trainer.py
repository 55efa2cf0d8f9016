"""One Keras trainer for all robust objectives."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.models.stock import with_stock_layers
from robustcls.training.losses import loss_for
from robustcls.training.objectives.objective import Batch, Objective


class RobustTrainer(keras.Model):
    """Trains `base_model` with a robust objective.

    `compile` and `fit` are Keras' own, so callbacks, `tf.data`, mixed precision and distribution
    work as ever. `save` and `export` act on `base_model`, which is also what to call, evaluate and
    attack. Regularization losses of the base model are added to the objective's.

    Args:
        base_model: Keras model, float32 images [N, H, W, C] in [0, 1] to logits [N, classes].
        objective: how the loss of a batch is made.
        seed: seed of the objective's draws, >= 0 (int, default 0).
        name: of the trainer (str, default "robust_trainer").

    Raises:
        InputError: `base_model` is a trainer itself.

    Batches are `(images, labels)` or `(images, labels, sample_weight)`; labels are class ids [N]
    or one-hot rows. `fit` reports `loss`, the objective's, and the compiled metrics on the logits
    that the objective names; `evaluate` the compiled loss and metrics on the images as they are.

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
        seed: int = 0,
        name: str = "robust_trainer",
    ) -> None:
        super().__init__(name=name)
        if hasattr(base_model, "base_model"):
            raise InputError(
                f"base_model must be the model to train; received the trainer {base_model.name}. "
                "Did you mean its base_model?"
            )
        self.base_model = base_model
        self.objective = objective
        self._seeds = keras.random.SeedGenerator(seed)
        # Steps of an epoch and epochs, for schedules.
        self._plan = self.add_weight(
            shape=(2,), initializer="ones", trainable=False, autocast=False, name="plan"
        )
        self._kept: dict[str, tf.Variable] = {}
        self.built = True

    def compile(
        self, optimizer: Any = None, loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`.

        Args:
            optimizer: SGD (learning rate 0.01, Nesterov momentum 0.9) when None.
            loss: what `evaluate` reports; sparse categorical cross-entropy on logits when None.
                What is trained is the objective's.
            metrics: as for Keras.
            **kwargs: as for Keras.

        Raises:
            InputError: the loss takes probabilities while the base model returns logits.
        """
        if optimizer is None:
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = loss_for(loss, self.base_model)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the base model's logits."""
        return self.base_model(inputs, training=training)

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
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        batch = self._batch(images, labels)
        for _ in range(self.objective.weight_steps):
            loss, logits = self._step(batch, weights)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])
        return self.compute_metrics(images, labels, logits, weights)

    def update_statistics(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Moves the batch-norm statistics as a step would, and no weights.

        Args:
            images: float32 [N, H, W, C] in [0, 1].
            labels: int64 [N].
        """
        batch = self._batch(images, labels)
        start = self.objective.start(batch)
        self.objective.loss(batch if start is None else dataclasses.replace(batch, images=start))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the base model, with stock Keras layers; arguments as for `keras.Model.save`."""
        with_stock_layers(self.base_model).save(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Exports the base model."""
        self.base_model.export(*args, **kwargs)

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
            loss = tf.reduce_mean(losses)
            loss += tf.add_n([tf.cast(x, loss.dtype) for x in self.base_model.losses] or [0.0])
            # Gradients of several replicas are added up.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(loss / replicas)
        sources = variables if start is None else [*variables, start]
        gradients = tape.gradient(scaled, sources)
        if start is not None:
            self.objective.moved(batch, gradients.pop())
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, logits

    def _batch(self, images: Any, labels: Any) -> Batch:
        if labels is None:
            raise InputError("batches must be (images, labels); received images alone.")
        images = tf.cast(images, tf.float32)
        labels = tf.convert_to_tensor(labels)
        one_hot = labels.shape.rank == 2 and labels.shape[-1] != 1
        labels = tf.argmax(labels, -1) if one_hot else tf.cast(tf.reshape(labels, [-1]), tf.int64)
        plan = tf.convert_to_tensor(self._plan)
        batches = tf.cast(self.optimizer.iterations, tf.float32) / self.objective.weight_steps
        return Batch(
            images=images,
            labels=labels,
            model=self.base_model,
            draw=lambda: tf.cast(self._seeds.next(), tf.int32),
            epoch=batches / plan[0],
            epochs=plan[1],
            scale_loss=self.optimizer.scale_loss,
            keep=lambda name: self._keep(name, images),
        )

    def _keep(self, name: str, images: tf.Tensor) -> tf.Variable:
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise InputError(
                f"{self.objective.name} must train on one replica, since it carries a "
                "perturbation from batch to batch; received several."
            )
        if name not in self._kept:
            with tf.init_scope():
                shape = [None, *images.shape[1:]]
                self._kept[name] = tf.Variable(tf.zeros([0, *shape[1:]]), shape=shape)
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
        self.trainer._plan.assign([self.params["steps"] or 1, self.params["epochs"]])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.trainer.forget()
