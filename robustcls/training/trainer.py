"""What all trainers share: a base model inside, batches of any form, one-line errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.classifiers.ranges import UNIT, InputRange, check_input_range, preprocessing
from robustcls.models.stock import parts_of_weights, with_stock_layers
from robustcls.training.batches import BatchForm, arranged
from robustcls.training.checks import out_of_range, plain_errors, within
from robustcls.training.losses import Losses, no_logits, no_probabilities
from robustcls.training.progress import quiet_tracing


class Trainer(keras.Model):
    """Trains `base_model` through `compile` and `fit`, which are Keras' own.

    The wrapper exists for training. `save` and `export` act on `base_model`, which is also what
    to call, evaluate for deployment and attack.

    Args:
        base_model: any Keras model, built or not.
        form: how batches are taken apart.
        input_range: (low, high), the pixels that the images have and the model takes; None is
            (0, 1), which a model with other first layers does not take.
        bounded: images are refused that are outside of the range.
        name: of the trainer.

    Raises:
        InputError: `base_model` is or holds a trainer, or no Keras model; the range is none, or
            not the one of the model's first layers.
    """

    def __init__(
        self,
        base_model: keras.Model,
        *,
        form: BatchForm,
        input_range: InputRange | None,
        bounded: bool,
        name: str,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(base_model, keras.Model):
            is_file = isinstance(base_model, str | os.PathLike)
            raise InputError(
                f"base_model must be a keras.Model; received {type(base_model).__name__}."
                + " Did you mean load_classifier(path)?" * is_file
            )
        for layer in (base_model, *base_model.layers):
            if isinstance(layer, Trainer):
                raise InputError(
                    f"base_model must be the model to train; received the trainer {layer.name}. "
                    "Did you mean its base_model?"
                )
        if bounded:
            preprocessing(base_model, input_range=input_range)
        self.base_model = base_model
        self.input_range = UNIT if input_range is None else check_input_range(input_range)
        self.bounded = bounded
        self.batch_form = form
        # Whether a subclassed model takes a dictionary of one input as it is.
        self._takes_dictionary: bool | None = None
        self.built = True

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Chooses how to train: an optimizer, a loss, metrics.

        Args:
            optimizer: a Keras optimizer or its name; None is SGD with learning rate 0.01 and
                Nesterov momentum 0.9 (default None).
            loss: a Keras loss, its name, or a list or dictionary of one for each output; None is
                the cross-entropy of what the model returns (default None).
            metrics: of clean images, as Keras takes them (default None).
            loss_weights: a number for each loss (default None).
            **kwargs: what else `keras.Model.compile` takes.

        Raises:
            InputError: the loss takes probabilities while the base model returns logits, or the
                reverse.
        """
        if optimizer is None:
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        self.losses_of_outputs = Losses(loss, loss_weights, self.base_model)
        names = getattr(self.base_model, "output_names", None) or []
        if len(names) > 1:
            # Metrics of several outputs would have one name.
            self.output_names = list(names)
        super().compile(optimizer=optimizer, metrics=metrics, **kwargs)
        self.loss = loss

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the base model's outputs; of dictionaries it takes what is for the model.

        Args:
            inputs: a tensor, a list of tensors or a dictionary.
            training: batch norm and dropout as in training (default None).
        """
        inputs = self._as_floats(self._arranged(self.batch_form.inputs(inputs)))
        return self.base_model(inputs, training=training)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`."""
        return self._in_plain_words(super().fit, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`."""
        return self._in_plain_words(super().evaluate, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        return self._in_plain_words(super().train_on_batch, *args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`."""
        return self._in_plain_words(super().test_on_batch, *args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`."""
        with self._traced():
            return super().predict(*args, **kwargs)

    def predict_step(self, data: Any) -> Any:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(inputs, training=False)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        if y is None:
            x, y, sample_weight = self.batch_form.unpack((x, y, sample_weight))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the base model, with stock Keras layers; arguments as for `keras.Model.save`."""
        with_stock_layers(self.base_model).save(*args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the base model's weights, and the state of this trainer's optimizer beside them.

        `base_model.load_weights` takes the file, and so does the trainer's, which goes on as it
        was: `keras.callbacks.BackupAndRestore` and `ModelCheckpoint` need both.

        Args:
            filepath: the file, which ends in `.weights.h5`.
            *args: as for `keras.Model.save_weights`.
            **kwargs: as for `keras.Model.save_weights`.
        """
        with self._lent_optimizer():
            self.base_model.save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Loads weights of the base model, whoever saved them; the optimizer's where they are.

        Args:
            filepath: a file that the base model or a trainer of it saved.
            *args: as for `keras.Model.load_weights`.
            **kwargs: as for `keras.Model.load_weights`.
        """
        parts = parts_of_weights(filepath)
        if "base_model" in parts and not hasattr(self.base_model, "base_model"):
            # As trainers of version 0.1 saved them.
            super().load_weights(filepath, *args, **kwargs)
            return
        with self._lent_optimizer() if "optimizer" in parts else nullcontext():
            self.base_model.load_weights(filepath, *args, **kwargs)

    @contextmanager
    def _lent_optimizer(self) -> Iterator[None]:
        """Gives the base model this trainer's optimizer, for its file of weights."""
        own = vars(self.base_model).get("optimizer")
        self.base_model.optimizer = getattr(self, "optimizer", None)
        try:
            yield
        finally:
            self.base_model.optimizer = own

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Exports the base model; arguments as for `keras.Model.export`."""
        self.base_model.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Refuses: a trainer is made anew around its base model.

        Raises:
            InputError: always.
        """
        raise InputError(
            "model must be the trainer's base_model to be saved, cloned, copied or pickled; "
            f"received the trainer {self.name}, whose save(path) saves its base_model."
        )

    def _in_plain_words(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        with self._plainly(), self._traced():
            return self.batch_form.call(method, *args, **kwargs)

    @contextmanager
    def _traced(self) -> Iterator[None]:
        try:
            with quiet_tracing():
                yield
        except Exception:
            # Half traced, they would fail on the next call too, however it is meant.
            self.train_function = self.test_function = self.predict_function = None
            raise

    def _plainly(self) -> AbstractContextManager[None]:
        return plain_errors(
            {
                "range": out_of_range(*self.input_range),
                "logits": no_logits,
                "probabilities": no_probabilities,
                "one_hot": lambda: (
                    "labels must be class ids [N] or one-hot rows [N, classes]; "
                    "received rows that do not add up to 1."
                ),
            }
        )

    def _unpack(self, data: Any) -> tuple[Any, Any, Any]:
        """Inputs as the base model is given them, labels and weights; the base model is built."""
        inputs, labels, weights = self.batch_form.unpack(data)
        inputs = self._as_floats(self._arranged(inputs))
        if self.bounded:
            inputs = keras.tree.map_structure(self._within, inputs)
        if not self.base_model.built:
            self.base_model(inputs, training=False)
        self.losses_of_outputs.check()
        return inputs, labels, weights

    def _as_floats(self, inputs: Any) -> Any:
        """Whole numbers as floats, of several inputs only images; floats in full precision."""
        dtype = "float64" if self.base_model.variable_dtype == "float64" else "float32"
        alone = len(keras.tree.flatten(inputs)) == 1

        def cast(tensor: Any) -> Any:
            if not isinstance(tensor, tf.Tensor | np.ndarray):
                return tensor
            kind = tf.as_dtype(tensor.dtype)
            whole = kind.is_integer and (alone or len(tensor.shape) == 4)
            return tf.cast(tensor, dtype) if kind.is_floating or whole else tensor

        return keras.tree.map_structure(cast, inputs)

    def _within(self, tensor: Any) -> Any:
        moving = isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating
        return within(tensor, *self.input_range) if moving else tensor

    def _arranged(self, inputs: Any) -> Any:
        """The inputs in the form that the base model takes."""
        if getattr(self.base_model, "inputs", None):
            return arranged(self.base_model, inputs)
        if not isinstance(inputs, Mapping):
            return inputs
        if len(inputs) > 1:
            return dict(inputs)
        (only,) = inputs.values()
        if self._takes_dictionary is None:
            self._takes_dictionary = not self._takes(self._as_floats(only), dict(inputs))
        return dict(inputs) if self._takes_dictionary else only

    def _takes(self, only: Any, dictionary: dict[str, Any]) -> bool:
        """Tries a tensor, then the dictionary that NSL's users write subclassed models for."""
        try:
            self.base_model(only, training=False)
        except InputError:
            raise
        except Exception as error:
            try:
                self.base_model(dictionary, training=False)
            except Exception:
                raise error from None
            return False
        return True


def base_model_of(model: keras.Model) -> keras.Model:
    """Returns the model inside a trainer; any other model itself.

    Args:
        model: a trainer or a model, which may have a `base_model` of its own.
    """
    return model.base_model if isinstance(model, Trainer) else model
