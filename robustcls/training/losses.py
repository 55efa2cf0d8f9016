"""One Keras loss from what `compile` is given, checked against the model's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from robustcls._validation import InputError


def loss_for(loss: Any, model: keras.Model) -> keras.losses.Loss:
    """Returns `loss` as a `keras.losses.Loss`.

    Args:
        loss: a loss, its name, or a function of (labels, outputs).
        model: the classifier whose output it takes.

    Raises:
        InputError: it takes probabilities while `model` returns logits, or is more than one.
    """
    if isinstance(loss, (list, tuple, Mapping)):
        raise InputError(f"loss must be one loss for one output; received {loss!r}.")
    loss = keras.losses.get(loss)
    if not isinstance(loss, keras.losses.Loss):
        loss = _FunctionLoss(loss)
    _refuse_probabilities_on_logits(loss, model)
    return loss


class _FunctionLoss(keras.losses.Loss):
    """Gives a plain function of (labels, outputs) the reductions and weights of a Keras loss."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(name=getattr(function, "__name__", "loss"))
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)


def _refuse_probabilities_on_logits(loss: keras.losses.Loss, model: keras.Model) -> None:
    layers = getattr(model, "layers", None) or [None]
    ends_in_logits = getattr(layers[-1], "activation", None) is keras.activations.linear
    known = {
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.categorical_crossentropy,
        keras.losses.binary_crossentropy,
    }
    on_probabilities = getattr(loss, "function", None) in known or (
        getattr(loss, "from_logits", None) is False
    )
    if ends_in_logits and on_probabilities:
        raise InputError(
            f"loss must be computed from logits, since {model.name} ends without softmax; "
            f"received {loss.name}. Did you mean SparseCategoricalCrossentropy(from_logits=True)?"
        )
