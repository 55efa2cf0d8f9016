"""The forms of a batch: (inputs, labels, weights), or one dictionary that holds all three."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError


@dataclass(frozen=True)
class BatchForm:
    """Takes batches apart.

    Args:
        label_keys: names of the labels in dictionaries, one for each output.
        sample_weight_key: name of the weights in dictionaries.
    """

    label_keys: tuple[str, ...] = ("label",)
    sample_weight_key: str = "sample_weight"

    def unpack(self, data: Any) -> tuple[Any, Any, Any]:
        """Returns inputs, labels and sample weights of a batch; None for what it lacks.

        Args:
            data: what Keras hands to a step.

        Raises:
            InputError: a dictionary without labels.
        """
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(inputs, Mapping):
            found = [inputs[key] for key in self.label_keys if key in inputs]
            if len(found) == len(self.label_keys):
                labels = found[0] if len(found) == 1 else tuple(found)
            weights = inputs.get(self.sample_weight_key, weights)
            if labels is None:
                names = " and ".join(f"'{key}'" for key in self.label_keys)
                raise InputError(
                    f"a dictionary batch must hold {names} beside the images; received the keys "
                    f"{sorted(inputs)}. Did you mean label_key=...?"
                )
        elif labels is None:
            raise InputError("batches must be (images, labels); received images alone.")
        return self.inputs(inputs), labels, weights

    def inputs(self, inputs: Any) -> Any:
        """Returns what of a batch's first part is for the model: no labels, no weights.

        Args:
            inputs: a tensor, a list of tensors or a dictionary.
        """
        if not isinstance(inputs, Mapping):
            return inputs
        beside = (*self.label_keys, self.sample_weight_key)
        return {key: value for key, value in inputs.items() if key not in beside}

    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls Keras' `fit` or a sibling with labels and weights taken out of dictionaries.

        So they are arguments of their own, as `class_weight`, `sample_weight` and distribution
        need them.

        Args:
            method: of a Keras model.
            *args: of the method.
            **kwargs: of the method.

        Raises:
            InputError: weights are given twice, or class weights for what cannot be weighted.
        """
        given = dict(inspect.signature(method).bind(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        parts = [given.pop(name, None) for name in ("x", "y", "sample_weight")]
        dataset = isinstance(parts[0], keras.utils.PyDataset)
        if dataset and given.get("class_weight") and isinstance(parts[0][0], Mapping):
            raise InputError(
                "class_weight must come with batches (images, labels); received a PyDataset of "
                "dictionaries."
            )
        names = ("x", "y", "sample_weight")
        given |= dict(zip(names, self._apart(*parts), strict=True))
        if given.get("validation_data") is not None:
            parts = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
            given["validation_data"] = self._apart(*parts)
        return method(**given)

    def _apart(self, x: Any, y: Any, sample_weight: Any) -> Sequence[Any]:
        if isinstance(x, Mapping) and y is None and self._has_labels(x):
            if sample_weight is not None and self.sample_weight_key in x:
                raise InputError(
                    "sample_weight must be given once; received an argument and "
                    f"'{self.sample_weight_key}' in the batch."
                )
            inputs, labels, weights = self.unpack((x, None, sample_weight))
            return inputs, labels, weights
        if isinstance(x, tf.data.Dataset) and self._has_labels(x.element_spec):
            return x.map(self._tuple), y, sample_weight
        if isinstance(x, types.GeneratorType):
            batches = (self._tuple(batch) if self._has_labels(batch) else batch for batch in x)
            return batches, y, sample_weight
        return x, y, sample_weight

    def _has_labels(self, batch: Any) -> bool:
        return isinstance(batch, Mapping) and all(key in batch for key in self.label_keys)

    def _tuple(self, batch: Any) -> tuple[Any, ...]:
        inputs, labels, weights = self.unpack(batch)
        return (inputs, labels) if weights is None else (inputs, labels, weights)


def named(inputs: Any) -> dict[Any, Any]:
    """Returns the tensors of a model's inputs by name or position.

    Args:
        inputs: a tensor, a list of tensors or a dictionary.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return dict(enumerate(inputs)) if isinstance(inputs, list | tuple) else {"": inputs}


def packed(tensors: Mapping[Any, Any], like: Any) -> Any:
    """Returns inputs of the form of `like`, the inverse of `named`.

    Args:
        tensors: by name or position.
        like: a tensor, a list of tensors or a dictionary.
    """
    if isinstance(like, Mapping):
        return dict(tensors)
    if isinstance(like, list | tuple):
        return [tensors[position] for position in range(len(like))]
    return tensors[""]


def arranged(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Returns those entries of a dictionary that a functional or sequential model takes.

    Args:
        model: of inputs that have names; others get the dictionary as it is.
        inputs: by name; a single one may have any.

    Raises:
        InputError: one is missing.
    """
    graph = getattr(model, "inputs", None)
    if not graph:
        return dict(inputs)
    structure: Any = getattr(model, "input", None)
    in_dictionary = isinstance(structure, Mapping)
    names = list(structure) if in_dictionary else [tensor.name for tensor in graph]
    if len(names) == len(inputs) == 1:
        inputs = dict(zip(names, inputs.values(), strict=True))
    if any(name not in inputs for name in names):
        raise InputError(
            f"a dictionary batch must hold the inputs of {model.name}, {', '.join(names)}; "
            f"received {', '.join(sorted(inputs))}."
        )
    if len(names) == 1 and not in_dictionary:
        return inputs[names[0]]
    return {name: inputs[name] for name in names}
