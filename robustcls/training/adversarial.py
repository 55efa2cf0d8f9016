"""Adversarial regularization of a Keras classifier, with the semantics of NSL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from robustcls._settings import NonNegativeFloat, PositiveInt, checked
from robustcls._validation import InputError
from robustcls.models.stock import with_stock_layers
from robustcls.training._nsl import nsl
from robustcls.training.config import GradNorm, StepSize
from robustcls.training.losses import loss_for


class AdversarialRegularization(keras.Model):
    """Trains `base_model` on images and, at the same time, on their adversarial neighbours.

    The loss of a batch is `L(x) + multiplier * L(x_adv)`. The neighbour x_adv comes from
    Neural Structured Learning's `gen_adv_neighbor`: `iterations` steps of `step_size` along the
    gradient of L with respect to the images, normalized in `grad_norm`. One iteration in the
    infinity norm without random start is FGSM (Goodfellow et al., "Explaining and Harnessing
    Adversarial Examples", section 4 and 6).

    Loss, neighbours and gradients equal those of `nsl.keras.AdversarialRegularization` with the
    same settings, batch-norm statistics included. Only the cost differs: one backward pass of
    the clean batch gives the gradients of both the weights and the images, so a step costs two
    plain steps.

    The wrapper exists for training. `save` and `export` act on `base_model`, which is also what
    to call, evaluate for deployment and attack.

    Args:
        base_model: Keras model, float32 images [N, H, W, C] to logits [N, classes]. It may end
            in softmax when `compile` gets a loss on probabilities.
        multiplier: weight of the adversarial loss (float >= 0, default 0.2).
        step_size: length of each step, for images in [0, 1]; above 1 only for "l2" and "l1"
            (float in (0, 1], default 8/255).
        grad_norm: "infinity" (sign of the gradient), "l2", or "l1" (largest component) ("infinity",
            "l2" or "l1", default "infinity").
        iterations: number of steps (int >= 1, default 1).
        epsilon: radius of the ball in `grad_norm` that the neighbour is projected to after each
            step; None does not project (float in (0, 1] or None, default None).
        random_start: begin at a random point of the ball of radius `epsilon` (of `step_size` when
            epsilon is None) (bool, default False).
        clip: keep neighbours in [0, 1]. False equals NSL's default (bool, default True).
        label_key: name of the labels in batches that are dictionaries, as NSL's are; one entry
            holds the images (str, default "label").
        sample_weight_key: name of the weights in such batches (str, default "sample_weight").
        seed: seed of the random start (int, default 0).
        name: of the trainer (str, default "adversarial_regularization").

    Raises:
        InputError: an argument is out of its range.

    Batches are `(images, labels)`, `(images, labels, sample_weight)` or one dictionary. `fit`
    and `evaluate` report `loss` (the sum), `clean_loss`, `adversarial_loss`, the compiled
    metrics on clean images, and `adversarial_accuracy`.

    Example:
        >>> robust = AdversarialRegularization(model, multiplier=0.2, step_size=8 / 255)
        >>> robust.compile(metrics=["accuracy"])
        >>> robust.fit(images, labels, epochs=10)
        >>> robust.save("model.keras")  # the base model
    """

    @checked
    def __init__(
        self,
        base_model: keras.Model,
        *,
        multiplier: NonNegativeFloat = 0.2,
        step_size: StepSize = 8 / 255,
        grad_norm: GradNorm = "infinity",
        iterations: PositiveInt = 1,
        epsilon: StepSize | None = None,
        random_start: bool = False,
        clip: bool = True,
        label_key: str = "label",
        sample_weight_key: str = "sample_weight",
        seed: int = 0,
        name: str = "adversarial_regularization",
    ) -> None:
        super().__init__(name=name)
        if grad_norm == "l1" and (epsilon is not None or random_start):
            raise InputError(
                "grad_norm must be 'infinity' or 'l2' with epsilon or random_start, since there "
                "is no projection to an L1 ball; received 'l1'."
            )
        self.base_model = base_model
        self.multiplier = float(multiplier)
        self.random_start = random_start
        self.label_key = label_key
        self.sample_weight_key = sample_weight_key
        self.config = nsl.configs.make_adv_reg_config(
            multiplier=float(multiplier),
            adv_step_size=float(step_size),
            adv_grad_norm=grad_norm,
            clip_value_min=0.0 if clip else None,
            clip_value_max=1.0 if clip else None,
            pgd_iterations=int(iterations),
            pgd_epsilon=None if epsilon is None else float(epsilon),
        ).adv_neighbor_config
        self._seeds = keras.random.SeedGenerator(seed)
        self._clean_loss = keras.metrics.Mean(name="clean_loss")
        self._adversarial_loss = keras.metrics.Mean(name="adversarial_loss")
        self._adversarial_accuracy = keras.metrics.Mean(name="adversarial_accuracy")
        self._loss_function: Callable[..., tf.Tensor]
        self.built = True

    def compile(
        self, optimizer: Any = None, loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Chooses how to train: an optimizer, a loss, metrics.

        Args:
            optimizer: a Keras optimizer or its name; None is SGD with learning rate 0.01 and
                Nesterov momentum 0.9 (default None).
            loss: a Keras loss or its name; None is sparse categorical crossentropy on logits
                (default None).
            metrics: of clean images, a list of Keras metrics or names (default None).
            **kwargs: what else `keras.Model.compile` takes.

        Raises:
            InputError: the loss takes probabilities while the base model returns logits, or
                there is more than one loss.
        """
        if optimizer is None:
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = loss_for(loss, self.base_model)
        self._loss_function = loss
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Returns the base model's logits; dictionaries of NSL's form are unpacked."""
        if isinstance(inputs, Mapping):
            inputs, _, _ = self._unpack(inputs)
        return self.base_model(inputs, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        trackers = [self._clean_loss, self._adversarial_loss, self._adversarial_accuracy]
        return [*(metric for metric in super().metrics if metric not in trackers), *trackers]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = self._unpack(data)
        variables = self.base_model.trainable_weights
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self.base_model(images, training=True)
            loss = self.compute_loss(images, labels, logits, weights, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        image_gradient, *gradients = tape.gradient(scaled_loss, [images, *variables])

        adversarial = self._neighbours(images, labels, weights, image_gradient, training=True)
        with tf.GradientTape() as tape:
            adversarial_logits = self.base_model(adversarial, training=True)
            adversarial_loss = self._loss_function(labels, adversarial_logits, weights)
            scaled_loss = self.optimizer.scale_loss(self.multiplier * adversarial_loss)
        gradients = [
            _add(clean, extra)
            for clean, extra in zip(gradients, tape.gradient(scaled_loss, variables), strict=True)
        ]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._update_metrics(
            images, labels, weights, logits, loss, adversarial_logits, adversarial_loss
        )

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = self._unpack(data)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = self.base_model(images, training=False)
            loss = self.compute_loss(images, labels, logits, weights, training=False)
        adversarial = self._neighbours(
            images, labels, weights, tape.gradient(loss, images), training=False
        )
        adversarial_logits = self.base_model(adversarial, training=False)
        adversarial_loss = self._loss_function(labels, adversarial_logits, weights)
        return self._update_metrics(
            images, labels, weights, logits, loss, adversarial_logits, adversarial_loss
        )

    def predict_step(self, data: Any) -> tf.Tensor:
        images = data[0] if isinstance(data, tuple) else data
        return self(images, training=False)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the base model, with stock Keras layers; arguments as for `keras.Model.save`."""
        with_stock_layers(self.base_model).save(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Exports the base model."""
        self.base_model.export(*args, **kwargs)

    def _neighbours(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor | None,
        image_gradient: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        def logits_of(batch: tf.Tensor) -> tf.Tensor:
            return self.base_model(batch, training=training)

        def loss_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            return self._loss_function(labels, logits, weights)

        if self.random_start:
            return self._neighbours_from_random_start(images, labels, logits_of, loss_of)
        neighbours, _ = nsl.lib.gen_adv_neighbor(
            images,
            None,
            self.config,
            gradient_tape=_KnownGradient(image_gradient),
            pgd_model_fn=logits_of,
            pgd_loss_fn=loss_of,
            pgd_labels=labels,
            use_while_loop=True,
        )
        return tf.stop_gradient(neighbours)

    def _neighbours_from_random_start(
        self, images: tf.Tensor, labels: tf.Tensor, logits_of: Callable, loss_of: Callable
    ) -> tf.Tensor:
        # NSL draws its start from TensorFlow's global generator, which a resumed run cannot
        # restore; so the start is drawn here, and the steps are NSL's own.
        norm = self.config.adv_grad_norm
        radius = self.config.pgd_epsilon or self.config.adv_step_size
        perturbation = _random_in_ball(tf.shape(images), radius, norm, self._seeds)
        for _ in range(self.config.pgd_iterations):
            neighbours = self._clip(images + perturbation)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(neighbours)
                loss = loss_of(labels, logits_of(neighbours))
            gradient = tape.gradient(loss, neighbours)
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            direction = nsl.lib.maximize_within_unit_norm(gradient, norm)
            perturbation = neighbours - images + self.config.adv_step_size * direction
            if self.config.pgd_epsilon is not None:
                perturbation = nsl.lib.project_to_ball(perturbation, self.config.pgd_epsilon, norm)
        return tf.stop_gradient(self._clip(images + perturbation))

    def _clip(self, images: tf.Tensor) -> tf.Tensor:
        if self.config.clip_value_min is None:
            return images
        return tf.clip_by_value(images, self.config.clip_value_min, self.config.clip_value_max)

    def _unpack(self, data: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(images, Mapping):
            features = dict(images)
            labels = features.pop(self.label_key, labels)
            weights = features.pop(self.sample_weight_key, weights)
            if len(features) != 1 or labels is None:
                raise InputError(
                    f"a dictionary batch must hold '{self.label_key}' and one entry of images; "
                    f"received the keys {sorted(images)}."
                )
            (images,) = features.values()
        if not isinstance(images, keras.KerasTensor):
            images = tf.cast(images, tf.float32)
        return images, labels, weights

    def _update_metrics(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor | None,
        logits: tf.Tensor,
        loss: tf.Tensor,
        adversarial_logits: tf.Tensor,
        adversarial_loss: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        # Keras divides losses by the number of replicas; what is reported must not be.
        replicas = tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype)
        count = tf.shape(images)[0]
        self._loss_tracker.update_state(
            replicas * (loss + self.multiplier * adversarial_loss), sample_weight=count
        )
        self._clean_loss.update_state(replicas * loss, sample_weight=count)
        self._adversarial_loss.update_state(replicas * adversarial_loss, sample_weight=count)
        self._adversarial_accuracy.update_state(
            tf.cast(
                tf.equal(_class_ids(labels, logits), tf.argmax(adversarial_logits, -1)), tf.float32
            )
        )
        return self.compute_metrics(images, labels, logits, weights)


class _KnownGradient:
    """Stands where NSL expects a tape, and hands it the gradient that is already computed."""

    def __init__(self, gradient: tf.Tensor) -> None:
        self._gradient = gradient

    def gradient(self, loss: Any, sources: list[tf.Tensor]) -> list[tf.Tensor]:
        del loss, sources
        return [self._gradient]


def _class_ids(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    if labels.shape.rank == 2 and labels.shape[-1] == logits.shape[-1]:
        return tf.argmax(labels, -1)
    return tf.cast(tf.reshape(labels, [-1]), tf.int64)


def _add(first: tf.Tensor | None, second: tf.Tensor | None) -> tf.Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _random_in_ball(
    shape: tf.Tensor, radius: float, norm: Any, seeds: keras.random.SeedGenerator
) -> tf.Tensor:
    """A uniform draw from the L-infinity or L2 ball, float32 of `shape`, for each image."""
    seed = tf.cast(seeds.next(), tf.int32)
    if norm == nsl.configs.NormType.INFINITY:
        return tf.random.stateless_uniform(shape, seed, -radius, radius)
    direction = tf.random.stateless_normal(shape, seed)
    length = tf.sqrt(tf.reduce_sum(tf.square(direction), [1, 2, 3], keepdims=True))
    quantile = tf.random.stateless_uniform([shape[0], 1, 1, 1], seed + 1)
    exponent = 1.0 / tf.cast(tf.reduce_prod(shape[1:]), tf.float32)
    return direction / length * radius * quantile**exponent
