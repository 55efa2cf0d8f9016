"""Averages of the weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import keras
import tensorflow as tf

from robustcls._settings import Range, checked
from robustcls.training.trainer import base_model_of

AverageDecay = Annotated[float, Range(above=0, below=1)]
# Batches that batch-norm statistics are measured on: about ten count.
BATCHES, MOMENTUM = 30, 0.9


class WeightAverage(keras.callbacks.Callback):
    """Keeps an exponential moving average of the weights, which `finish` makes the model's.

    The decay is `min(decay, (1 + step) / (10 + step))`, so that short trainings do not average
    with their random beginning. Batch-norm statistics are not averaged, since they belong to
    other weights: `finish` measures them anew, with the averaged weights, on training batches.

    Args:
        decay: weight of the average so far at each step; .99 to .9999 (float in (0, 1),
            default 0.999).

    Raises:
        InputError: the decay is out of its range.
    """

    @checked
    def __init__(self, decay: AverageDecay = 0.999) -> None:
        super().__init__()
        self.decay = decay
        #: The averages, in the order of the base model's trainable weights.
        self.variables: list[tf.Variable] = []

    def prepare(self, model: keras.Model) -> None:
        """Makes the variables, before a checkpoint is restored or `fit` begins.

        Args:
            model: the base model or a trainer around it.
        """
        base_model = base_model_of(model)
        self._weights = [w for layer in base_model.layers for w in _own_weights(layer)]
        self.variables = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._steps = tf.Variable(0.0, trainable=False)
        self.variables.append(self._steps)
        self._update = tf.function(self._average, autograph=False)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.variables:
            self.prepare(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._update()

    def finish(self, batches: tf.data.Dataset) -> None:
        """Gives the base model the averages, and batch-norm statistics that fit them.

        Args:
            batches: of training, (images, labels); taken again and again when they are few.
        """
        model: Any = self.model
        base_model = base_model_of(model)
        for weight, average in zip(self._weights, self.variables, strict=False):
            weight.assign(average)
        kind = keras.layers.BatchNormalization
        normalizations = [layer for layer in base_model.layers if isinstance(layer, kind)]
        if not normalizations:
            return
        former = [layer.momentum for layer in normalizations]
        # As the objective sees the images, where it has a say.
        update: Callable[..., Any] = getattr(
            model, "update_statistics", lambda images, labels: base_model(images, training=True)
        )
        compiled = tf.function(update, autograph=False, reduce_retracing=True)
        for number, (images, labels) in enumerate(batches.repeat().take(BATCHES)):
            for layer in normalizations:
                layer.momentum = MOMENTUM if number else 0.0
            # The first batch leaves nothing of the statistics before.
            (compiled if number else update)(images, labels)
        for layer, momentum in zip(normalizations, former, strict=True):
            layer.momentum = momentum

    def _average(self) -> None:
        self._steps.assign_add(1.0)
        decay = tf.minimum(self.decay, (1.0 + self._steps) / (10.0 + self._steps))
        for average, weight in zip(self.variables, self._weights, strict=False):
            average.assign(decay * average + (1.0 - decay) * tf.convert_to_tensor(weight))


def _own_weights(layer: keras.layers.Layer) -> list[Any]:
    """All weights that training moves, those of frozen layers too: they may be opened later."""
    moving = ("moving_mean", "moving_variance", "seed_generator_state")
    return [weight for weight in layer.weights if weight.name not in moving]
