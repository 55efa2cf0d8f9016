"""A mix-in with which Keras 3's `fit`, `evaluate` and `predict` run on several workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.trainers.data_adapters import array_slicing, get_data_adapter

from robustcls._validation import InputError
from robustcls.distribution.batches import array_batches, distribute_batches, without_small
from robustcls.distribution.collectives import is_chief
from robustcls.distribution.fitting import Step, StopTogether, skip_no_rows, synchronized, with_last
from robustcls.distribution.replicas import worker_count
from robustcls.distribution.telling import telling

if TYPE_CHECKING:

    class _Trainer(keras.Model):
        test_function: Any
else:
    _Trainer = object

Model = TypeVar("Model", bound=keras.Model)


class MultiWorker(_Trainer):
    """Makes `keras.Model` train under `tf.distribute.MultiWorkerMirroredStrategy`.

    Put it before `keras.Model`, or give a model that exists the mix-in with `for_workers`. A
    model made in the scope of a strategy then takes each batch as one process would: every
    replica gets its rows, gradients are added up, logs are those of all replicas, and all workers
    stop together. Without a strategy nothing changes.

    `fit` takes arrays and `tf.data` datasets of whole batches, the same on every worker. Training
    batches that the number of replicas does not divide lose the rows that are left over, and the
    steps of an epoch are counted when their size is known (`drop_remainder=True`); evaluation
    loses none. Batch norm takes its moments over the rows of all replicas while `fit` runs.

    Example:
        >>> with tf.distribute.MultiWorkerMirroredStrategy().scope():
        ...     model = for_workers(keras.Model(inputs, outputs))
        ...     model.compile("sgd", "mse")
        >>> model.fit(images, targets, batch_size=64)
    """

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, each step taken by all replicas together.

        Args:
            x: arrays, or a dataset of whole batches, the same on every worker (default None).
            y: targets beside arrays (default None).
            batch_size: of all replicas; 32 when None (int >= 1 or None, default None).
            epochs: passes over the data (int, default 1).
            verbose: as for Keras; "auto" shows the chief's alone (default "auto").
            callbacks: as for Keras, on every worker; what writes is for the chief (default None).
            validation_split: share of the arrays to evaluate on (float in [0, 1), default 0.0).
            validation_data: as `x`, or a tuple of arrays (default None).
            shuffle: another order of the arrays each epoch, the same for all (bool, default True).
            class_weight: as for Keras (default None).
            sample_weight: beside arrays (default None).
            steps_per_epoch: batches of an epoch, all when None (int or None, default None).
            validation_steps: batches of an evaluation (int or None, default None).
            validation_batch_size: `batch_size` when None (int or None, default None).
            **kwargs: what else Keras' takes.
        """
        if not self._is_distributed():
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                **kwargs,
            )
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = array_slicing.train_validation_split(
                (x, y, sample_weight), validation_split=validation_split
            )
        batches = self._divide(
            (x, y, sample_weight), batch_size, steps_per_epoch, shuffle, class_weight, even=True
        )
        if validation_data is not None:
            parts = keras.utils.unpack_x_y_sample_weight(validation_data)
            size = validation_batch_size or batch_size
            validation_data = self._divide(parts, size, validation_steps, even=False)
        if self._distribute_strategy is None:
            raise InputError(
                f"model must be made in the scope of the strategy to train with; {self.name} was "
                "made before."
            )
        with self.distribute_strategy.scope(), synchronized(self):
            if verbose == "auto" and not is_chief():
                verbose = 0
            return super().fit(
                batches,
                epochs=epochs,
                verbose=verbose,
                callbacks=with_last(callbacks, StopTogether()),
                validation_data=validation_data,
                shuffle=False,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.evaluate`; every worker gets the figures of all rows.

        Args:
            x: arrays, or a dataset of whole batches, the same on every worker (default None).
            y: targets beside arrays (default None).
            batch_size: of all replicas; 32 when None (int >= 1 or None, default None).
            verbose: as for Keras; "auto" shows the chief's alone (default "auto").
            sample_weight: beside arrays (default None).
            steps: batches; None takes all (int or None, default None).
            **kwargs: what else Keras' takes.
        """
        if self._is_distributed():
            x = self._divide((x, y, sample_weight), batch_size, steps, even=False)
            y = sample_weight = batch_size = None
        with self.distribute_strategy.scope():
            if verbose == "auto" and not is_chief():
                verbose = 0
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                **kwargs,
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.predict`; every worker gets the predictions of all rows.

        Args:
            x: arrays, or a dataset of whole batches, the same on every worker.
            batch_size: of all replicas; 32 when None (int >= 1 or None, default None).
            verbose: as for Keras; "auto" shows the chief's alone (default "auto").
            steps: batches; None takes all (int or None, default None).
            **kwargs: what else Keras' takes.
        """
        if self._is_distributed():
            x = self._divide((x, None, None), batch_size, steps, even=False)
            batch_size = None
        with self.distribute_strategy.scope():
            if verbose == "auto" and not is_chief():
                verbose = 0
            return super().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, **kwargs)

    def make_test_function(self, force: bool = False) -> None:
        """Makes the compiled step of `evaluate`.

        Args:
            force: make it anew (bool, default False).
        """
        if self._is_distributed() and (self.test_function is None or force):
            self.test_function = self._make_function(skip_no_rows(self.test_step, self))
        else:
            super().make_test_function(force)

    def _is_distributed(self) -> bool:
        return int(self.distribute_strategy.num_replicas_in_sync) > 1

    def _divide(
        self,
        data: tuple[Any, Any, Any],
        batch_size: int | None,
        steps: int | None,
        shuffle: bool = False,
        class_weight: Any = None,
        *,
        even: bool,
    ) -> tf.distribute.DistributedDataset:
        x, y, sample_weight = data
        if isinstance(x, tf.distribute.DistributedDataset):
            return x
        replicas = self.distribute_strategy.num_replicas_in_sync if even else 1
        if not isinstance(x, tf.data.Dataset):
            x = array_batches(data, batch_size or 32, shuffle, divisor=replicas)
            y = sample_weight = None
        elif even:
            x = without_small(x, replicas)
        adapter = get_data_adapter(x, y, sample_weight, None, steps, False, class_weight)
        return distribute_batches(adapter.get_tf_dataset(), self.distribute_strategy, even=even)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Makes all variables before the first step, from the shapes of a replica's batch.

        Keras averages a batch over the replicas, which several workers cannot, and calls model and
        loss with it, where a trainer's own step may give them another.
        """
        if iterator is None or self._distribute_strategy is None:
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        spec = iterator._distributed_dataset.element_spec
        batch = tf.nest.map_structure(_of_one_replica, spec)
        with self.distribute_strategy.scope():
            own = type(self).test_step is not keras.Model.test_step
            if not self._is_built() and own:
                as_keras = tf.nest.map_structure(_as_keras, batch)
                backend.compute_output_spec(self.test_step, as_keras)
            elif not self._is_built():
                self._symbolic_build(data_batch=batch)
            if self.optimizer is not None and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    def _is_built(self) -> bool:
        parts = [layer for layer in self._flatten_layers() if layer is not self]
        parts += [self._compile_metrics, self._compile_loss]
        return all(part.built for part in parts if part is not None)

    def _make_function(self, step_function: Step) -> Callable[[Any], Any]:
        """Sends the logs of a step as one vector, whose mean over all replicas comes back.

        Keras averages each number by itself, and along an axis that it does not have.
        """
        make = super()._make_function
        with self.distribute_strategy.scope():
            if worker_count() == 1:
                return make(step_function)
            return telling(step_function, make, self)


def for_workers(model: Model) -> Model:
    """Gives a model that exists the mix-in `MultiWorker`, and returns it.

    It saves and loads as before: its class keeps its name, and goes on to be the one loaded. A
    model that was not made in the scope of a strategy is left alone.

    Args:
        model: of any kind, compiled or not.
    """
    kind = type(model)
    if model._distribute_strategy is not None and not isinstance(model, MultiWorker):
        names = ("__module__", "__qualname__", "__doc__")
        body = {name: getattr(kind, name) for name in names}
        model.__class__ = type(kind.__name__, (MultiWorker, kind), body)
    return model


def _of_one_replica(spec: Any) -> Any:
    return spec._value_specs[0] if hasattr(spec, "_value_specs") else spec


def _as_keras(spec: tf.TensorSpec) -> keras.KerasTensor:
    return keras.KerasTensor(spec.shape, spec.dtype.name)
