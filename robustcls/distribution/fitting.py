"""What `fit` of several replicas does around its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls.distribution.collectives import from_chief

Step = Callable[[Any], Mapping[str, tf.Tensor]]
"""A `train_step` or `test_step`: a replica's batch to the logs."""


@contextlib.contextmanager
def synchronized(model: Any) -> Iterator[None]:
    """Lets every batch norm take its moments over the rows of all replicas.

    Args:
        model: whose layers are meant, those of models in it too.
    """
    kind = keras.layers.BatchNormalization
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, kind)]
    former = [layer.synchronized for layer in layers]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer, value in zip(layers, former, strict=True):
            layer.synchronized = value


class StopTogether(keras.callbacks.Callback):
    """Ends the training of every worker when the chief's ends, and only then."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        (stop,) = from_chief([np.array(int(self.model.stop_training))])
        self.model.stop_training = bool(stop)


def with_last(callbacks: Any, last: keras.callbacks.Callback) -> Any:
    """Returns what `fit` is given as callbacks with one more at the end.

    Args:
        callbacks: a callback, several, a `CallbackList` or None.
        last: the one more.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(last)
        return callbacks
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return [*(callback for callback in given if callback is not None), last]


def skip_no_rows(step_function: Step, model: keras.Model) -> Step:
    """Returns the step of an evaluation for replicas that may have no rows of a batch.

    A mean of none is NaN, but for Keras' own losses; so those take the step with a row of zeros,
    which then counts for nothing.

    Args:
        step_function: a `test_step`.
        model: whose step it is.
    """

    def step(data: Any) -> Mapping[str, tf.Tensor]:
        missing = 1 - tf.minimum(tf.shape(tf.nest.flatten(data)[0])[0], 1)
        variables = [v.value for metric in model.metrics for v in metric.variables]
        before = [tf.identity(variable) for variable in variables]
        logs = step_function(tf.nest.map_structure(lambda x: _padded(x, missing), data))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(tf.where(missing > 0, value, variable))
        return logs

    return step


def _padded(x: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    paddings = tf.scatter_nd([[0, 1]], [missing], [x.shape.rank, 2])
    return tf.ensure_shape(tf.pad(x, paddings), [None, *x.shape[1:]])
