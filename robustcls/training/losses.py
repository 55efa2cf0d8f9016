"""The loss of a batch from what `compile` is given, checked against what the model returns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.training.checks import require
from robustcls.training.outputs import Returned, returned

_losses = keras.losses
_BINARY = (_losses.BinaryCrossentropy, _losses.BinaryFocalCrossentropy)
_CATEGORICAL = (_losses.CategoricalCrossentropy, _losses.CategoricalFocalCrossentropy)
_SPARSE = (_losses.SparseCategoricalCrossentropy,)
_CLASSES = {
    _losses.binary_crossentropy: _losses.BinaryCrossentropy,
    _losses.binary_focal_crossentropy: _losses.BinaryFocalCrossentropy,
    _losses.categorical_crossentropy: _losses.CategoricalCrossentropy,
    _losses.categorical_focal_crossentropy: _losses.CategoricalFocalCrossentropy,
    _losses.sparse_categorical_crossentropy: _losses.SparseCategoricalCrossentropy,
}


class Losses:
    """The losses of all outputs, added up with their weights.

    Args:
        loss: a loss, its name, a function of (labels, outputs), or a list or dictionary of one
            for each output; None chooses what fits a classifier's output.
        weights: of the losses, a number or a list or dictionary as `loss` is.
        model: what they are of.

    Raises:
        InputError: a loss takes probabilities while `model` returns logits, or the reverse.
    """

    def __init__(self, loss: Any, weights: Any, model: keras.Model) -> None:
        self._given, self._weights, self._model = loss, weights, model
        if getattr(model, "outputs", None):
            self.check()

    def check(self) -> None:
        """Makes the losses for the model as it is built.

        Raises:
            InputError: they do not fit what it returns.
        """
        names = list(getattr(self._model, "output_names", None) or [])
        count = len(getattr(self._model, "outputs", None) or [0])
        if self._given is None and count > 1:
            raise InputError("loss must be given for a model of several outputs; received None.")
        given = _fitting(self._model) if self._given is None else self._given
        self.each = [_loss(one) for one in _listed(given, names)]
        if len(self.each) not in (1, count) and getattr(self._model, "outputs", None):
            raise InputError(_as_many("loss", count, len(self.each)))
        shares = 1.0 if self._weights is None else self._weights
        self._shares = [float(share) for share in _listed(shares, names)]
        if len(self.each) == 1:
            _refuse(self.each[0], self._model)

    @property
    def returned(self) -> Returned | None:
        """What the model returns, by its graph or else by what the loss takes."""
        kind = returned(self._model)
        if kind is not None or getattr(self.each[0], "from_logits", True):
            return kind
        return "sigmoid" if isinstance(self.each[0], _BINARY) else "softmax"

    def __call__(self, labels: Any, outputs: Any, sample_weight: Any = None) -> tf.Tensor:
        """Returns the sum, a float scalar.

        Args:
            labels: of each output.
            outputs: of the model.
            sample_weight: [N], or one for each output.

        Raises:
            InputError: the numbers of losses, weights, labels and outputs differ.
        """
        flat = keras.tree.flatten(outputs)
        if isinstance(labels, Mapping) and not isinstance(outputs, Mapping):
            names = getattr(self._model, "output_names", None) or list(labels)
            labels = [labels[name] for name in names]
        count, parts = len(flat), []
        for what, values in (
            ("loss", self.each),
            ("loss_weights", self._shares),
            ("labels", keras.tree.flatten(labels)),
            ("sample_weight", keras.tree.flatten(sample_weight)),
        ):
            shared = what != "labels" and len(values) == 1
            if len(values) != count and not shared:
                raise InputError(_as_many(what, count, len(values)))
            parts.append(values * count if shared else values)
        total = tf.zeros([])
        for output, loss, share, label, weight in zip(flat, *parts, strict=True):
            if loss is not None:
                _require_matching(loss, label, output)
                value = loss(label, _checked(loss, output), weight)
                total += tf.cast(share * value, tf.float32)
        return total

    def agreement(self, labels: Any, outputs: Any) -> tf.Tensor | None:
        """Returns whether the model is right, a float tensor to be averaged; None if undefined.

        Right is the largest output for losses on classes, and the right side of 1/2 (of 0 for
        logits) for binary ones.

        Args:
            labels: of one output.
            outputs: of the model.
        """
        if keras.tree.is_nested(outputs) or keras.tree.is_nested(labels) or len(self.each) != 1:
            return None
        loss = self.each[0]
        labels, outputs = tf.convert_to_tensor(labels), tf.convert_to_tensor(outputs)
        if isinstance(loss, _BINARY):
            positive = outputs > (0.0 if loss.from_logits else 0.5)
            labels = tf.reshape(tf.cast(labels, tf.float32), tf.shape(outputs))
            return tf.cast(tf.equal(labels > 0.5, positive), tf.float32)
        if outputs.shape[-1] in (None, 1):
            return None
        if isinstance(loss, _CATEGORICAL):
            labels = tf.argmax(labels, -1)
        elif not isinstance(loss, _SPARSE) and (
            not labels.dtype.is_integer or labels.shape.rank == outputs.shape.rank
        ):
            return None
        best = tf.argmax(outputs, -1)
        labels = tf.reshape(tf.cast(labels, best.dtype), tf.shape(best))
        return tf.cast(tf.equal(labels, best), tf.float32)


def no_distributions(outputs: tf.Tensor) -> tf.Tensor:
    """Returns outputs, float [N, classes], which must not all be distributions over the classes.

    The check is "probabilities".

    Args:
        outputs: of a model that should return logits.
    """
    values = tf.cast(outputs, tf.float32)
    unit = (values >= -1e-3) & (values <= 1 + 1e-3)
    whole = tf.abs(tf.reduce_sum(values, -1, keepdims=True) - 1) < 1e-3
    good = ~tf.reduce_all(unit & whole) | tf.equal(tf.size(values), 0)
    return require(good, "probabilities", [], outputs)


def no_probabilities() -> str:
    """The line of the check "probabilities"."""
    return (
        "loss must be computed from probabilities, since the model returns them; received one "
        "from logits. Did you mean from_logits=False?"
    )


def no_logits() -> str:
    """The line of the check "logits"."""
    return (
        "loss must be computed from logits, since the model's outputs are no probabilities. "
        "Did you mean from_logits=True?"
    )


class _FunctionLoss(keras.losses.Loss):
    """Gives a plain function of (labels, outputs) the reductions and weights of a Keras loss."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        # A lambda's own name is none for TensorFlow's scopes.
        name = getattr(function, "__name__", "")
        super().__init__(name=name if name.isidentifier() else "loss")
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)


