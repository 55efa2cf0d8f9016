"""Adversarial regularization of a Keras classifier, with the semantics of NSL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from robustcls._settings import NonNegativeFloat, PositiveInt, checked
from robustcls._validation import InputError
from robustcls.classifiers.ranges import InputRange
from robustcls.distribution.replicas import replica_count, share_of
from robustcls.training.adversarial.neighbours import Gradients, Neighbours, floats
from robustcls.training.batches import BatchForm
from robustcls.training.config import GradNorm, StepSize
from robustcls.training.trainer import Trainer


class AdversarialRegularization(Trainer):
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
        base_model: Keras model, images [N, H, W, C] to logits [N, classes], or to probabilities,
            or to one number for two classes. Vectors and several inputs or outputs work as in NSL.
        multiplier: weight of the adversarial loss (float >= 0, default 0.2).
        step_size: length of each step, for images in [0, 1]; above 1 only for "l2" and "l1"
            (float in (0, 1], default 8/255).
        grad_norm: "infinity" (sign of the gradient), "l2", or "l1" (largest component) ("infinity",
            "l2" or "l1", default "infinity").
        iterations: number of steps (int >= 1, default 1).
        epsilon: radius of the ball in `grad_norm` that the neighbour is projected to after each
            step; None does not project (float in (0, 1] or None, default None).
        random_start: begin at a random point of the ball of radius `epsilon`, which must be given
            (bool, default False).
        clip: keep neighbours in the range of the images, and refuse images outside of it. False
            equals NSL's default (bool, default True).
        input_range: (low, high), the pixels that the images have and `base_model` takes, for
            example (0, 255): `step_size` and `epsilon` are scaled to it. None is (0, 1) (default
            None).
        feature_mask: in [0, 1], what each step is multiplied by, broadcast over the batch; a
            dictionary for some of several inputs. None moves everything (default None).
        label_key: name of the labels in batches that are dictionaries, as NSL's are; one for each
            output, in their order (str or several, default "label").
        sample_weight_key: name of the weights in such batches (str, default "sample_weight").
        seed: seed of the random start (int, default 0).
        name: of the trainer (str, default "adversarial_regularization").

    Raises:
        InputError: an argument is out of its range, `random_start` comes without `epsilon`, or
            `base_model` is a trainer itself.

    Batches are `(images, labels)`, `(images, labels, sample_weight)` or one dictionary. `fit`
    and `evaluate` report `loss` (the sum), `clean_loss`, `adversarial_loss`, the compiled
    metrics on clean images, and `adversarial_accuracy` where the loss is one of a classifier.
    Penalties of weights count once, those of activations for images and neighbours, as in NSL.

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
        input_range: InputRange | None = None,
        feature_mask: Any = None,
        label_key: str | Sequence[str] = "label",
        sample_weight_key: str = "sample_weight",
        seed: int = 0,
        name: str = "adversarial_regularization",
    ) -> None:
        label_keys = (label_key,) if isinstance(label_key, str) else tuple(label_key)
        super().__init__(
            base_model,
            form=BatchForm(label_keys, sample_weight_key),
            input_range=input_range,
            bounded=clip,
            name=name,
        )
        low, high = self.input_range
        self.neighbours = Neighbours(
            step_size=step_size,
            grad_norm=grad_norm,
            iterations=iterations,
            epsilon=epsilon,
            random_start=random_start,
            feature_mask=feature_mask,
            clip_value_min=low if clip else None,
            clip_value_max=high if clip else None,
            width=high - low,
        )
        self.multiplier = float(multiplier)
        self._seeds = keras.random.SeedGenerator(seed)
        self._clean_loss = keras.metrics.Mean(name="clean_loss")
        self._adversarial_loss = keras.metrics.Mean(name="adversarial_loss")
        self._adversarial_accuracy = keras.metrics.Mean(name="adversarial_accuracy")
        self._has_accuracy = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        trackers = [self._clean_loss, self._adversarial_loss, self._adversarial_accuracy]
        others = [metric for metric in super().metrics if metric not in trackers]
        return [*others, *trackers[: 3 if self._has_accuracy else 2]]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, labels, weights = self._unpack(data)
        moving = floats(inputs)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(moving)
            outputs = self.base_model(inputs, training=True)
            loss = self.losses_of_outputs(labels, outputs, weights)
            penalty = self._penalty(self.base_model.losses)
            scaled_loss = self.optimizer.scale_loss(loss)
            scaled_penalty = None if penalty is None else self.optimizer.scale_loss(penalty)
        variables = self.base_model.trainable_weights
        # Penalties have no part in the neighbours.
        input_gradients, clean = tape.gradient(scaled_loss, (moving, variables))
        gradients = [clean]
        if penalty is not None:
            gradients.append(tape.gradient(scaled_penalty, variables))
        del tape

        neighbours = self._neighbours(inputs, labels, weights, input_gradients, training=True)
        with tf.GradientTape() as tape:
            adversarial_outputs = self.base_model(neighbours, training=True)
            adversarial_loss = self.losses_of_outputs(labels, adversarial_outputs, weights)
            extra = self._penalty(self._of_activations())
            total = self.multiplier * adversarial_loss
            scaled_loss = self.optimizer.scale_loss(total if extra is None else total + extra)
        gradients.append(tape.gradient(scaled_loss, variables))
        self.optimizer.apply_gradients(
            zip([_sum(parts) for parts in zip(*gradients, strict=True)], variables, strict=True)
        )
        clean_loss = loss if penalty is None else loss + penalty
        total = clean_loss + (total if extra is None else total + extra)
        self._update(labels, adversarial_outputs, total, clean_loss, adversarial_loss)
        return self.compute_metrics(inputs, labels, outputs, weights)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, labels, weights = self._unpack(data)
        outputs, loss, gradients = self._differentiated(inputs, labels, weights)
        penalty = self._penalty(self.base_model.losses)
        neighbours = self._neighbours(inputs, labels, weights, gradients, training=False)
        adversarial_outputs = self.base_model(neighbours, training=False)
        adversarial_loss = self.losses_of_outputs(labels, adversarial_outputs, weights)
        extra = self._penalty(self._of_activations())
        clean_loss = loss if penalty is None else loss + penalty
        total = clean_loss + self.multiplier * adversarial_loss
        total = total if extra is None else total + extra
        self._update(labels, adversarial_outputs, total, clean_loss, adversarial_loss)
        return self.compute_metrics(inputs, labels, outputs, weights)

    def perturb_on_batch(self, x: Any, y: Any = None, **settings: Any) -> Any:
        """Returns adversarial neighbours of a batch, the model in inference mode.

        Args:
            x: images [N, H, W, C], or a dictionary that holds the labels too.
            y: labels, where `x` does not hold them (default None).
            **settings: those of the trainer to change, by their names here (`step_size`,
                `grad_norm`, `iterations`, `epsilon`, `random_start`, `feature_mask`) or NSL's
                (`adv_step_size`, `adv_grad_norm`, `pgd_iterations`, `pgd_epsilon`,
                `clip_value_min`, `clip_value_max`).

        Returns:
            NumPy arrays in the form of `x`, labels and weights as they were.

        Raises:
            InputError: the trainer is not compiled, or there is no such setting.
        """
        if not self.compiled:
            raise InputError("the trainer must be compiled, so that it has a loss.")
        with self._plainly():
            inputs, labels, _ = self._unpack((x, y))
            _, _, gradients = self._differentiated(inputs, labels, None)
            changed = self.neighbours.changed(settings)
            moved = self._neighbours(inputs, labels, None, gradients, False, changed)
        arrays = keras.tree.map_structure(keras.ops.convert_to_numpy, moved)
        if not isinstance(x, Mapping):
            return arrays
        if not isinstance(arrays, Mapping):
            (name,) = self.batch_form.inputs(x)
            arrays = {name: arrays}
        return {**x, **arrays}

    def _differentiated(
        self, inputs: Any, labels: Any, weights: Any
    ) -> tuple[Any, tf.Tensor, Gradients]:
        """Outputs and loss in inference mode, and the loss's gradients for the inputs."""
        moving = floats(inputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(moving)
            outputs = self.base_model(inputs, training=False)
            loss = self.losses_of_outputs(labels, outputs, weights)
        return outputs, loss, tape.gradient(loss, moving)

    def _neighbours(
        self,
        inputs: Any,
        labels: Any,
        weights: Any,
        gradients: Gradients | None,
        training: bool,
        neighbours: Neighbours | None = None,
    ) -> Any:
        def loss_of(points: Any) -> tf.Tensor:
            outputs = self.base_model(points, training=training)
            return self.losses_of_outputs(labels, outputs, weights)

        return (neighbours or self.neighbours).of(inputs, gradients, loss_of, self._seeds.next)

    def _of_activations(self) -> list[tf.Tensor]:
        """The penalties of the last pass without those of the weights, which Keras puts last."""
        weights = self.base_model.trainable_weights
        losses = self.base_model.losses
        return losses[: len(losses) - sum(weight.regularizer is not None for weight in weights)]

    def _penalty(self, losses: list[tf.Tensor]) -> tf.Tensor | None:
        if not losses:
            return None
        return share_of(tf.add_n([tf.cast(loss, tf.float32) for loss in losses]))

    def _update(
        self,
        labels: Any,
        adversarial_outputs: Any,
        loss: tf.Tensor,
        clean_loss: tf.Tensor,
        adversarial_loss: tf.Tensor,
    ) -> None:
        count = tf.shape(keras.tree.flatten(labels)[0])[0]
        # Keras divides losses by the number of replicas; what is reported must not be.
        replicas = tf.cast(replica_count(), loss.dtype)
        self._loss_tracker.update_state(replicas * loss, sample_weight=count)
        self._clean_loss.update_state(replicas * clean_loss, sample_weight=count)
        self._adversarial_loss.update_state(replicas * adversarial_loss, sample_weight=count)
        agreement = self.losses_of_outputs.agreement(labels, adversarial_outputs)
        self._has_accuracy = agreement is not None
        if agreement is not None:
            self._adversarial_accuracy.update_state(agreement)


def _sum(gradients: Sequence[tf.Tensor | None]) -> tf.Tensor | None:
    found = [gradient for gradient in gradients if gradient is not None]
    return tf.add_n(found) if found else None