def _as_many(what: str, count: int, received: int) -> str:
    return f"{what} must be one for each output of the model, {count}; received {received}."


def _loss(given: Any) -> keras.losses.Loss | None:
    loss = keras.losses.get(given)
    if loss is None:
        return None
    if loss in _CLASSES:
        return _CLASSES[loss]()
    if not isinstance(loss, keras.losses.Loss):
        return _FunctionLoss(loss)
    if loss.reduction in (None, "none"):
        # A step needs one number, as NSL has it.
        loss = copy.copy(loss)
        loss.reduction = "sum_over_batch_size"
    return loss


def _fitting(model: keras.Model) -> keras.losses.Loss:
    """Cross-entropy of what the model returns; of logits where its graph does not say."""
    kind, from_logits = returned(model), returned(model) in (None, "logits")
    outputs = getattr(model, "outputs", None)
    if kind == "sigmoid" or (outputs and (len(outputs[0].shape) == 1 or outputs[0].shape[-1] == 1)):
        return _losses.BinaryCrossentropy(from_logits=from_logits)
    return _losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def _listed(given: Any, names: list[str]) -> list[Any]:
    """What is given for each output, in the order of the outputs."""
    if isinstance(given, Mapping):
        if names and set(names) == set(given):
            return [given[name] for name in names]
        return keras.tree.flatten(dict(given))
    return list(given) if isinstance(given, list | tuple) else [given]


def _refuse(loss: Any, model: keras.Model) -> None:
    from_logits, kind = getattr(loss, "from_logits", None), returned(model)
    outputs = getattr(model, "outputs", None)
    if outputs and outputs[0].shape[-1] == 1 and isinstance(loss, _SPARSE + _CATEGORICAL):
        raise InputError(
            f"loss must be binary for a model of one output; received {loss.name}. Did you mean "
            f"BinaryCrossentropy(from_logits={kind == 'logits'})?"
        )
    if kind is None or from_logits is None or from_logits == (kind == "logits"):
        return
    wanted, ends = "probabilities", f"in {kind}"
    if kind == "logits":
        wanted, ends = "logits", "without softmax"
    raise InputError(
        f"loss must be computed from {wanted}, since {model.name} ends {ends}; received "
        f"{loss.name}. "
        f"Did you mean {type(loss).__name__}(from_logits={not from_logits})?"
    )


def _require_matching(loss: Any, labels: Any, outputs: Any) -> None:
    shape, width = tf.TensorShape(getattr(labels, "shape", None)), outputs.shape[-1]
    if width == 1 and isinstance(loss, _SPARSE + _CATEGORICAL):
        raise InputError(
            f"loss must be binary for a model of one output; received {loss.name}. Did you mean "
            "BinaryCrossentropy(from_logits=True), or False for a sigmoid?"
        )
    if not shape.rank or width in (None, 1):
        return
    ranked = shape.rank == len(outputs.shape)
    if ranked and shape[-1] is None:
        return
    rows = ranked and shape[-1] == width
    if isinstance(loss, _SPARSE) and rows:
        raise InputError(
            f"labels must be class ids [N] for {loss.name}; received shape {tuple(shape)}. "
            f"Did you mean loss=CategoricalCrossentropy(from_logits={loss.from_logits})?"
        )
    if isinstance(loss, _CATEGORICAL + _BINARY) and not rows:
        raise InputError(
            f"labels must be a row [N, {width}] for {loss.name}; received shape "
            f"{tuple(shape)}. Did you mean loss=SparseCategoricalCrossentropy(from_logits="
            f"{loss.from_logits})?"
        )


def _checked(loss: Any, outputs: tf.Tensor) -> tf.Tensor:
    """The outputs, which must be what the loss takes as far as their values tell."""
    if not isinstance(loss, _BINARY + _CATEGORICAL + _SPARSE):
        return outputs
    if loss.from_logits:
        return outputs if isinstance(loss, _BINARY) else no_distributions(outputs)
    values = tf.cast(outputs, tf.float32)
    unit = tf.reduce_all((values >= -1e-3) & (values <= 1 + 1e-3))
    # What is not finite has a line of its own.
    return require(unit | ~tf.reduce_all(tf.math.is_finite(values)), "logits", [], outputs)
